//! A visitor's request body as hyper gives it, which tells its connection when it has been read to its end.
//!
//! Only then is the end of the visitor's stream no break in the middle of a request (see [`io`](super::io)).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::io::Activity;

/// The body.
pub(crate) struct VisitorBody {
    incoming: Incoming,
    /// To be told of the end.
    activity: Option<Rc<Activity>>,
}

impl VisitorBody {
    /// A body on a stream of its own.
    pub(super) fn alone(incoming: Incoming) -> Self {
        Self {
            incoming,
            activity: None,
        }
    }

    /// A body on a connection that carries one request after the other.
    pub(super) fn on(incoming: Incoming, activity: Rc<Activity>) -> Self {
        Self {
            incoming,
            activity: Some(activity),
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
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let is_over = matches!(polled, Poll::Ready(None)) || self.incoming.is_end_stream();
        if is_over && let Some(activity) = self.activity.take() {
            activity.expect_body(false);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
