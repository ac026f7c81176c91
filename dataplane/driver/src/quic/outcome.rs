//! How a connection ended, and what it measured while it lived.

use std::time::Duration;

/// Why a connection ended.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct ConnectionError(#[from] quinn_proto::ConnectionError);

impl ConnectionError {
    /// The application error code, when the peer closed deliberately (RFC 9000 §10.2).
    #[must_use]
    pub fn application_code(&self) -> Option<u64> {
        if let quinn_proto::ConnectionError::ApplicationClosed(close) = &self.0 {
            Some(close.error_code.into_inner())
        } else {
            None
        }
    }

    /// Whether the peer fell silent.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, quinn_proto::ConnectionError::TimedOut)
    }

    /// Whether we closed it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.0, quinn_proto::ConnectionError::LocallyClosed)
    }

    pub(crate) fn local() -> Self {
        Self(quinn_proto::ConnectionError::LocallyClosed)
    }
}

/// What a connection has measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionStats {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// UDP payload in use on the path, bytes.
    pub mtu: u16,
    /// Packets sent and found lost.
    pub lost_packets: u64,
    /// UDP payload bytes sent.
    pub sent_bytes: u64,
    /// UDP payload bytes received.
    pub received_bytes: u64,
}
