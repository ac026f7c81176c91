//! A visitor's byte stream as HTTP sees it: with bytes read ahead put back, and a clock on its silence.
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

mod requests;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use adit_driver::patience::Patience;
use adit_driver::time::{Instant, Sleep, now, sleep};
use adit_proto::limits::HEAD_DEADLINE;
use adit_proto::request_head::Fault;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::calm::{Calm, Ended, Flooded, poll_hushed};
use super::heads::Heads as HeadGate;
use crate::metrics::CoreMetrics;

/// Silence after which a connection dozes. To enter HTTP again costs some microseconds, only for visitors
/// that pause this long. Each dozing connection saves 20 KiB of buffers and state of HTTP.
const DOZE_AFTER: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 250 });

/// How long a visitor that has ended its side may get no byte of the answer. Most answers begin sooner.
/// Origins do not work for absent visitors much longer.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(10);

/// Bytes taken from a dozing visitor's stream to wake it.
const WAKING_BYTES: usize = 64;

/// What a connection is waiting for, shared by its stream, its requests and its clock.
#[derive(Debug)]
pub(crate) struct Activity {
    in_flight: Cell<u32>,
    idle_since: Cell<Instant>,
    /// When the head that is under way began.
    head_since: Cell<Option<Instant>>,
    had_request: Cell<bool>,
    /// The last request may still send a body, so the next byte need not begin another one.
    may_have_body: Cell<bool>,
    /// Bodies begun, which is the number of the last one.
    bodies: Cell<u32>,
    /// The stream has taken all that was written.
    is_flushed: Cell<bool>,
    /// It took nothing for too long.
    is_stalled: Cell<bool>,
    /// What comes is not looked at any more.
    is_past_http: Cell<bool>,
    heads: Heads,
    half_close: HalfClose,
}

/// What is known of the visitor's end of its side.
#[derive(Debug, Default)]
struct HalfClose {
    is_allowed: Cell<bool>,
    /// Since when the visitor, who has ended its side, was sent nothing.
    silent_since: Cell<Option<Instant>>,
    /// Waits for the end that is held back.
    reader: RefCell<Option<Waker>>,
}

/// Which heads have a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heads {
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

    /// Whether an answer is still sent to a visitor that has ended its side.
    pub(super) fn allow_half_close(&self, is_allowed: bool) {
        self.half_close.is_allowed.set(is_allowed);
    }

    /// What comes is no HTTP any more: an upgrade has been answered, or the connection ends.
    pub(super) fn end_http(&self) {
        self.is_past_http.set(true);
    }

    /// What came was no head.
    fn forget_head(&self) {
        self.head_since.set(None);
    }

    /// Everything that was answered has been sent.
    fn is_all_sent(&self) -> bool {
        self.in_flight.get() == 0 && self.is_flushed.get()
    }

    /// Has the reader called again when a request has been answered or bytes have been sent.
    fn wait_for_answer(&self, cx: &Context<'_>) {
        self.half_close.reader.replace(Some(cx.waker().clone()));
    }

    /// The visitor has ended its side; whether that is to be held back until the answer has been sent.
    fn holds_end_back(&self, cx: &Context<'_>) -> bool {
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
    fn on_sent(&self) {
        if self.half_close.silent_since.get().is_some() {
            self.half_close.silent_since.set(Some(Instant::now()));
        }
    }

    /// Nothing may hold the end back any more.
    fn tell_reader(&self) {
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
    fn deadline(&self, idle_timeout: Duration) -> Option<(Instant, Expired)> {
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

/// The stream, with what was read ahead.
pub(super) struct PublicIo<S> {
    stream: S,
    ahead: BytesMut,
    /// For HTTP/1.
    gate: HeadGate,
    activity: Rc<Activity>,
    patience: Patience,
    /// For HTTP/2.
    calm: Option<Box<Calm>>,
}

impl<S> PublicIo<S> {
    /// For HTTP/1. A visitor must take something of what it is sent within `send_timeout`.
    pub(super) fn http1(stream: S, ahead: BytesMut, send_timeout: Duration) -> Self {
        Self::new(stream, ahead, Heads::All, send_timeout)
    }

    /// The same for HTTP/2, whose breaks are counted in `metrics`.
    pub(super) fn http2(
        stream: S,
        ahead: BytesMut,
        send_timeout: Duration,
        metrics: Arc<CoreMetrics>,
    ) -> Self {
        let mut io = Self::new(stream, ahead, Heads::First, send_timeout);
        io.calm = Some(Box::new(Calm::new(metrics)));
        io
    }

    fn new(stream: S, ahead: BytesMut, heads: Heads, send_timeout: Duration) -> Self {
        let activity = Activity {
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
        };
        Self {
            stream,
            ahead,
            gate: HeadGate::new(),
            activity: Rc::new(activity),
            patience: Patience::new(send_timeout),
            calm: None,
        }
    }

    /// Waits for what was `taken`, but not for ever.
    fn poll_taken<T>(&mut self, cx: &mut Context<'_>, taken: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if taken.is_ready() {
            self.patience.renew();
            return taken;
        }
        let stalled = ready!(self.patience.poll_end(cx));
        self.activity.is_stalled.set(true);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, stalled)))
    }

    pub(super) fn activity(&self) -> Rc<Activity> {
        self.activity.clone()
    }

    /// A flood has ended the connection: nothing more is sent.
    fn is_hushed(&self) -> bool {
        self.calm.as_ref().is_some_and(|calm| calm.is_hushed())
    }

    fn note_sent<'a>(&mut self, offered: impl Iterator<Item = &'a [u8]>, taken: &Poll<io::Result<usize>>) {
        if let (Some(calm), Poll::Ready(Ok(count))) = (&mut self.calm, taken) {
            calm.on_sent(offered, *count);
        }
    }

    /// Tells with what error an HTTP/2 connection was ended.
    pub(super) fn ended(&self) -> Ended {
        self.calm
            .as_ref()
            .map_or_else(Ended::default, |calm| calm.ended())
    }

    /// Tells of a flood of frames.
    pub(super) fn flooded(&self) -> Flooded {
        self.calm
            .as_ref()
            .map_or_else(Flooded::default, |calm| calm.flooded())
    }

    /// Takes back what HTTP has read and not used.
    pub(super) fn put_back(&mut self, unused: Bytes) {
        if !unused.is_empty() {
            let mut all = BytesMut::from(unused);
            all.extend_from_slice(&self.ahead);
            self.ahead = all;
        }
    }

    /// Why a head was refused, and what there is of it.
    pub(super) fn refused(&self) -> Option<(Fault, &[u8])> {
        Some((self.gate.fault()?, &self.ahead))
    }

    /// A head that is not whole, if nothing that was sent before stands in the way of an answer.
    pub(super) fn unfinished_head(&self) -> Option<&[u8]> {
        let is_clear = self.gate.is_between() && self.activity.is_all_sent();
        (is_clear && !self.ahead.is_empty()).then_some(&self.ahead)
    }
}

