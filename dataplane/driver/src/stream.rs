//! One connected TCP or Unix socket, the same in both I/O modes.
//!
//! Speaks tokio's `AsyncRead` and `AsyncWrite`, so TLS and hyper run on it, and has raw methods for relays:
//! [`read_chunk`](Stream::read_chunk) gives bytes that need no further copy, and
//! [`write_chunks`](Stream::write_chunks) sends many packet-sized chunks in one call.
//!
//! Costs: see the table in `ring/stream.rs` for io_uring and the first lines of `stream/portable.rs`. What
//! is written leaves at the end of the runtime's turn at the latest, flushed or not; `flush` waits for that.
//! An idle stream holds a 2 KiB receive buffer, and the last small reply (at most 8 KiB) until flushed.
//!
//! Ending: `shutdown` sends FIN and leaves reading open; dropping ends both directions, after what is
//! written; `abort` tells the peer that this is no end in order.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ring::stream::RingStream;
use crate::sockopt;

pub(crate) mod chunk;
pub mod growing;
pub(crate) mod portable;

use portable::PortableStream;

/// Chunks of one vectored write. 64 packets of 1,400 bytes are more than a socket usually takes at once.
const CHUNKS_PER_WRITE_MAX: usize = 64;

/// A connected byte stream of this core.
pub struct Stream {
    inner: Inner,
}

enum Inner {
    Ring(RingStream),
    Portable(PortableStream),
}

impl Stream {
    pub(crate) fn from_ring(stream: RingStream) -> Self {
        Self {
            inner: Inner::Ring(stream),
        }
    }

    pub(crate) fn from_portable(stream: PortableStream) -> Self {
        Self {
            inner: Inner::Portable(stream),
        }
    }

    /// The address of our end.
    ///
    /// # Errors
    /// What `getsockname` says; an error for a Unix socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.options().local_addr()?;
        address
            .as_socket()
            .ok_or_else(|| io::Error::other("the socket has no internet address"))
    }

    /// Probes a silent peer every `period` from here on.
    ///
    /// # Errors
    /// What `setsockopt` says.
    pub fn keep_alive(&self, period: Duration) -> io::Result<()> {
        sockopt::keep_alive(self.options(), period)
    }

    /// Ends both directions at once: a TCP peer is sent a reset, and what it was not sent yet is lost.
    pub fn abort(mut self) {
        if let Err(error) = self.options().set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a stream ends in order that should be reset");
        }
        match &mut self.inner {
            Inner::Ring(stream) => stream.expect_reset(),
            // Closed when it is dropped, with nothing in flight that would hold it open.
            Inner::Portable(_) => {}
        }
    }

    fn options(&self) -> SockRef<'_> {
        match &self.inner {
            Inner::Ring(stream) => stream.socket().options(),
            Inner::Portable(PortableStream::Tcp(stream)) => SockRef::from(stream),
            Inner::Portable(PortableStream::Unix(stream)) => SockRef::from(stream),
        }
    }

    /// Reads what is there, at least one and at most `max` bytes; `None` at the end of the stream.
    ///
    /// `max` is capped at 64 KiB. Cancel-safe. Large chunks share their memory with their neighbours, so
    /// whoever keeps bytes for long copies them.
    ///
    /// # Errors
    /// What the socket says, such as a reset by the peer.
    pub async fn read_chunk(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| match &mut self.inner {
            Inner::Ring(stream) => stream.poll_read_chunk(cx, max),
            Inner::Portable(stream) => stream.poll_read_chunk(cx, max),
        })
        .await
    }

    /// Writes all of `chunk` without copying it in user space.
    ///
    /// Dropping the future leaves an unknown part of `chunk` written.
    ///
    /// # Errors
    /// What the socket says; `WriteZero` if it takes nothing.
    pub async fn write_chunk(&mut self, mut chunk: Bytes) -> io::Result<()> {
        while !chunk.is_empty() {
            let written = poll_fn(|cx| self.poll_send(cx, &[IoSlice::new(&chunk)])).await?;
            chunk.advance(written);
        }
        Ok(())
    }

    /// Writes all of `chunks` in order, many per system call, and removes what is written.
    ///
    /// Cancel-safe: after dropping the future, `chunks` holds exactly what is not yet written.
    ///
    /// # Errors
    /// What the socket says; `WriteZero` if it takes nothing.
    pub async fn write_chunks(&mut self, chunks: &mut VecDeque<Bytes>) -> io::Result<()> {
        discard_empty(chunks);
        while !chunks.is_empty() {
            poll_fn(|cx| self.poll_write_chunks(cx, chunks)).await?;
        }
        Ok(())
    }

    fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE_MAX];
        for (slice, chunk) in slices.iter_mut().zip(chunks.iter()) {
            *slice = IoSlice::new(chunk);
        }
        let count = chunks.len().min(CHUNKS_PER_WRITE_MAX);
        let mut written = ready!(self.poll_send(cx, slices.get(..count).unwrap_or(&slices)))?;
        while written > 0
            && let Some(first) = chunks.front_mut()
        {
            let part = written.min(first.len());
            first.advance(part);
            written -= part;
            discard_empty(chunks);
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a part of `slices`, which are not empty.
    fn poll_send(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let sent = match &mut self.inner {
            Inner::Ring(stream) => ready!(stream.poll_write(cx, slices)),
            Inner::Portable(stream) => ready!(stream.poll_write(cx, slices)),
        };
        match sent {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            sent => Poll::Ready(sent),
        }
    }
}

fn discard_empty(chunks: &mut VecDeque<Bytes>) {
    while chunks.front().is_some_and(Bytes::is_empty) {
        chunks.pop_front();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match &mut self.get_mut().inner {
            Inner::Ring(stream) => stream.poll_read(cx, buffer).map_ok(drop),
            Inner::Portable(stream) => stream.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Ring(stream) => stream.poll_write(cx, slices),
            Inner::Portable(stream) => stream.poll_write(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Ring(stream) => stream.poll_flush(cx),
            // Every write has gone to the kernel.
            Inner::Portable(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Ring(stream) => stream.poll_shutdown(cx),
            Inner::Portable(stream) => stream.poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
