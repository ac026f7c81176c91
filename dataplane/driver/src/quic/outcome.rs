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

    /// Whether the peer said that it does not know the connection any more: it was started anew.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        matches!(self.0, quinn_proto::ConnectionError::Reset)
    }

    /// Whether we closed it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.0, quinn_proto::ConnectionError::LocallyClosed)
    }

    pub(crate) fn silent() -> Self {
        Self(quinn_proto::ConnectionError::TimedOut)
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
    /// Shortest round-trip time seen.
    pub rtt_min: Duration,
    /// Bytes that may be under way at once.
    pub congestion_window: u64,
    /// UDP payload in use on the path, bytes.
    pub mtu: u16,
    /// Packets sent and found lost.
    pub lost_packets: u64,
    /// UDP payload bytes sent.
    pub sent_bytes: u64,
    /// UDP payload bytes received.
    pub received_bytes: u64,
    /// Frames sent.
    pub sent_frames: FrameCounts,
    /// Frames received.
    pub received_frames: FrameCounts,
}

/// Numbers of frames by type, in the order of [`FrameCounts::TYPES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts([u64; Self::TYPES.len()]);

impl FrameCounts {
    /// The frame types of RFC 9000 and RFC 9221 in one word each; both directions of streams count as one.
    pub const TYPES: [&'static str; 20] = [
        "Ping",
        "Ack",
        "ResetStream",
        "StopSending",
        "Crypto",
        "NewToken",
        "Stream",
        "MaxData",
        "MaxStreamData",
        "MaxStreams",
        "DataBlocked",
        "StreamDataBlocked",
        "StreamsBlocked",
        "NewConnectionID",
        "RetireConnectionID",
        "PathChallenge",
        "PathResponse",
        "ConnectionClose",
        "HandshakeDone",
        "Datagram",
    ];

    /// The counts in the order of the types.
    #[must_use]
    pub const fn counts(&self) -> &[u64; Self::TYPES.len()] {
        &self.0
    }
}

impl From<quinn_proto::FrameStats> for FrameCounts {
    fn from(stats: quinn_proto::FrameStats) -> Self {
        Self([
            stats.ping,
            stats.acks,
            stats.reset_stream,
            stats.stop_sending,
            stats.crypto,
            stats.new_token,
            stats.stream,
            stats.max_data,
            stats.max_stream_data,
            stats.max_streams_bidi + stats.max_streams_uni,
            stats.data_blocked,
            stats.stream_data_blocked,
            stats.streams_blocked_bidi + stats.streams_blocked_uni,
            stats.new_connection_id,
            stats.retire_connection_id,
            stats.path_challenge,
            stats.path_response,
            stats.connection_close,
            stats.handshake_done.into(),
            stats.datagram,
        ])
    }
}
