//! A visitor's request body as hyper gives it, which tells its connection when it has been read to its end.
//!
//! Only then is the end of the visitor's stream no break in the middle of a request (see
//! [`activity`](super::activity)).
//!
//! What of a body nobody wanted is read on for a moment: over HTTP/2 after the answer (see [`Unread`]), over
//! HTTP/1 by the connection (see [`Remainder`]).

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use adit_driver::time::timeout;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::activity::Activity;
use super::remainder::Remainder;

/// Time for a visitor to see an answer that came before the end of its request, and to stop by itself.
/// Without it the reset comes with the answer, and some (curl 7.88) then throw the answer away.
pub(super) const UNREAD_TIME: Duration = Duration::from_secs(2);

/// Bytes thrown away meanwhile: what a visitor has under way, and as much again.
pub(super) const UNREAD_BYTES_MAX: usize = 1 << 20;

/// The body.
pub(crate) struct VisitorBody {
    /// Until it is dropped.
    incoming: Option<Incoming>,
    end: End,
}

/// Who is to be told of the end.
enum End {
    Nobody,
    Connection(EndInOrder),
    Stream(Rc<Unread>),
}

/// Who is to be told on a connection that carries one request after the other.
pub(super) struct EndInOrder {
    /// Among the bodies of the connection.
    number: u32,
    activity: Rc<Activity>,
    remainder: Rc<Remainder>,
    /// Nobody has asked for the body yet, and the visitor may wait for that.
    is_awaited: bool,
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
    pub(super) fn on(incoming: Incoming, end: Option<EndInOrder>) -> Self {
        Self {
            incoming: Some(incoming),
            end: end.map_or(End::Nobody, End::Connection),
        }
    }
}

impl EndInOrder {
    /// If the visitor waits for `100 Continue` (`is_awaited`), the first read of the body asks for it.
    pub(super) fn new(
        number: u32,
        activity: &Rc<Activity>,
        remainder: &Rc<Remainder>,
        is_awaited: bool,
    ) -> Self {
        Self {
            number,
            activity: activity.clone(),
            remainder: remainder.clone(),
            is_awaited,
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
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        let is_over = matches!(polled, Poll::Ready(None)) || incoming.is_end_stream();
        match &mut this.end {
            End::Connection(end) if is_over => end.activity.end_body(end.number),
            End::Connection(end) => {
                end.is_awaited = false;
                return polled;
            }
            // Broken off by the visitor, or by us for its errors: there is nothing more to read.
            End::Stream(unread) if is_over || matches!(polled, Poll::Ready(Some(Err(_)))) => {
                unread.put(Rest::Ended);
            }
            End::Nobody | End::Stream(_) => return polled,
        }
        this.end = End::Nobody;
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
        match (&self.end, self.incoming.take()) {
            (End::Stream(unread), Some(incoming)) => unread.put(Rest::Left(incoming)),
            (End::Connection(end), Some(incoming)) => {
                end.remainder
                    .put(incoming, end.number, &end.activity, end.is_awaited);
            }
            (End::Nobody, _) | (_, None) => {}
        }
    }
}
