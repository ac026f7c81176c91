//! Datagram v3: what kind it is comes first, and sessions are registered by datagrams too.
//!
//! ```text
//! 0x00 | flags : u8 | port : u16 | idle seconds : u16 | id 16 | address 4 or 16 | bundled payload …
//! 0x01 | id 16 | payload …
//! 0x02 | IP packet …
//! 0x03 | result : u8 | id 16 | message length : u16 | message …
//! ```
//! Every fixed part is checked for its length: the stock connector does not, and a short registration
//! ends its process, so [`encode`] never makes one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::{DatagramError, SESSION_ID_SIZE, SessionId, check_payload};

const REGISTRATION: u8 = 0x00;
const PAYLOAD: u8 = 0x01;
const ICMP: u8 = 0x02;
const RESPONSE: u8 = 0x03;

const FLAG_IPV6: u8 = 1;
const FLAG_TRACED: u8 = 1 << 1;
const FLAG_BUNDLED: u8 = 1 << 2;

const RESULT_OK: u8 = 0x00;
const RESULT_UNREACHABLE: u8 = 0x01;
const RESULT_UNABLE_TO_BIND: u8 = 0x02;
const RESULT_TOO_MANY_FLOWS: u8 = 0x03;
const RESULT_MESSAGE: u8 = 0xFF;

/// Idle timeout of a session whose registration names none.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(210);

/// One datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram {
    /// Asks the connector to open a UDP session.
    Registration(Registration),
    /// Payload of a session, possibly empty.
    Payload {
        /// The session.
        session: SessionId,
        /// What the UDP datagram carried.
        payload: Bytes,
    },
    /// A whole ICMP packet with its IP header.
    Icmp(Bytes),
    /// The connector's answer to a registration.
    Response {
        /// The session.
        session: SessionId,
        /// What became of it.
        result: RegistrationResult,
    },
}

/// A UDP session to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Name chosen by the edge.
    pub session: SessionId,
    /// Where to send.
    pub destination: SocketAddr,
    /// Ends the session after this long without a packet; whole seconds on the wire, zero means
    /// [`IDLE_TIMEOUT_DEFAULT`].
    pub idle_timeout: Duration,
    /// Whether the flow is traced.
    pub is_traced: bool,
    /// First payload. The stock connector reads it and forwards nothing.
    pub bundled: Option<Bytes>,
}

/// What became of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationResult {
    /// The session is open.
    Ok,
    /// The destination cannot be reached.
    Unreachable,
    /// No socket could be opened.
    UnableToBind,
    /// The connector has too many flows.
    TooManyFlows,
    /// Something else, in human words; raw bytes of the peer.
    Failed(Bytes),
}

/// Decodes a received datagram.
///
/// # Errors
/// [`DatagramError`]; the datagram is to be counted and dropped, the connection goes on.
pub fn decode(mut bytes: Bytes) -> Result<Datagram, DatagramError> {
    let short = DatagramError::TooShort { size: bytes.len() };
    match bytes.try_get_u8().map_err(|_| short)? {
        REGISTRATION => decode_registration(bytes, short).map(Datagram::Registration),
        PAYLOAD => {
            let session = take_session(&mut bytes, short)?;
            check_payload(&bytes)?;
            Ok(Datagram::Payload {
                session,
                payload: bytes,
            })
        }
        ICMP if bytes.is_empty() => Err(short),
        ICMP => check_payload(&bytes).map(|()| Datagram::Icmp(bytes)),
        RESPONSE => decode_response(bytes, short),
        kind => Err(DatagramError::UnknownType(kind)),
    }
}

fn decode_registration(mut bytes: Bytes, short: DatagramError) -> Result<Registration, DatagramError> {
    let flags = bytes.try_get_u8().map_err(|_| short)?;
    let port = bytes.try_get_u16().map_err(|_| short)?;
    let idle_seconds = bytes.try_get_u16().map_err(|_| short)?;
    let session = take_session(&mut bytes, short)?;
    let address: IpAddr = if flags & FLAG_IPV6 == 0 {
        take::<4>(&mut bytes, short)?.into()
    } else {
        take::<16>(&mut bytes, short)?.into()
    };
    check_payload(&bytes)?;
    let idle_timeout = match idle_seconds {
        0 => IDLE_TIMEOUT_DEFAULT,
        seconds => Duration::from_secs(seconds.into()),
    };
    Ok(Registration {
        session,
        destination: SocketAddr::new(address, port),
        idle_timeout,
        is_traced: flags & FLAG_TRACED != 0,
        bundled: (flags & FLAG_BUNDLED != 0).then_some(bytes),
    })
}

