//! The body of an answer, gathered while its reader is busy.
//!
//! HTTP/2's windows count payload only, so the library bounds how many small frames may lie unread on a connection, and
//! closes the connection, with all exchanges on it, when there are more. A visitor who does not read a stream of
//! small events must not cost the others that. So what arrives while he is busy is taken from the library and
//! small pieces are joined; the connector is given credit only when he has taken them, which bounds them by the
//! stream's window.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

/// Pieces below this are copied together: a piece of its own costs as much.
const SMALL_BYTES: usize = 1024;

/// A piece of joined ones is not made larger than this, so that it moves on in time.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// A body and what has arrived of it.
pub(super) struct Gathered {
    body: RecvStream,
    arrived: VecDeque<Bytes>,
    /// Small pieces after those.
    joined: BytesMut,
    /// How the body ended, after all these.
    end: Option<Result<(), h2::Error>>,
}

impl Gathered {
    pub(super) fn new(body: RecvStream) -> Self {
        Self {
            body,
            arrived: VecDeque::new(),
            joined: BytesMut::new(),
            end: None,
        }
    }

    /// The next bytes; `None` at the end of the body. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, h2::Error>> {
        if let Some(bytes) = self.take_arrived() {
            return Some(Ok(bytes));
        }
        match self.end.take() {
            None => self.body.data().await,
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
        let _ = self.body.flow_control().release_capacity(size);
    }

    /// What comes after the body.
    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        self.body.trailers().await
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.end.is_none() {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => self.gather(data),
                Some(Err(error)) => self.end = Some(Err(error)),
                None => self.end = Some(Ok(())),
            }
        }
        Poll::Ready(())
    }

    fn gather(&mut self, data: Bytes) {
        if data.len() < SMALL_BYTES {
            self.joined.extend_from_slice(&data);
            if self.joined.len() < JOINED_BYTES_MAX {
                return;
            }
        }
        if !self.joined.is_empty() {
            self.arrived.push_back(self.joined.split().freeze());
        }
        if data.len() >= SMALL_BYTES {
            self.arrived.push_back(data);
        }
    }

    fn take_arrived(&mut self) -> Option<Bytes> {
        self.arrived
            .pop_front()
            .or_else(|| (!self.joined.is_empty()).then(|| self.joined.split().freeze()))
    }
}
