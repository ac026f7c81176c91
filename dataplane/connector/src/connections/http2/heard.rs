//! Notices that an edge is heard, how many bytes it has sent, and whether all bytes for it have left.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read before exchanges get a turn. All of a socket's buffer may be small frames, and the library
/// closes a connection on which more of them lie unread than its windows explain.
const TURN_BYTES_MAX: usize = 128 << 10;

/// Bytes thrown away at a time while the end of the other side is waited for.
const WASTE_BYTES: usize = 4 << 10;

/// Counts reads that brought something, and knows of writes that wait.
#[derive(Clone, Default)]
pub(super) struct Heard(Rc<Counts>);

#[derive(Default)]
struct Counts {
    turns: Cell<u64>,
    /// Read since [`Heard::is_gathering_due`] was true.
    bytes: Cell<usize>,
    /// The last write had to wait.
    is_write_blocked: Cell<bool>,
    /// Whoever shuts the stream down waits for the other side to do so too.
    lingers: Cell<bool>,
}

/// A byte stream that is watched.
pub(super) struct Watched<S> {
    stream: S,
    heard: Heard,
    /// Bytes read since there was nothing to read, or since the last turn.
    turn_bytes: usize,
}

impl Heard {
    pub(super) fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched {
            stream,
            heard: self.clone(),
            turn_bytes: 0,
        }
    }

    /// Grows with every read.
    pub(super) fn turns(&self) -> u64 {
        self.0.turns.get()
    }

    /// Whether so many bytes were read since this was last true that small frames among them may be too many
    /// for the library.
    pub(super) fn is_gathering_due(&self) -> bool {
        let is_due = self.0.bytes.get() >= TURN_BYTES_MAX;
        if is_due {
            self.0.bytes.set(0);
        }
        is_due
    }

    /// Whether something is to be written that the stream had no room for.
    pub(super) fn is_write_blocked(&self) -> bool {
        self.0.is_write_blocked.get()
    }

    /// Makes the shutdown wait for the other side's. A socket that is closed while something in it is unread
    /// throws away what it has not sent yet.
    pub(super) fn linger(&self) {
        self.0.lingers.set(true);
    }

    fn note_write<T>(&self, written: Poll<T>) -> Poll<T> {
        self.0.is_write_blocked.set(written.is_pending());
        written
    }

    fn note(&self, bytes: usize) {
        self.0.turns.set(self.0.turns.get().wrapping_add(1));
        self.0.bytes.set(self.0.bytes.get().saturating_add(bytes));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn_bytes >= TURN_BYTES_MAX {
            self.turn_bytes = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            self.turn_bytes = 0;
        }
        ready!(read)?;
        let count = buffer.filled().len() - before;
        self.turn_bytes += count;
        self.heard.note(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.heard.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.heard.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.heard.note_write(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        let mut waste = [0; WASTE_BYTES];
        while self.heard.0.lingers.get() {
            let mut buffer = ReadBuf::new(&mut waste);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