fn decode_response(mut bytes: Bytes, short: DatagramError) -> Result<Datagram, DatagramError> {
    let result = bytes.try_get_u8().map_err(|_| short)?;
    let session = take_session(&mut bytes, short)?;
    let length = bytes.try_get_u16().map_err(|_| short)?;
    if usize::from(length) != bytes.len() {
        return Err(DatagramError::MessageLength);
    }
    check_payload(&bytes)?;
    let result = match result {
        RESULT_OK => RegistrationResult::Ok,
        RESULT_UNREACHABLE => RegistrationResult::Unreachable,
        RESULT_UNABLE_TO_BIND => RegistrationResult::UnableToBind,
        RESULT_TOO_MANY_FLOWS => RegistrationResult::TooManyFlows,
        RESULT_MESSAGE => RegistrationResult::Failed(bytes),
        other => return Err(DatagramError::UnknownResult(other)),
    };
    Ok(Datagram::Response { session, result })
}

fn take<const SIZE: usize>(bytes: &mut Bytes, short: DatagramError) -> Result<[u8; SIZE], DatagramError> {
    let taken = *bytes.first_chunk::<SIZE>().ok_or(short)?;
    bytes.advance(SIZE);
    Ok(taken)
}

fn take_session(bytes: &mut Bytes, short: DatagramError) -> Result<SessionId, DatagramError> {
    take::<SESSION_ID_SIZE>(bytes, short).map(|id| SessionId(Uuid::from_bytes(id)))
}

/// Encodes a datagram to send.
///
/// # Errors
/// [`DatagramError::TooLarge`], and [`DatagramError::TooShort`] for an empty ICMP packet.
pub fn encode(datagram: &Datagram) -> Result<Bytes, DatagramError> {
    match datagram {
        Datagram::Registration(registration) => encode_registration(registration),
        Datagram::Payload { session, payload } => {
            check_payload(payload)?;
            let mut out = BytesMut::with_capacity(1 + SESSION_ID_SIZE + payload.len());
            out.put_u8(PAYLOAD);
            out.put_slice(session.0.as_bytes());
            out.put_slice(payload);
            Ok(out.freeze())
        }
        Datagram::Icmp(packet) if packet.is_empty() => Err(DatagramError::TooShort { size: 1 }),
        Datagram::Icmp(packet) => {
            check_payload(packet)?;
            let mut out = BytesMut::with_capacity(1 + packet.len());
            out.put_u8(ICMP);
            out.put_slice(packet);
            Ok(out.freeze())
        }
        Datagram::Response { session, result } => encode_response(*session, result),
    }
}

fn encode_registration(registration: &Registration) -> Result<Bytes, DatagramError> {
    let bundled = registration.bundled.as_deref().unwrap_or_default();
    check_payload(bundled)?;
    let mut flags = 0;
    if registration.destination.is_ipv6() {
        flags |= FLAG_IPV6;
    }
    if registration.is_traced {
        flags |= FLAG_TRACED;
    }
    if registration.bundled.is_some() {
        flags |= FLAG_BUNDLED;
    }
    let mut out = BytesMut::with_capacity(64 + bundled.len());
    out.put_u8(REGISTRATION);
    out.put_u8(flags);
    out.put_u16(registration.destination.port());
    out.put_u16(u16::try_from(registration.idle_timeout.as_secs()).unwrap_or(u16::MAX));
    out.put_slice(registration.session.0.as_bytes());
    match registration.destination.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_slice(bundled);
    Ok(out.freeze())
}

