//! Puts the size limit of RPC messages between a stream and capnp-rpc.
//!
//! The RPC library takes memory for a message as soon as its segment table announces one. The gate reads
//! along and fails the stream before that, so that no edge can make a connector allocate without bound.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use adit_wire::framing::{FrameGate, MESSAGE_BYTES_MAX};
use tokio::io::{AsyncRead, ReadBuf};

/// A stream of RPC messages of at most [`MESSAGE_BYTES_MAX`] each.
pub(crate) struct Gated<S> {
    stream: S,
    gate: FrameGate,
}

impl<S> Gated<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            gate: FrameGate::new(MESSAGE_BYTES_MAX),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let checked = self.gate.handle_bytes(read);
        Poll::Ready(checked.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
    }
}
