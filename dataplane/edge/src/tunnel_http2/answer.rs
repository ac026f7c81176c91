//! The body of an answer, which goes on arriving while its reader is busy.
//!
//! HTTP/2's windows count payload only. So the library bounds how many small frames may lie unread on a
//! connection, and closes the connection with all its exchanges when there are more. A visitor who does not
//! read a stream of small events must not cost the others that. So what arrives while he is busy is taken
//! from the library and [gathered]. The connector is given credit only when he has it, so the stream's window
//! bounds it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use adit_driver::gathered::Gathered;
use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

/// A body and what has arrived of it.
pub(super) struct AnswerBody {
    stream: RecvStream,
    arrived: Gathered,
    /// How the body ended, after what has arrived.
    end: Option<Result<(), h2::Error>>,
}

impl AnswerBody {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            arrived: Gathered::default(),
            end: None,
        }
    }

    /// The next bytes; `None` at the end of the body. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, h2::Error>> {
        if let Some(bytes) = self.arrived.pop() {
            return Some(Ok(bytes));
        }
        match self.end.take() {
            None => self.stream.data().await,
            Some(end) => end.err().map(Err),
        }
    }

    /// Runs `work` to its end and takes meanwhile what arrives.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let done = work.as_mut().poll(cx);
            if done.is_pending() {
                // Pending as well then, or the end of the body.
                let _ = self.poll_gather(cx);
            }
            done
        })
        .await
    }

    /// Lets the connector send as many bytes again.
    pub(super) fn release(&mut self, size: usize) {
        // Fails for more than was received only.
        let _ = self.stream.flow_control().release_capacity(size);
    }

    /// What comes after the body.
    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        self.stream.trailers().await
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.end.is_none() {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => self.arrived.push(data),
                Some(Err(error)) => self.end = Some(Err(error)),
                None => self.end = Some(Ok(())),
            }
        }
        Poll::Ready(())
    }
}
