//! Notices that an edge is heard of, whatever it says, and how much it says.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read before exchanges get a turn: the library closes a connection on which more small frames lie unread than
/// its windows would explain, and all of a socket's buffer may be such frames.
const TURN_BYTES_MAX: usize = 128 << 10;

/// Counts reads that brought something.
#[derive(Clone, Default)]
pub(super) struct Heard(Rc<Counts>);

#[derive(Default)]
struct Counts {
    turns: Cell<u64>,
    /// Read since [`Heard::is_gathering_due`] was true.
    bytes: Cell<usize>,
}

/// A byte stream whose reads are counted.
pub(super) struct Heeded<S> {
    stream: S,
    heard: Heard,
    /// Bytes read since there was nothing to read, or since the last turn.
    turn_bytes: usize,
}

impl Heard {
    pub(super) fn heed<S>(&self, stream: S) -> Heeded<S> {
        Heeded {
            stream,
            heard: self.clone(),
            turn_bytes: 0,
        }
    }

    /// Grows with every read.
    pub(super) fn turns(&self) -> u64 {
        self.0.turns.get()
    }

    /// Whether so much was read since this was true that it may be too many small frames for the library, if nobody
    /// reads them.
    pub(super) fn is_gathering_due(&self) -> bool {
        let is_due = self.0.bytes.get() >= TURN_BYTES_MAX;
        if is_due {
            self.0.bytes.set(0);
        }
        is_due
    }

    fn note(&self, bytes: usize) {
        self.0.turns.set(self.0.turns.get().wrapping_add(1));
        self.0.bytes.set(self.0.bytes.get().saturating_add(bytes));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heeded<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for Heeded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