fn encode_response(session: SessionId, result: &RegistrationResult) -> Result<Bytes, DatagramError> {
    let (code, message): (u8, &[u8]) = match result {
        RegistrationResult::Ok => (RESULT_OK, &[]),
        RegistrationResult::Unreachable => (RESULT_UNREACHABLE, &[]),
        RegistrationResult::UnableToBind => (RESULT_UNABLE_TO_BIND, &[]),
        RegistrationResult::TooManyFlows => (RESULT_TOO_MANY_FLOWS, &[]),
        RegistrationResult::Failed(message) => (RESULT_MESSAGE, message),
    };
    check_payload(message)?;
    let mut out = BytesMut::with_capacity(4 + SESSION_ID_SIZE + message.len());
    out.put_u8(RESPONSE);
    out.put_u8(code);
    out.put_slice(session.0.as_bytes());
    // At most the largest payload, as just checked.
    out.put_u16(message.len() as u16);
    out.put_slice(message);
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::super::PAYLOAD_BYTES_MAX;
    use super::*;

    fn session() -> SessionId {
        SessionId("5f602a5c-6a48-419f-882f-096011f7de11".parse().unwrap())
    }

    fn registration() -> Registration {
        Registration {
            session: session(),
            destination: "127.0.0.1:18002".parse().unwrap(),
            idle_timeout: Duration::from_secs(5),
            is_traced: false,
            bundled: Some(Bytes::from_static(b"bundled")),
        }
    }

    fn check(bytes: &'static [u8], expected: &Datagram) {
        assert_eq!(decode(Bytes::from_static(bytes)), Ok(expected.clone()));
        assert_eq!(encode(expected).unwrap(), bytes);
    }

    #[test]
    fn captures_decode_and_encode_to_the_same_bytes() {
        let icmp = include_bytes!("../../fixtures/datagram_v3_icmp.bin");
        check(
            include_bytes!("../../fixtures/datagram_v3_registration.bin"),
            &Datagram::Registration(registration()),
        );
        check(
            include_bytes!("../../fixtures/datagram_v3_payload.bin"),
            &Datagram::Payload {
                session: session(),
                payload: Bytes::from_static(b"echo:payload"),
            },
        );
        check(icmp, &Datagram::Icmp(Bytes::from_static(&icmp[1..])));
        check(
            include_bytes!("../../fixtures/datagram_v3_response.bin"),
            &Datagram::Response {
                session: session(),
                result: RegistrationResult::Ok,
            },
        );
    }

    #[test]
    fn every_form_survives_a_round_trip() {
        let mut traced = registration();
        traced.destination = "[2001:db8::1]:53".parse().unwrap();
        traced.is_traced = true;
        traced.bundled = None;
        let mut forms = vec![Datagram::Registration(traced)];
        for result in [
            RegistrationResult::Unreachable,
            RegistrationResult::UnableToBind,
            RegistrationResult::TooManyFlows,
            RegistrationResult::Failed(Bytes::from_static(b"no")),
        ] {
            forms.push(Datagram::Response {
                session: session(),
                result,
            });
        }
        for form in forms {
            assert_eq!(decode(encode(&form).unwrap()), Ok(form));
        }
    }

    #[test]
    fn a_registration_without_idle_timeout_gets_the_default() {
        let mut silent = registration();
        silent.idle_timeout = Duration::ZERO;
        let decoded = decode(encode(&Datagram::Registration(silent)).unwrap()).unwrap();
        let Datagram::Registration(decoded) = decoded else {
            panic!("a registration")
        };
        assert_eq!(decoded.idle_timeout, IDLE_TIMEOUT_DEFAULT);
    }

    #[test]
    fn every_cut_of_a_fixed_part_is_refused() {
        for (capture, fixed) in [
            (
                &include_bytes!("../../fixtures/datagram_v3_registration.bin")[..],
                26,
            ),
            (include_bytes!("../../fixtures/datagram_v3_payload.bin"), 17),
            (include_bytes!("../../fixtures/datagram_v3_response.bin"), 20),
            (include_bytes!("../../fixtures/datagram_v3_icmp.bin"), 2),
        ] {
            for size in 0..fixed {
                let refused = decode(Bytes::copy_from_slice(&capture[..size]));
                assert_eq!(refused, Err(DatagramError::TooShort { size }));
            }
            assert!(decode(Bytes::copy_from_slice(&capture[..fixed])).is_ok());
        }
    }

    #[test]
    fn large_lying_and_unknown_datagrams_are_refused() {
        let refused = |bytes: Vec<u8>| decode(bytes.into()).unwrap_err();
        let size = PAYLOAD_BYTES_MAX + 1;
        assert_eq!(refused(vec![ICMP; size + 1]), DatagramError::TooLarge { size });
        assert_eq!(
            refused(vec![PAYLOAD; size + 17]),
            DatagramError::TooLarge { size }
        );
        assert_eq!(refused(vec![9]), DatagramError::UnknownType(9));
        assert_eq!(refused(vec![RESPONSE; 20]), DatagramError::MessageLength);
        let mut odd = vec![RESPONSE, 9];
        odd.extend([0; 18]);
        assert_eq!(refused(odd), DatagramError::UnknownResult(9));
    }
}
