//! Puts the size limits of RPC messages between a stream and capnp-rpc.
//!
//! The RPC library takes memory for a message as soon as its segment table announces one. The gate reads
//! along and fails the stream before that when the message is larger than the connector may send: 64 KiB
//! until it has registered, 1 MiB afterwards.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use adit_driver::quic::RecvStream;
use adit_wire::framing::FrameGate;
use tokio::io::{AsyncRead, ReadBuf};

/// A stream whose messages are limited; the limit is shared with whoever raises it.
pub(crate) struct Gated {
    stream: RecvStream,
    gate: Rc<RefCell<FrameGate>>,
}

impl Gated {
    pub(crate) fn new(stream: RecvStream, limit: usize) -> (Self, Rc<RefCell<FrameGate>>) {
        let gate = Rc::new(RefCell::new(FrameGate::new(limit)));
        (
            Self {
                stream,
                gate: gate.clone(),
            },
            gate,
        )
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let checked = self.gate.borrow_mut().handle_bytes(read);
        Poll::Ready(checked.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
    }
}
