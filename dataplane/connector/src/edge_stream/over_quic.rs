//! Halves of a data stream.
//!
//! Trailers need an edge of ours, which ALPN tells, that has asked for them. The body then goes in frames
//! (`adit_proto::exchange::framed_body`).

use std::task::{Context, Poll};

use adit_driver::chunks::Chunks;
use adit_driver::quic::{RecvStream, SendStream};
use adit_proto::exchange::connector::{encode_error, encode_framed_response_head, encode_response_head};
use adit_proto::exchange::framed_body::{data_frame, trailers_frame};
use adit_wire::connect::encode_response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{EdgeKind, Excuse, FromEdge, Gone, ReadError, SendHeadError, ToEdge};
use crate::origin::body::{RequestBody, StreamBody};

/// The answer on a data stream.
pub(crate) struct QuicAnswer {
    stream: SendStream,
    edge: EdgeKind,
    form: Form,
}

/// How the body goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Framed,
}

impl QuicAnswer {
    pub(crate) fn new(stream: SendStream, edge: EdgeKind) -> Self {
        Self {
            stream,
            edge,
            form: Form::Plain,
        }
    }

    async fn write_all<const N: usize>(&mut self, parts: [Bytes; N]) -> Result<(), Gone> {
        for part in parts {
            self.stream.write(part).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

impl ToEdge for QuicAnswer {
    fn expect_trailers(&mut self) {
        if self.edge == EdgeKind::Ours {
            self.form = Form::Framed;
        }
    }

    fn is_for_ours(&self) -> bool {
        self.edge == EdgeKind::Ours
    }

    async fn write_interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), SendHeadError> {
        let head = encode_response_head(status, headers)?;
        Ok(self.write_all([head]).await?)
    }

    async fn write_head(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), SendHeadError> {
        let head = match self.form {
            Form::Plain => encode_response_head(status, headers)?,
            Form::Framed => encode_framed_response_head(status, headers)?,
        };
        Ok(self.write_all([head]).await?)
    }

    async fn write_ack(&mut self) -> Result<(), SendHeadError> {
        let ack = encode_response(b"", &[])?;
        Ok(self.write_all([ack]).await?)
    }

    async fn write(&mut self, mut bytes: Bytes) -> Result<(), Gone> {
        if self.form == Form::Plain {
            return self.write_all([bytes]).await;
        }
        while !bytes.is_empty() {
            self.write_all(data_frame(&mut bytes)).await?;
        }
        Ok(())
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<(), SendHeadError> {
        if self.form == Form::Framed {
            self.write_all(trailers_frame(&trailers)?).await?;
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.stream.finish();
    }

    async fn fail(&mut self, excuse: Option<&Excuse>) {
        match excuse.map(|excuse| encode_error(&excuse.text, self.edge.told(excuse.reach))) {
            Some(Ok(head)) => {
                // The edge may have gone meanwhile; there is nobody else to tell.
                if self.stream.write(head).await.is_ok() {
                    self.stream.finish();
                }
            }
            Some(Err(_)) | None => self.stream.reset(0),
        }
    }

    async fn stopped(&mut self) {
        self.stream.stopped().await;
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
