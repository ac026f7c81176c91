//! Halves of a data stream.

use std::task::{Context, Poll};

use adit_driver::chunks::Chunks;
use adit_driver::quic::{RecvStream, SendStream};
use adit_proto::exchange::connector::{encode_error, encode_response_head};
use adit_wire::connect::encode_response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{FromEdge, Gone, ReadError, SendHeadError, ToEdge};
use crate::origin::body::{RequestBody, StreamBody};

impl ToEdge for SendStream {
    async fn write_head(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), SendHeadError> {
        let head = encode_response_head(status, headers)?;
        Ok(ToEdge::write(self, head).await?)
    }

    async fn write_ack(&mut self) -> Result<(), SendHeadError> {
        let ack = encode_response(b"", &[])?;
        Ok(ToEdge::write(self, ack).await?)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Gone> {
        Self::write(self, bytes).await.map_err(|_| Gone)
    }

    /// They have no place on the stream.
    fn set_trailers(&mut self, _: HeaderMap) {}

    fn finish(&mut self) {
        Self::finish(self);
    }

    async fn fail(&mut self, text: Option<&str>) {
        match text.map(encode_error) {
            Some(Ok(head)) => {
                // The edge may have gone meanwhile; there is nobody else to tell.
                if Self::write(self, head).await.is_ok() {
                    Self::finish(self);
                }
            }
            Some(Err(_)) | None => self.reset(0),
        }
    }

    async fn stopped(&mut self) {
        Self::stopped(self).await;
    }
}

impl FromEdge for RecvStream {
    fn poll_read_chunks(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunks>, ReadError>> {
        Self::poll_read_chunks(self, cx).map_err(ReadError::from)
    }

    async fn read_chunk(&mut self) -> Result<Option<Bytes>, ReadError> {
        Ok(Self::read_chunk(self).await?)
    }

    fn into_request(body: StreamBody<Self>) -> RequestBody {
        RequestBody::Quic(body)
    }
}
