//! A connection's byte stream, which notes when the connector was last heard and can be told to end.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use adit_driver::time::{Instant, now};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Bytes read before exchanges get a turn. All of a socket's buffer may be small frames, and the library
/// closes a connection on which more of them lie unread than its windows explain.
const TURN_BYTES_MAX: usize = 128 << 10;

/// Signs of life of one connection, shared by its stream, its exchanges and its keeper.
pub(super) struct Pulse {
    heard_at: Cell<Instant>,
    in_flight: Cell<u32>,
    /// Somebody wants a sign of life.
    is_wanted: Cell<bool>,
    is_asked: Notify,
    /// The answer to a PING is late.
    is_late: Cell<bool>,
    /// Rung whenever that changes.
    lateness: Notify,
    is_ending: Cell<bool>,
    reader: RefCell<Option<Waker>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            heard_at: Cell::new(now()),
            in_flight: Cell::new(0),
            is_wanted: Cell::new(false),
            is_asked: Notify::new(),
            is_late: Cell::new(false),
            lateness: Notify::new(),
            is_ending: Cell::new(false),
            reader: RefCell::default(),
        }
    }
}

impl Pulse {
    /// When bytes last came from the connector.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at.get()
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_awaited(&self) -> bool {
        self.in_flight.get() > 0
    }

    /// Exchanges under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get() as usize
    }

    /// Makes the keeper ask at once.
    pub(super) fn ask(&self) {
        self.is_wanted.set(true);
        self.is_asked.notify_one();
    }

    /// Whether somebody wants to know; the question is then taken as asked.
    pub(super) fn take_question(&self) -> bool {
        self.is_wanted.take()
    }

    /// Whether the connector is late with an answer.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.get()
    }

    /// Notes that the connector is late, or was heard.
    pub(super) fn set_late(&self, is_late: bool) {
        if self.is_late.replace(is_late) != is_late {
            self.lateness.notify_waiters();
        }
    }

    /// Waits until the connector is late, or is not.
    pub(super) async fn until_late(&self, is_late: bool) {
        loop {
            // Taken before the look, so that no change is missed.
            let changed = self.lateness.notified();
            if self.is_late.get() == is_late {
                return;
            }
            changed.await;
        }
    }

    /// Waits for a question, or for the first exchange after a time without.
    pub(super) async fn asked(&self) {
        self.is_asked.notified().await;
    }

    /// Notes an exchange that begins; it ends with the guard.
    pub(super) fn enter(self: &Rc<Self>) -> Awaited {
        if self.in_flight.replace(self.in_flight.get() + 1) == 0 {
            self.is_asked.notify_one();
        }
        Awaited(self.clone())
    }

    /// From here on the stream reads as ended, whereupon HTTP/2 writes what it has and closes.
    pub(super) fn end(&self) {
        self.is_ending.set(true);
        if let Some(reader) = self.reader.borrow_mut().take() {
            reader.wake();
        }
    }
}

/// One exchange under way.
pub(super) struct Awaited(Rc<Pulse>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
    }
}

/// The stream.
pub(super) struct Watched<S> {
    stream: S,
    pulse: Rc<Pulse>,
    /// Bytes read since there was nothing to read, or since the last turn.
    turn_bytes: usize,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, pulse: Rc<Pulse>) -> Self {
        Self {
            stream,
            pulse,
            turn_bytes: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.pulse.is_ending.get() {
            return Poll::Ready(Ok(()));
        }
        if this.turn_bytes >= TURN_BYTES_MAX {
            this.turn_bytes = 0;
            *this.pulse.reader.borrow_mut() = Some(cx.waker().clone());
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        if count > 0 {
            this.turn_bytes += count;
            this.pulse.heard_at.set(now());
            this.pulse.set_late(false);
        }
        if read.is_pending() {
            this.turn_bytes = 0;
            *this.pulse.reader.borrow_mut() = Some(cx.waker().clone());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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
