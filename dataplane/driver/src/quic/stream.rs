//! The two halves of a stream, as tasks read and write them.
//!
//! Reading takes quinn-proto's own `Bytes` (slices of the received datagrams) and writing hands `Bytes`
//! over, so neither copies. Back-pressure is the peer's flow control on one side and our send window on
//! the other: a writer waits while either is full, a reader frees window only by reading.
//!
//! A half dropped early tells the peer: RESET_STREAM for writing, STOP_SENDING for reading, code 0.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use quinn_proto::{StreamId, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::{ConnectionCell, ConnectionState, StreamCredit, park};
use super::outcome::ConnectionError;
use super::window::Window;
use crate::chunks::Chunks;
use crate::patience::{Patience, Stalled};

/// Bytes taken from one write call of a byte-oriented writer (RPC, TLS).
const COPIED_WRITE_BYTES_MAX: usize = 16 << 10;

/// Why a write failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The peer does not want more (STOP_SENDING), with its code.
    #[error("peer stopped the stream with code {0}")]
    Stopped(u64),
    /// The connection ended.
    #[error("connection lost")]
    ConnectionLost(#[from] ConnectionError),
    /// We finished or reset it.
    #[error("stream is closed")]
    Closed,
    /// The peer took nothing for too long.
    #[error(transparent)]
    Stalled(#[from] Stalled),
}

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The peer gave the stream up (RESET_STREAM), with its code.
    #[error("peer reset the stream with code {0}")]
    Reset(u64),
    /// The connection ended.
    #[error("connection lost")]
    ConnectionLost(#[from] ConnectionError),
    /// We stopped it, or it ended before.
    #[error("stream is closed")]
    Closed,
}

/// The sending half.
pub struct SendStream {
    connection: Rc<ConnectionCell>,
    id: StreamId,
    is_over: bool,
    /// Bytes written, or more: see [`ConnectionState::park_writer`].
    served: u64,
    credit: StreamCredit,
}

/// The receiving half.
pub struct RecvStream {
    connection: Rc<ConnectionCell>,
    id: StreamId,
    is_over: bool,
    /// Rest of a chunk that a byte-oriented reader has not taken yet.
    rest: Bytes,
    window: Window,
}

impl SendStream {
    pub(crate) fn new(connection: Rc<ConnectionCell>, id: StreamId) -> Self {
        Self {
            connection,
            id,
            is_over: false,
            served: 0,
            credit: StreamCredit::default(),
        }
    }

    /// The stream's number on the wire (RFC 9000 §2.1).
    #[must_use]
    pub fn id(&self) -> u64 {
        VarInt::from(self.id).into_inner()
    }

    /// Sends all of `data`, waiting for flow control.
    ///
    /// Cancelling it may leave a part of `data` sent.
    ///
    /// # Errors
    /// [`WriteError`]; what was sent before stays sent.
    pub async fn write(&mut self, data: Bytes) -> Result<(), WriteError> {
        let mut chunk = [data];
        poll_fn(|cx| self.poll_chunk(cx, &mut chunk)).await
    }

    /// The same, but gives up when nothing of it could be sent for as long as `patience` lasts.
    ///
    /// # Errors
    /// As [`write`](Self::write), and [`WriteError::Stalled`].
    pub async fn write_within(&mut self, data: Bytes, patience: &mut Patience) -> Result<(), WriteError> {
        let mut chunk = [data];
        let mut left = chunk[0].len();
        poll_fn(|cx| {
            let written = self.poll_chunk(cx, &mut chunk);
            if written.is_ready() || chunk[0].len() < left {
                left = chunk[0].len();
                patience.renew();
            }
            if written.is_ready() {
                return written;
            }
            patience.poll_end(cx).map(|stalled| Err(stalled.into()))
        })
        .await
    }

    /// Ends the stream after all that was written.
    pub fn finish(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            // A stream the peer has stopped needs no end.
            let _ = self
                .connection
                .state
                .borrow_mut()
                .proto
                .send_stream(self.id)
                .finish();
            self.connection.touch();
        }
    }

    /// Gives the stream up; the peer may lose what it has not read.
    pub fn reset(&mut self, code: u32) {
        if !std::mem::replace(&mut self.is_over, true) {
            // Fails only for a stream that is gone already.
            let _ = self
                .connection
                .state
                .borrow_mut()
                .proto
                .send_stream(self.id)
                .reset(VarInt::from_u32(code));
            self.connection.touch();
        }
    }

    /// Waits until the peer stops the stream (`Some(code)`), or has received all of it or the connection
    /// is gone (`None`).
    pub async fn stopped(&mut self) -> Option<u64> {
        poll_fn(|cx| {
            let mut state = self.connection.state.borrow_mut();
            match state.proto.send_stream(self.id).stopped() {
                Ok(Some(code)) => return Poll::Ready(Some(code.into_inner())),
                Ok(None) if state.error.is_none() => {}
                Ok(None) | Err(_) => return Poll::Ready(None),
            }
            park(&mut state.streams.entry(self.id).or_default().stopped, cx);
            Poll::Pending
        })
        .await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut [Bytes; 1]) -> Poll<Result<(), WriteError>> {
        let mut state = self.connection.state.borrow_mut();
        loop {
            if chunk[0].is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = &state.error {
                return Poll::Ready(Err(error.clone().into()));
            }
            let room = state.room(self.id, &mut self.credit, chunk[0].len());
            if room == 0 {
                if let Ok(Some(code)) = state.proto.send_stream(self.id).stopped() {
                    return Poll::Ready(Err(WriteError::Stopped(code.into_inner())));
                }
                state.hold_back(self.id);
                self.served = state.park_writer(self.id, self.served, cx);
                return Poll::Pending;
            }
            let mut stream = state.proto.send_stream(self.id);
            let written = if room < chunk[0].len() {
                let mut part = [chunk[0].slice(..room)];
                let written = stream.write_chunks(&mut part);
                if let Ok(written) = &written {
                    chunk[0].advance(written.bytes);
                }
                written
            } else {
                stream.write_chunks(chunk)
            };
            match written {
                Ok(written) => {
                    self.served += written.bytes as u64;
                    self.connection.touch();
                }
                Err(quinn_proto::WriteError::Blocked) => {
                    self.served = state.park_writer(self.id, self.served, cx);
                    return Poll::Pending;
                }
                Err(quinn_proto::WriteError::Stopped(code)) => {
                    return Poll::Ready(Err(WriteError::Stopped(code.into_inner())));
                }
                Err(quinn_proto::WriteError::ClosedStream) => return Poll::Ready(Err(WriteError::Closed)),
            }
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.reset(0);
        forget(&self.connection, self.id, |waiters| {
            waiters.write = None;
            waiters.stopped = None;
        });
    }
}

impl RecvStream {
    pub(crate) fn new(connection: Rc<ConnectionCell>, id: StreamId) -> Self {
        let window = Window::new(&connection.state.borrow().windows);
        Self {
            connection,
            id,
            is_over: false,
            rest: Bytes::new(),
            window,
        }
    }

    /// The stream's number on the wire (RFC 9000 §2.1).
    #[must_use]
    pub fn id(&self) -> u64 {
        VarInt::from(self.id).into_inner()
    }

    /// The next bytes in order, as they arrived; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`ReadError`]; bytes not read before a reset are lost.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, ReadError> {
        poll_fn(|cx| self.poll_chunk(cx, usize::MAX)).await
    }

    /// Like [`read_chunk`](Self::read_chunk), but takes all that has arrived, up to what one write takes.
    ///
    /// # Errors
    /// As [`read_chunk`](Self::read_chunk).
    pub async fn read_chunks(&mut self) -> Result<Option<Chunks>, ReadError> {
        poll_fn(|cx| self.poll_read_chunks(cx)).await
    }

    /// Like [`read_chunks`](Self::read_chunks), for poll-based callers.
    pub fn poll_read_chunks(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunks>, ReadError>> {
        let mut chunks = Chunks::default();
        let has_read = ready!(self.poll_arrived(cx, usize::MAX, |bytes| {
            chunks.push(bytes);
            !chunks.is_full()
        }))?;
        Poll::Ready(Ok(has_read.then_some(chunks)))
    }

    /// Tells the peer to send no more.
    pub fn stop(&mut self, code: u32) {
        if !std::mem::replace(&mut self.is_over, true) {
            let mut state = self.connection.state.borrow_mut();
            // Fails only for a stream that is gone already.
            let _ = state.proto.recv_stream(self.id).stop(VarInt::from_u32(code));
            self.window.end(&state.windows);
            self.connection.touch();
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, ReadError>> {
        let mut chunk = None;
        ready!(self.poll_arrived(cx, max, |bytes| {
            chunk = Some(bytes);
            false
        }))?;
        Poll::Ready(Ok(chunk))
    }

    /// Passes chunks of up to `max` bytes to `take` as long as there are some and it wants more. Waits for
    /// the first. Returns whether there was one: at the end of the stream there is none.
    fn poll_arrived(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        mut take: impl FnMut(Bytes) -> bool,
    ) -> Poll<Result<bool, ReadError>> {
        if !self.rest.is_empty() {
            take(std::mem::take(&mut self.rest));
            return Poll::Ready(Ok(true));
        }
        if self.is_over {
            return Poll::Ready(Ok(false));
        }
        let mut state = self.connection.state.borrow_mut();
        let mut read_bytes = 0;
        let (stopped, must_transmit) = take_arrived(&mut state, self.id, max, |bytes| {
            read_bytes += bytes.len() as u64;
            take(bytes)
        });
        let has_read = read_bytes > 0;
        if has_read {
            self.window.handle_read(read_bytes);
        }
        if must_transmit {
            self.connection.touch();
        }
        match stopped {
            Stopped::Full => Poll::Ready(Ok(has_read)),
            Stopped::Ended => {
                self.is_over = true;
                self.window.end(&state.windows);
                Poll::Ready(Ok(has_read))
            }
            Stopped::Reset(code) => {
                self.is_over = true;
                self.window.end(&state.windows);
                Poll::Ready(Err(ReadError::Reset(code)))
            }
            Stopped::Empty if has_read => Poll::Ready(Ok(true)),
            Stopped::Empty => {
                if let Some(error) = &state.error {
                    return Poll::Ready(Err(error.clone().into()));
                }
                let round_trip = state.proto.rtt();
                if let Some(bytes) = self.window.handle_wait(&state.windows, round_trip) {
                    let window = VarInt::from_u64(bytes).unwrap_or(VarInt::MAX);
                    let mut stream = state.proto.recv_stream(self.id);
                    if stream.set_window(window).is_ok_and(|told| told.should_transmit()) {
                        self.connection.touch();
                    }
                }
                park(&mut state.streams.entry(self.id).or_default().read, cx);
                Poll::Pending
            }
        }
    }
}

/// Why no more is taken of what has arrived.
enum Stopped {
    /// The reader has enough.
    Full,
    /// Nothing more has arrived.
    Empty,
    /// That was all of the stream.
    Ended,
    /// The peer gave it up, and everything unread with it.
    Reset(u64),
}

/// Takes chunks until `take` has enough; says why it stopped and whether the window freed must be announced.
fn take_arrived(
    state: &mut ConnectionState,
    id: StreamId,
    max: usize,
    mut take: impl FnMut(Bytes) -> bool,
) -> (Stopped, bool) {
    let mut stream = state.proto.recv_stream(id);
    // The stream is gone only after its end was read, which `is_over` remembers.
    let Ok(mut chunks) = stream.read(true) else {
        return (Stopped::Ended, false);
    };
    let stopped = loop {
        match chunks.next(max) {
            Ok(Some(chunk)) => {
                if !take(chunk.bytes) {
                    break Stopped::Full;
                }
            }
            Ok(None) => break Stopped::Ended,
            Err(quinn_proto::ReadError::Blocked) => break Stopped::Empty,
            Err(quinn_proto::ReadError::Reset(code)) => break Stopped::Reset(code.into_inner()),
        }
    };
    (stopped, chunks.finalize().should_transmit())
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.stop(0);
        self.window.end(&self.connection.state.borrow().windows);
        forget(&self.connection, self.id, |waiters| waiters.read = None);
    }
}

/// Drops the wakers of one half, and the entry when the other half has none.
fn forget(
    connection: &ConnectionCell,
    id: StreamId,
    clear: impl FnOnce(&mut super::connection::StreamWaiters),
) {
    let mut state = connection.state.borrow_mut();
    state.end_half(id);
    if let Some(waiters) = state.streams.get_mut(&id) {
        clear(waiters);
        if waiters.read.is_none() && waiters.write.is_none() && waiters.stopped.is_none() {
            state.streams.remove(&id);
        }
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let taken = data.len().min(COPIED_WRITE_BYTES_MAX);
        let mut state = self.connection.state.borrow_mut();
        if let Some(error) = &state.error {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error.clone())));
        }
        match state
            .proto
            .send_stream(self.id)
            .write(data.get(..taken).unwrap_or(data))
        {
            Ok(written) => {
                drop(state);
                self.served += written as u64;
                self.as_mut().connection.touch();
                Poll::Ready(Ok(written))
            }
            Err(quinn_proto::WriteError::Blocked) => {
                let served = state.park_writer(self.id, self.served, cx);
                drop(state);
                self.served = served;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, error))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_chunk(cx, buffer.remaining()));
        match read {
            Ok(Some(mut bytes)) => {
                let taken = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..taken]);
                bytes.advance(taken);
                self.rest = bytes;
                Poll::Ready(Ok(()))
            }
            Ok(None) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error))),
        }
    }
}
