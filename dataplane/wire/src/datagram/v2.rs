//! Datagram v2: what kind it is comes last.
//!
//! ```text
//! | payload … | metadata            | type : u8 |
//! | UDP       | session id 16       | 0         |
//! | IP packet |                     | 1         |
//! | IP packet | trace identity 25   | 2         |
//! | spans     | trace identity 25   | 3         |  connector to edge only: it ends a stock connector
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::{DatagramError, SESSION_ID_SIZE, SessionId, check_payload};

const UDP: u8 = 0;
const IP: u8 = 1;
const TRACED_IP: u8 = 2;
const SPANS: u8 = 3;

/// Bytes of a trace identity: trace id 16, span id 8, flags 1.
pub const TRACE_IDENTITY_SIZE: usize = 25;

/// Where a traced packet belongs; opaque here.
pub type TraceIdentity = [u8; TRACE_IDENTITY_SIZE];

/// One datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram {
    /// Payload of a registered UDP session, possibly empty.
    Udp {
        /// The session.
        session: SessionId,
        /// What the UDP datagram carried.
        payload: Bytes,
    },
    /// A whole IP packet; only ICMP means anything.
    Ip(Bytes),
    /// The same with its trace.
    TracedIp {
        /// Where it belongs.
        trace: TraceIdentity,
        /// The whole IP packet.
        packet: Bytes,
    },
    /// Tracing spans of the connector.
    Spans {
        /// Where they belong.
        trace: TraceIdentity,
        /// Encoded spans.
        spans: Bytes,
    },
}

/// Decodes a received datagram.
///
/// # Errors
/// [`DatagramError`]; the datagram is to be counted and dropped, the connection goes on.
pub fn decode(mut bytes: Bytes) -> Result<Datagram, DatagramError> {
    let Some((&kind, _)) = bytes.split_last() else {
        return Err(DatagramError::TooShort { size: 0 });
    };
    let metadata_size = match kind {
        UDP => SESSION_ID_SIZE,
        IP => 0,
        TRACED_IP | SPANS => TRACE_IDENTITY_SIZE,
        _ => return Err(DatagramError::UnknownType(kind)),
    };
    let size = bytes.len();
    let Some(payload_size) = size.checked_sub(metadata_size + 1) else {
        return Err(DatagramError::TooShort { size });
    };
    let metadata = bytes.split_off(payload_size);
    check_payload(&bytes)?;
    let trace = || {
        metadata
            .first_chunk()
            .copied()
            .ok_or(DatagramError::TooShort { size })
    };
    Ok(match kind {
        UDP => {
            let id = metadata
                .first_chunk()
                .copied()
                .ok_or(DatagramError::TooShort { size })?;
            Datagram::Udp {
                session: SessionId(Uuid::from_bytes(id)),
                payload: bytes,
            }
        }
        IP => Datagram::Ip(bytes),
        TRACED_IP => Datagram::TracedIp {
            trace: trace()?,
            packet: bytes,
        },
        _ => Datagram::Spans {
            trace: trace()?,
            spans: bytes,
        },
    })
}

/// Encodes a datagram to send.
///
/// # Errors
/// [`DatagramError::TooLarge`].
pub fn encode(datagram: &Datagram) -> Result<Bytes, DatagramError> {
    let (payload, metadata, kind): (&Bytes, &[u8], u8) = match datagram {
        Datagram::Udp { session, payload } => (payload, session.0.as_bytes(), UDP),
        Datagram::Ip(packet) => (packet, &[], IP),
        Datagram::TracedIp { trace, packet } => (packet, trace, TRACED_IP),
        Datagram::Spans { trace, spans } => (spans, trace, SPANS),
    };
    check_payload(payload)?;
    let mut out = BytesMut::with_capacity(payload.len() + metadata.len() + 1);
    out.put_slice(payload);
    out.put_slice(metadata);
    out.put_u8(kind);
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::super::PAYLOAD_BYTES_MAX;
    use super::*;

    fn check(bytes: &'static [u8], expected: &Datagram) {
        assert_eq!(decode(Bytes::from_static(bytes)), Ok(expected.clone()));
        assert_eq!(encode(expected).unwrap(), bytes);
    }

    #[test]
    fn captures_decode_and_encode_to_the_same_bytes() {
        let session = SessionId("39340e86-1556-4927-a2f7-fe37cd33f7ec".parse().unwrap());
        check(
            include_bytes!("../../fixtures/datagram_v2_udp.bin"),
            &Datagram::Udp {
                session,
                payload: Bytes::from_static(b"udp hello"),
            },
        );
        for capture in [
            &include_bytes!("../../fixtures/datagram_v2_ip.bin")[..],
            include_bytes!("../../fixtures/datagram_v2_time_exceeded.bin"),
        ] {
            check(
                capture,
                &Datagram::Ip(Bytes::from_static(&capture[..capture.len() - 1])),
            );
        }
    }

    #[test]
    fn traced_packets_and_spans_survive_a_round_trip() {
        let trace = [7; TRACE_IDENTITY_SIZE];
        for datagram in [
            Datagram::TracedIp {
                trace,
                packet: Bytes::from_static(b"packet"),
            },
            Datagram::Spans {
                trace,
                spans: Bytes::new(),
            },
        ] {
            assert_eq!(decode(encode(&datagram).unwrap()), Ok(datagram));
        }
    }

    #[test]
    fn short_large_and_unknown_datagrams_are_refused() {
        let refused = |bytes: Vec<u8>| decode(bytes.into()).unwrap_err();
        assert_eq!(refused(vec![]), DatagramError::TooShort { size: 0 });
        assert_eq!(refused(vec![UDP; 16]), DatagramError::TooShort { size: 16 });
        assert_eq!(refused(vec![TRACED_IP; 25]), DatagramError::TooShort { size: 25 });
        assert_eq!(refused(vec![4; 40]), DatagramError::UnknownType(4));
        let size = PAYLOAD_BYTES_MAX + 1;
        assert_eq!(refused(vec![IP; size + 1]), DatagramError::TooLarge { size });
        assert_eq!(
            encode(&Datagram::Ip(vec![0; size].into())),
            Err(DatagramError::TooLarge { size })
        );
    }
}
