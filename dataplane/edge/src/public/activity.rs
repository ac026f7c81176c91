//! What a visitor's connection is waiting for, and when it has waited long enough.
//!
//! ```text
//! idle ──first byte──► head under way ──request──► busy ──last response ends──► idle
//!  └ idle timeout         └ head deadline           └ no limit here
//!  └ before that, for HTTP/1: time to doze, with nothing held but the stream
//! ```
//! A visitor in clear may end its side after its request and still wants the answer (RFC 9112 §9.6). HTTP/1
//! learns of the end only when the answer has been sent. A visitor that has gone altogether looks the same
//! until something is sent to it. So such a visitor must take bytes of the answer now and then, or the
//! connection ends.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use adit_driver::time::{Instant, Sleep, now, sleep};
use adit_proto::limits::HEAD_DEADLINE;

use super::interim::Interim;

/// Silence after which a connection dozes. To enter HTTP again costs some microseconds, only for visitors
/// that pause this long. Each dozing connection saves 20 KiB of buffers and state of HTTP.
const DOZE_AFTER: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 250 });

/// How long a visitor that has ended its side may get no byte of the answer. Most answers begin sooner.
/// Origins do not work for absent visitors much longer.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(10);

/// What a connection is waiting for, shared by its stream, its requests and its clock.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(super) in_flight: Cell<u32>,
    pub(super) idle_since: Cell<Instant>,
    /// When the head that is under way began.
    pub(super) head_since: Cell<Option<Instant>>,
    pub(super) had_request: Cell<bool>,
    /// The last request may still send a body, so the next byte need not begin another one.
    pub(super) may_have_body: Cell<bool>,
    /// Bodies begun, which is the number of the last one.
    pub(super) bodies: Cell<u32>,
    /// The stream has taken all that was written.
    pub(super) is_flushed: Cell<bool>,
    /// It took nothing for too long.
    pub(super) is_stalled: Cell<bool>,
    /// What comes is not looked at any more.
    pub(super) is_past_http: Cell<bool>,
    pub(super) heads: Heads,
    pub(super) half_close: HalfClose,
    pub(super) interim: Interim,
}

/// What is known of the visitor's end of its side.
#[derive(Debug, Default)]
pub(super) struct HalfClose {
    pub(super) is_allowed: Cell<bool>,
    /// Since when the visitor, who has ended its side, was sent nothing.
    pub(super) silent_since: Cell<Option<Instant>>,
    /// Waits for the end that is held back.
    pub(super) reader: RefCell<Option<Waker>>,
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
    /// Of a visitor that has ended its side, and perhaps gone.
    HalfClosed,
    /// Not an end: what serves the connection can be dropped until the next byte.
    Doze,
}

impl Activity {
    pub(super) fn new(heads: Heads) -> Self {
        Self {
            in_flight: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            head_since: Cell::new(None),
            had_request: Cell::new(false),
            may_have_body: Cell::new(false),
            bodies: Cell::new(0),
            is_flushed: Cell::new(true),
            is_stalled: Cell::new(false),
            is_past_http: Cell::new(false),
            heads,
            half_close: HalfClose::default(),
            interim: Interim::default(),
        }
    }

    pub(super) fn on_bytes(&self) {
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

    /// Whether an answer is still sent to a visitor that has ended its side.
    pub(super) fn allow_half_close(&self, is_allowed: bool) {
        self.half_close.is_allowed.set(is_allowed);
    }

    /// What comes is no HTTP any more: an upgrade has been answered, or the connection ends.
    pub(super) fn end_http(&self) {
        self.is_past_http.set(true);
    }

    /// What came was no head.
    pub(super) fn forget_head(&self) {
        self.head_since.set(None);
    }

    /// Everything that was answered has been sent.
    pub(super) fn is_all_sent(&self) -> bool {
        self.in_flight.get() == 0 && self.is_flushed.get()
    }

    /// Has the reader called again when a request has been answered or bytes have been sent.
    pub(super) fn wait_for_answer(&self, cx: &Context<'_>) {
        self.half_close.reader.replace(Some(cx.waker().clone()));
    }

    /// The visitor has ended its side; whether that is to be held back until the answer has been sent.
    pub(super) fn holds_end_back(&self, cx: &Context<'_>) -> bool {
        let is_busy = self.in_flight.get() > 0 || !self.is_flushed.get();
        if !self.half_close.is_allowed.get() || !is_busy || self.may_have_body.get() {
            return false;
        }
        if self.half_close.silent_since.get().is_none() {
            self.half_close.silent_since.set(Some(Instant::now()));
        }
        self.half_close.reader.replace(Some(cx.waker().clone()));
        true
    }

    /// Bytes went to the visitor.
    pub(super) fn on_sent(&self) {
        if self.half_close.silent_since.get().is_some() {
            self.half_close.silent_since.set(Some(Instant::now()));
        }
    }

    /// Nothing may hold the end back any more.
    pub(super) fn tell_reader(&self) {
        if let Some(reader) = self.half_close.reader.take() {
            reader.wake();
        }
    }

    /// Notes whether the request that begins sends a body; the number is for [`Self::end_body`].
    pub(super) fn begin_body(&self, is_expected: bool) -> u32 {
        self.may_have_body.set(is_expected);
        self.bodies.set(self.bodies.get().wrapping_add(1));
        self.bodies.get()
    }

    /// The body of that number has come to its end. Its reader may see that when the next has begun.
    pub(super) fn end_body(&self, body: u32) {
        if self.bodies.get() == body {
            self.may_have_body.set(false);
        }
    }

    /// Whether more of a body may come.
    pub(super) fn expects_body(&self) -> bool {
        self.may_have_body.get()
    }

    /// When an idle connection has been idle for long enough.
    pub(super) fn idle_until(&self, idle_timeout: Duration) -> Instant {
        self.idle_since.get() + idle_timeout
    }

    /// When this connection has waited long enough, and for what; `None` while it works.
    pub(super) fn deadline(&self, idle_timeout: Duration) -> Option<(Instant, Expired)> {
        if self.in_flight.get() > 0 {
            let silent_since = self.half_close.silent_since.get();
            return silent_since.map(|since| (since + HALF_CLOSED_MAX, Expired::HalfClosed));
        }
        if let Some(since) = self.head_since.get() {
            return Some((since + HEAD_DEADLINE, Expired::Head));
        }
        // Between two requests of HTTP/1 only: frames of HTTP/2 have a state beyond their requests.
        let can_doze = self.heads == Heads::All && !self.may_have_body.get() && self.is_flushed.get();
        if can_doze && DOZE_AFTER < idle_timeout {
            return Some((self.idle_until(DOZE_AFTER), Expired::Doze));
        }
        Some((self.idle_until(idle_timeout), Expired::Idle))
    }
}

/// One request under way.
pub(crate) struct InFlight(Rc<Activity>);

impl InFlight {
    /// Whether the visitor has taken nothing for too long.
    pub(crate) fn is_stalled(&self) -> bool {
        self.0.is_stalled.get()
    }

    /// The body of that number has come to its end.
    pub(super) fn end_body(&self, body: u32) {
        self.0.end_body(body);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
        self.0.tell_reader();
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
            // Only ever moved forward here: a timer per request would cost more than one that fires too
            // early.
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
