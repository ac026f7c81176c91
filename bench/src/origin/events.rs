//! A body of server-sent events, one each so often, each telling when it was made.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The body; it ends when its reader goes away.
#[derive(Debug)]
pub(crate) struct Events {
    timer: Interval,
}

impl Events {
    /// An event at once and then every `pause`.
    pub(crate) fn new(pause: Duration) -> Self {
        let mut timer = interval(pause);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { timer }
    }
}

/// Microseconds since the epoch: both ends of a measured stream run on one machine.
pub(crate) fn stamp() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.timer.poll_tick(context));
        let event = format!("data: {}\n\n", stamp());
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))))
    }
}
