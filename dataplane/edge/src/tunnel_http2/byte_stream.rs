//! A stream of HTTP/2 as bytes in both directions, for the RPC of the control stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes taken into one frame.
const FRAME_BYTES: usize = 16 << 10;

/// From the connector.
pub(crate) struct Receiving {
    stream: RecvStream,
    /// Come and not yet read.
    ahead: Bytes,
}

impl Receiving {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            ahead: Bytes::new(),
        }
    }
}

impl AsyncRead for Receiving {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.ahead.is_empty() {
            match ready!(this.stream.poll_data(cx)) {
                Some(Ok(data)) => this.ahead = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(this.ahead.get(..count).unwrap_or_default());
        this.ahead.advance(count);
        // Fails for more than was received only.
        let _ = this.stream.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

/// Towards the connector.
pub(crate) struct Sending(SendStream<Bytes>);

impl Sending {
    pub(crate) fn new(stream: SendStream<Bytes>) -> Self {
        Self(stream)
    }
}

impl AsyncWrite for Sending {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = &mut self.get_mut().0;
        let wanted = bytes.len().min(FRAME_BYTES);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let granted = ready!(poll_granted(stream, cx, wanted)).map_err(io::Error::other)?;
        let part = bytes.get(..granted).unwrap_or(bytes);
        stream
            .send_data(Bytes::copy_from_slice(part), false)
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(part.len()))
    }

    /// The connection sends by itself what it has.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.get_mut().0.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}

/// Waits until some of `wanted` bytes, which are not none, fit the connector's windows; tells how many do.
pub(super) fn poll_granted(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
) -> Poll<Result<usize, h2::Error>> {
    stream.reserve_capacity(wanted);
    loop {
        // What is left of an earlier grant is not told again.
        let granted = stream.capacity();
        if granted > 0 {
            return Poll::Ready(Ok(granted.min(wanted)));
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(h2::Reason::STREAM_CLOSED.into())),
        }
    }
}
