//! A tunnel connection, whichever way the connector came.

use std::future::pending;
use std::net::SocketAddr;

use adit_driver::quic;
use adit_wire::alpn;

use crate::tunnel_http2;

/// Close code of our own closes; the protocol knows no other (docs/protocol/transport-quic.md §6).
const CLOSE_CODE: u32 = 0;

/// How a connector reaches the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Quic,
    Http2,
}

impl Transport {
    /// As connectors call it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Http2 => "http2",
        }
    }
}

/// A connection's handle; clones are of the same connection. Lives on one core.
#[derive(Clone, Debug)]
pub(crate) enum Connection {
    Quic(quic::Connection),
    Http2(tunnel_http2::Connection),
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error(transparent)]
    Quic(quic::ConnectionError),
    #[error(transparent)]
    Http2(tunnel_http2::Lost),
}

impl Connection {
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::Http2(_) => Transport::Http2,
        }
    }

    /// Whether trailers have a way through. HTTP/2 has a place for them, and connectors of ours make one on a
    /// data stream.
    pub(crate) fn carries_trailers(&self) -> bool {
        match self {
            Self::Quic(_) => self.is_of_ours(),
            Self::Http2(_) => true,
        }
    }

    /// Whether the connector is ours, and so carries what stock ones do not. Known once it has registered.
    pub(crate) fn is_of_ours(&self) -> bool {
        match self {
            Self::Quic(connection) => connection.alpn().as_deref() == Some(alpn::ADIT),
            Self::Http2(connection) => connection.is_of_ours(),
        }
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote_address(),
            Self::Http2(connection) => connection.remote_address(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Quic(connection) => connection.is_closed(),
            Self::Http2(connection) => connection.is_closed(),
        }
    }

    /// Waits for the end.
    pub(crate) async fn closed(&self) -> Lost {
        match self {
            Self::Quic(connection) => Lost::Quic(connection.closed().await),
            Self::Http2(connection) => Lost::Http2(connection.closed().await),
        }
    }

    /// Ends it. The reason is for logs, and over QUIC for the connector.
    pub(crate) fn close(&self, reason: &'static str) {
        match self {
            Self::Quic(connection) => connection.close(CLOSE_CODE, reason.as_bytes()),
            Self::Http2(connection) => connection.close(reason),
        }
    }

    /// Asks for a sign of life now.
    pub(crate) fn check(&self) {
        match self {
            Self::Quic(connection) => connection.check(),
            Self::Http2(connection) => connection.check(),
        }
    }

    /// Waits until the connector is late with an answer although the connection may live, or is seen at a new
    /// address.
    pub(crate) async fn doubted(&self) {
        match self {
            Self::Quic(connection) => connection.doubted().await,
            Self::Http2(connection) => connection.doubted().await,
        }
    }

    /// Whether the connector is late with an answer.
    pub(crate) fn is_doubted(&self) -> bool {
        match self {
            Self::Quic(connection) => connection.is_doubted(),
            Self::Http2(connection) => connection.is_doubted(),
        }
    }

    /// Waits until the connector is not late any more. Never ends if the connection ends before.
    pub(crate) async fn cleared(&self) {
        match self {
            Self::Quic(connection) => connection.cleared().await,
            Self::Http2(connection) => connection.cleared().await,
        }
    }

    /// Waits until the connector takes no more exchanges although the connection lives.
    pub(crate) async fn leaving(&self) {
        match self {
            Self::Quic(_) => pending().await,
            Self::Http2(connection) => connection.leaving().await,
        }
    }
}
