//! The control stream over HTTP/2 as bytes: the bodies of one request and its answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use adit_wire::http2::CONNECTOR_OF_OURS;
use adit_wire::metadata::TRUE;
use bytes::{Buf as _, Bytes};
use h2::server::SendResponse;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Opened;
use crate::edge_stream::EdgeKind;
use crate::edge_stream::http2::{Http2Body, poll_reserve};

/// Bytes taken from one write: RPC messages are small.
const WRITE_BYTES_MAX: usize = 16 << 10;

/// What the edge says.
pub(in crate::connections) struct Http2Reader {
    body: Http2Body,
    /// Of a chunk that did not fit.
    rest: Bytes,
}

/// What the edge hears. Every write is a frame of its own.
pub(in crate::connections) struct Http2Writer(h2::SendStream<Bytes>);

/// Agrees to a control stream.
pub(super) fn open(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    edge: EdgeKind,
) -> Result<Opened, h2::Error> {
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if edge == EdgeKind::Ours {
        let name = HeaderName::from_static(CONNECTOR_OF_OURS);
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(TRUE));
    }
    let stream = respond.send_response(response, false)?;
    let reader = Http2Reader {
        body: Http2Body::new(request.into_body()),
        rest: Bytes::new(),
    };
    Ok((reader, Http2Writer(stream), edge))
}

impl AsyncRead for Http2Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            match ready!(self.body.poll_chunk(cx)) {
                Ok(Some(chunk)) => self.rest = chunk,
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(self.rest.get(..count).unwrap_or_default());
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wanted = bytes.len().min(WRITE_BYTES_MAX);
        let Ok(credit) = ready!(poll_reserve(&mut self.0, wanted, cx)) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let count = credit.min(wanted);
        let part = Bytes::copy_from_slice(bytes.get(..count).unwrap_or_default());
        let sent = self.0.send_data(part, false);
        Poll::Ready(sent.map(|()| count).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
