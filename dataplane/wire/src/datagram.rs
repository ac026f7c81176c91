//! Datagrams of a tunnel connection: UDP flows and ICMP packets beside the streams.
//!
//! One framing is active per connection: [`v3`] if the connector registered the feature
//! [`DATAGRAM_V3`](crate::registration::feature::DATAGRAM_V3), else [`v2`]. Integers are big-endian.
//! Payloads are slices of the received datagram; nothing is copied.
//!
//! Source: cloudflared `quic/datagramv2.go`, `quic/v3/datagram.go`.

use uuid::Uuid;

pub mod v2;
pub mod v3;

/// Largest UDP payload and largest IP packet that either framing carries.
pub const PAYLOAD_BYTES_MAX: usize = 1280;

/// Bytes of a session id.
const SESSION_ID_SIZE: usize = 16;

/// One UDP flow over a tunnel connection, named by the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Uuid);

/// Why bytes are no datagram of the active framing, or a datagram cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Fewer bytes than the type needs.
    #[error("datagram of {size} bytes is too short")]
    TooShort {
        /// Bytes that came.
        size: usize,
    },
    /// More payload than [`PAYLOAD_BYTES_MAX`].
    #[error("payload of {size} bytes is larger than {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Bytes of the payload.
        size: usize,
    },
    /// A type that the framing does not have.
    #[error("unknown datagram type {0}")]
    UnknownType(u8),
    /// The length of a message does not agree with the bytes that follow.
    #[error("error message of a response does not have its length")]
    MessageLength,
    /// A result code that the framing does not have.
    #[error("unknown result {0} of a registration")]
    UnknownResult(u8),
}

fn check_payload(payload: &[u8]) -> Result<(), DatagramError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(DatagramError::TooLarge { size: payload.len() });
    }
    Ok(())
}