impl<S: AsyncRead + Unpin> PublicIo<S> {
    /// Waits until there is something to read; false at the end of the stream.
    ///
    /// # Errors
    /// What the stream says.
    pub(super) async fn readable(&mut self) -> io::Result<bool> {
        poll_fn(|cx| {
            if !self.ahead.is_empty() {
                return Poll::Ready(Ok(true));
            }
            let mut memory = [0; WAKING_BYTES];
            let mut first = ReadBuf::new(&mut memory);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut first))?;
            if !first.filled().is_empty() {
                self.activity.on_bytes();
                self.ahead = BytesMut::from(first.filled());
            }
            Poll::Ready(Ok(!self.ahead.is_empty()))
        })
        .await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> PublicIo<S> {
    /// Reads what the visitor sends, as it is.
    fn poll_stream(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.activity.half_close.silent_since.get().is_some() {
            // The stream has ended, and need not say so again.
            return match self.activity.holds_end_back(cx) {
                true => Poll::Pending,
                false => Poll::Ready(Ok(())),
            };
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            self.activity.on_bytes();
            if let Some(calm) = &mut self.calm
                && calm.on_read(cx, &mut self.stream, came)
            {
                buffer.set_filled(before);
                return poll_hushed(cx, &mut self.stream);
            }
        } else if matches!(read, Poll::Ready(Ok(()))) && self.activity.holds_end_back(cx) {
            return Poll::Pending;
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PublicIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.activity.heads == Heads::All && !this.activity.is_past_http.get() {
            return this.poll_http1(cx, buffer);
        }
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buffer.remaining());
            let bytes = this.ahead.get(..count).unwrap_or_default();
            if let Some(calm) = &mut this.calm {
                // No more than the preface and what came with it: not yet a flood.
                calm.on_read(cx, &mut this.stream, bytes);
            }
            buffer.put_slice(bytes);
            this.ahead.advance(count);
            this.activity.on_bytes();
            return Poll::Ready(Ok(()));
        }
        if this.is_hushed() {
            return poll_hushed(cx, &mut this.stream);
        }
        this.poll_stream(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PublicIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.is_flushed.set(false);
        if this.is_hushed() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let taken = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if taken.is_ready() {
            this.activity.on_sent();
        }
        this.note_sent(std::iter::once(bytes), &taken);
        this.poll_taken(cx, taken)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.is_flushed.set(false);
        if this.is_hushed() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let taken = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        if taken.is_ready() {
            this.activity.on_sent();
        }
        this.note_sent(slices.iter().map(|slice| &**slice), &taken);
        this.poll_taken(cx, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.activity
            .is_flushed
            .set(matches!(flushed, Poll::Ready(Ok(()))));
        if flushed.is_ready() {
            this.activity.tell_reader();
        }
        this.poll_taken(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let taken = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.poll_taken(cx, taken)
    }
}
