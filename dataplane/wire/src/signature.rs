//! First bytes of a stream, which say what the stream is for.
//!
//! The control stream has none: it is the first stream that the connector opens, and starts with
//! Cap'n Proto RPC at once. Every other stream starts with one of two signatures, written once by
//! its opener; a reply on a data stream starts with the data signature again.
//!
//! Source: cloudflared `tunnelrpc/quic/protocol.go`.

/// Bytes of a signature.
pub const SIGNATURE_SIZE: usize = 6;

/// Starts a stream that carries one exchange, in both directions.
pub const DATA_STREAM: [u8; SIGNATURE_SIZE] = [0x0A, 0x36, 0xCD, 0x12, 0xA1, 0x3E];

/// Starts a stream that carries Cap'n Proto RPC; only its opener sends it.
pub const RPC_STREAM: [u8; SIGNATURE_SIZE] = [0x52, 0xBB, 0x82, 0x5C, 0xDB, 0x65];

/// Follows [`DATA_STREAM`]: protocol version 1 in ASCII.
///
/// The stock connector reads it and does not check it, and neither do we: a peer that speaks
/// another version says so by its signature.
pub const VERSION: [u8; 2] = *b"01";

/// What a stream that is not the control stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// One exchange.
    Data,
    /// Cap'n Proto RPC.
    Rpc,
}

impl StreamKind {
    /// Reads the kind off the first [`SIGNATURE_SIZE`] bytes; `None` if they are no signature or
    /// fewer. The caller waits for that many bytes, and resets a stream of no known kind with code 0.
    pub fn of(first_bytes: &[u8]) -> Option<Self> {
        match *first_bytes.first_chunk::<SIGNATURE_SIZE>()? {
            DATA_STREAM => Some(Self::Data),
            RPC_STREAM => Some(Self::Rpc),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_read_off_the_signature_alone() {
        assert_eq!(
            StreamKind::of(include_bytes!("../fixtures/http_get_request_head.bin")),
            Some(StreamKind::Data)
        );
        assert_eq!(
            StreamKind::of(include_bytes!("../fixtures/update_configuration_call.bin")),
            Some(StreamKind::Rpc)
        );
        assert_eq!(StreamKind::of(&DATA_STREAM[..5]), None);
        assert_eq!(StreamKind::of(b"GET / "), None);
        assert_eq!(StreamKind::of(&[]), None);
    }
}
