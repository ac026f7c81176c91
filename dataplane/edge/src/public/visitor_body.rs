//! A visitor's request body as hyper gives it, which tells its connection when it has been read to its end.
//!
//! Only then is the end of the visitor's stream no break in the middle of a request (see [`io`](super::io)).
//!
//! Over HTTP/2, what of a body nobody wanted is read on for a moment after the answer (see [`Unread`]).

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use adit_driver::time::timeout;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::io::Activity;

/// Time for a visitor to see an answer that came before the end of its request, and to stop by itself.
/// Without it the reset comes with the answer, and some (curl 7.88) then throw the answer away.
const UNREAD_TIME: Duration = Duration::from_secs(2);

/// Bytes thrown away meanwhile: what a visitor has under way, and as much again.
const UNREAD_BYTES_MAX: usize = 1 << 20;

/// The body.
pub(crate) struct VisitorBody {
    /// Until it is dropped.
    incoming: Option<Incoming>,
    end: End,
}

/// Who is to be told of the end.
enum End {
    Nobody,
    Connection(Rc<Activity>),
    Stream(Rc<Unread>),
}

/// What is left of the body of a stream, for whoever ends the stream.
#[derive(Debug, Default)]
pub(super) struct Unread(RefCell<Rest>);

#[derive(Debug, Default)]
enum Rest {
    /// Somebody reads.
    #[default]
    Wanted,
    /// Somebody reads, and somebody waits.
    Awaited(Waker),
    Left(Incoming),
    Ended,
}

impl Unread {
    fn put(&self, rest: Rest) {
        if let Rest::Awaited(waker) = self.0.replace(rest) {
            waker.wake();
        }
    }

    /// After the answer, reads and drops what comes until the visitor has ended the request or has had time
    /// to.
    pub(super) async fn throw_away(&self) {
        let mut left = UNREAD_BYTES_MAX;
        let reading = poll_fn(|cx| {
            let mut rest = self.0.borrow_mut();
            let Rest::Left(incoming) = &mut *rest else {
                if !matches!(*rest, Rest::Ended) {
                    *rest = Rest::Awaited(cx.waker().clone());
                    return Poll::Pending;
                }
                return Poll::Ready(());
            };
            while left > 0 {
                let Some(Ok(frame)) = ready!(Pin::new(&mut *incoming).poll_frame(cx)) else {
                    return Poll::Ready(());
                };
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            }
            Poll::Ready(())
        });
        // Either way the rest is dropped next, which ends the stream.
        let _ = timeout(UNREAD_TIME, reading).await;
        self.put(Rest::Ended);
    }
}

impl VisitorBody {
    /// A body on a stream of its own.
    pub(super) fn alone(incoming: Incoming, unread: Option<Rc<Unread>>) -> Self {
        Self {
            incoming: Some(incoming),
            end: unread.map_or(End::Nobody, End::Stream),
        }
    }

    /// A body on a connection that carries one request after the other.
    pub(super) fn on(incoming: Incoming, activity: Rc<Activity>) -> Self {
        Self {
            incoming: Some(incoming),
            end: End::Connection(activity),
        }
    }
}

impl Body for VisitorBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        let is_over = matches!(polled, Poll::Ready(None)) || incoming.is_end_stream();
        match &self.end {
            End::Connection(activity) if is_over => activity.expect_body(false),
            // Broken off by the visitor, or by us for its errors: there is nothing more to read.
            End::Stream(unread) if is_over || matches!(polled, Poll::Ready(Some(Err(_)))) => {
                unread.put(Rest::Ended);
            }
            End::Nobody | End::Connection(_) | End::Stream(_) => return polled,
        }
        self.end = End::Nobody;
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for VisitorBody {
    fn drop(&mut self) {
        if let (End::Stream(unread), Some(incoming)) = (&self.end, self.incoming.take()) {
            unread.put(Rest::Left(incoming));
        }
    }
}
