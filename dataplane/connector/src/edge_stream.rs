//! The two halves of an exchange on their way to and from the edge, whatever transport carries them.
//!
//! | | QUIC | HTTP/2 |
//! |---|---|---|
//! | head of the answer | `ConnectResponse` | response headers |
//! | interim answers, edge of ours | a `ConnectResponse` each | 1xx, headers as in the answer |
//! | trailers | behind a body in frames, if the edge is ours and takes them | HTTP/2's own |
//! | end | FIN | END_STREAM |
//! | failed, no head sent yet | `ConnectResponse.error`, FIN | 502 that says it is the connector's |
//! | the same, origin not reached, edge of ours | `AditUnreached` beside it | `adit_unreached` in it |
//! | failed later | RESET_STREAM(0) | RST_STREAM(INTERNAL_ERROR) |
//! | nobody reads on | STOP_SENDING(0) | RST_STREAM(NO_ERROR) behind the answer |
//!
//! Exchanges are generic over the halves, so that neither transport pays for the other.

use std::task::{Context, Poll};

use adit_driver::chunks::Chunks;
use adit_driver::quic;
use adit_proto::exchange::connector::http2::ResponseTooLarge;
use adit_proto::exchange::reach::Reach;
use adit_wire::alpn;
use adit_wire::connect::HeadError;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::origin::body::{RequestBody, StreamBody};

pub(crate) mod http2;
pub(crate) mod over_quic;

/// The edge does not listen any more, or the connection to it is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the edge is gone")]
pub(crate) struct Gone;

/// Why a response head was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendHeadError {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    TooLarge(#[from] ResponseTooLarge),
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Why nothing more comes from the edge.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Quic(#[from] quic::ReadError),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeKind {
    /// `adit/1` was agreed on, or the control stream over HTTP/2 says so.
    Ours,
    /// It speaks cloudflared's protocol and nothing else.
    Stock,
}

impl EdgeKind {
    /// Who has agreed on what is spoken on `connection`.
    pub(crate) fn over_quic(connection: &quic::Connection) -> Self {
        match connection.alpn().as_deref() {
            Some(alpn::ADIT) => Self::Ours,
            Some(_) | None => Self::Stock,
        }
    }

    /// What an edge may be told of how far a request has come. A stock edge gets no other bytes than from a
    /// stock connector.
    pub(crate) fn told(self, reach: Reach) -> Reach {
        match self {
            Self::Ours => reach,
            Self::Stock => Reach::Unknown,
        }
    }
}

/// Why an edge that is still owed a head gets no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excuse {
    pub(crate) text: String,
    pub(crate) reach: Reach,
}

/// What an exchange sends.
pub(crate) trait ToEdge {
    /// Before the head: the visitor takes trailers, and there may be some.
    fn expect_trailers(&mut self);

    /// Whether the edge is ours.
    fn is_for_ours(&self) -> bool;

    /// Sends what comes ahead of the answer. Only an edge of ours that has asked for it is sent any.
    async fn write_interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), SendHeadError>;

    /// Sends the head of an answer.
    async fn write_head(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), SendHeadError>;

    /// Says that a flow is connected.
    async fn write_ack(&mut self) -> Result<(), SendHeadError>;

    /// Sends all of `bytes`, waiting for flow control.
    async fn write(&mut self, bytes: Bytes) -> Result<(), Gone>;

    /// Sends what comes after the last byte, where there is a place for it; nothing is written any more.
    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<(), SendHeadError>;

    /// Ends the answer.
    fn finish(&mut self);

    /// Ends the exchange without a proper end; `excuse` says why, if the edge is still owed a head.
    async fn fail(&mut self, excuse: Option<&Excuse>);

    /// Waits until the edge gives the answer up, or the connection is lost.
    async fn stopped(&mut self);
}

/// What an exchange receives.
pub(crate) trait FromEdge: Sized {
    /// What has arrived, up to what one write takes; `None` at the end.
    fn poll_read_chunks(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunks>, ReadError>>;

    /// The next bytes as they arrived; `None` at the end.
    async fn read_chunk(&mut self) -> Result<Option<Bytes>, ReadError>;

    /// Makes a request's body of one that reads this half.
    fn into_request(body: StreamBody<Self>) -> RequestBody;

    /// Like [`poll_read_chunks`](Self::poll_read_chunks).
    async fn read_chunks(&mut self) -> Result<Option<Chunks>, ReadError> {
        std::future::poll_fn(|cx| self.poll_read_chunks(cx)).await
    }
}
