//! A visitor's byte stream as HTTP sees it: with bytes read ahead put back, and a clock on its silence.
//!
//! ```text
//! idle ──first byte──► head under way ──request──► busy ──last response ends──► idle
//!  └ idle timeout         └ head deadline           └ no limit here
//! ```

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_driver::time::{Instant, Sleep, now, sleep};
use adit_proto::limits::HEAD_DEADLINE;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection is waiting for, shared by its stream, its requests and its clock.
#[derive(Debug)]
pub(crate) struct Activity {
    in_flight: Cell<u32>,
    idle_since: Cell<Instant>,
    /// When the head that is under way began.
    head_since: Cell<Option<Instant>>,
    had_request: Cell<bool>,
    heads: Heads,
}

/// Which heads have a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heads {
    /// HTTP/1: bytes between requests are the beginning of the next one.
    All,
    /// HTTP/2: frames between requests are no heads.
    First,
}

/// Which time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    Idle,
    Head,
}

impl Activity {
    fn on_bytes(&self) {
        let is_timed = self.heads == Heads::All || !self.had_request.get();
        if is_timed && self.in_flight.get() == 0 && self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
    }

    /// A request head is complete; the guard lives as long as its response.
    pub(super) fn request(self: &Rc<Self>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.had_request.set(true);
        self.head_since.set(None);
        InFlight(self.clone())
    }

    /// When this connection has waited long enough, and for what; `None` while it works.
    fn deadline(&self, idle_timeout: Duration) -> Option<(Instant, Expired)> {
        if self.in_flight.get() > 0 {
            return None;
        }
        match self.head_since.get() {
            Some(since) => Some((since + HEAD_DEADLINE, Expired::Head)),
            None => Some((self.idle_since.get() + idle_timeout, Expired::Idle)),
        }
    }
}

/// One request under way.
pub(crate) struct InFlight(Rc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
    }
}

/// Tells when a connection has been silent for too long. Polled after the connection itself.
pub(super) struct Clock {
    activity: Rc<Activity>,
    idle_timeout: Duration,
    sleep: Sleep,
}

impl Clock {
    pub(super) fn new(activity: Rc<Activity>, idle_timeout: Duration) -> Self {
        Self {
            activity,
            idle_timeout,
            sleep: sleep(idle_timeout),
        }
    }

    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            let deadline = self.activity.deadline(self.idle_timeout);
            // Only ever moved forward here: a timer per request would cost more than one that fires too early.
            if let Some((at, _)) = deadline
                && at < self.sleep.deadline()
            {
                self.sleep.reset(at);
            }
            ready!(Pin::new(&mut self.sleep).poll(cx));
            match deadline {
                Some((at, expired)) if at <= now() => return Poll::Ready(expired),
                Some((at, _)) => self.sleep.reset(at),
                // Looked at again later: the end of a request does not wake this clock.
                None => self.sleep.reset(now() + self.idle_timeout),
            }
        }
    }
}

/// The stream, with what was read ahead.
pub(super) struct PublicIo<S> {
    stream: S,
    ahead: Bytes,
    activity: Rc<Activity>,
}

impl<S> PublicIo<S> {
    pub(super) fn new(stream: S, ahead: Bytes, heads: Heads) -> Self {
        let activity = Activity {
            in_flight: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            head_since: Cell::new(None),
            had_request: Cell::new(false),
            heads,
        };
        Self {
            stream,
            ahead,
            activity: Rc::new(activity),
        }
    }

    pub(super) fn activity(&self) -> Rc<Activity> {
        self.activity.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PublicIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead.split_to(count));
            this.activity.on_bytes();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            this.activity.on_bytes();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PublicIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
