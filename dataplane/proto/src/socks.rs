//! The server's side of SOCKS5 up to the point where bytes are relayed: greeting, request, reply.
//!
//! ```text
//! client: 5, count, methods …            server: 5, 0 (no authentication)   or 5, 0xff and the end
//! client: 5, 1 (CONNECT), 0, destination server: 5, reply, 0, 1, 0.0.0.0:0
//! ```
//! At most one greeting or request is held. Bytes behind the request belong to the destination.
//!
//! Does not: resolve names, dial, decide what is allowed; take BIND, UDP ASSOCIATE or passwords.
//!
//! Source: RFC 1928; cloudflared `socks/*.go`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf as _, Bytes};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Agrees to no authentication.
pub const WELCOME: [u8; 2] = [VERSION, NO_AUTHENTICATION];

/// No offered method is acceptable.
const NO_METHOD: [u8; 2] = [VERSION, 0xff];

/// Where a client wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Address(SocketAddr),
    /// A name to resolve, and the port.
    Name(String, u16),
}

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Its greeting, to be answered with [`WELCOME`].
    Greeting,
    /// Where it wants to be connected to, to be answered with a [`Reply`].
    Connect(Destination),
}

/// The answer to a request (RFC 1928 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Connected.
    Succeeded = 0,
    /// The rules forbid it, or the name is unknown.
    NotAllowed = 2,
    /// No route there.
    NetworkUnreachable = 3,
    /// Nobody there.
    HostUnreachable = 4,
    /// Nobody listens there.
    Refused = 5,
    /// BIND, UDP ASSOCIATE or nonsense.
    CommandNotSupported = 7,
    /// Neither an address nor a name.
    AddressNotSupported = 8,
}

impl Reply {
    /// As it is sent; the bound address is not told.
    pub fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]
    }
}

/// The client cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocksError {
    /// Another version, or no SOCKS at all.
    #[error("the client does not speak SOCKS5")]
    Version,
    /// It insists on authentication.
    #[error("the SOCKS client offers no method without authentication")]
    Method,
    /// It wants something other than CONNECT.
    #[error("the SOCKS command {0} is not supported")]
    Command(u8),
    /// The destination is of an unknown kind.
    #[error("the SOCKS address type {0} is not supported")]
    AddressType(u8),
    /// A name that is empty or not text.
    #[error("the SOCKS destination is not a name")]
    Name,
}

impl SocksError {
    /// What to tell the client before the end; nothing to one that speaks something else.
    pub fn reply(self) -> Bytes {
        match self {
            Self::Version => Bytes::new(),
            Self::Method => Bytes::from_static(&NO_METHOD),
            Self::Command(_) => Bytes::copy_from_slice(&Reply::CommandNotSupported.bytes()),
            Self::AddressType(_) => Bytes::copy_from_slice(&Reply::AddressNotSupported.bytes()),
            Self::Name => Bytes::copy_from_slice(&Reply::HostUnreachable.bytes()),
        }
    }
}

/// Reads what a client says, however it is cut.
#[derive(Debug, Default)]
pub struct Handshake {
    held: Vec<u8>,
    is_greeted: bool,
}

impl Handshake {
    /// Takes from `bytes` up to the end of the greeting or request; `None` when more is needed.
    ///
    /// # Errors
    /// [`SocksError`]; its [`reply`](SocksError::reply) is still owed.
    pub fn handle_bytes(&mut self, bytes: &mut Bytes) -> Result<Option<Said>, SocksError> {
        // A message is at most some 262 bytes long and taken byte by byte, so what follows it stays.
        while bytes.has_remaining() {
            self.held.push(bytes.get_u8());
            let said = if self.is_greeted {
                request(&self.held)?.map(Said::Connect)
            } else {
                greeting(&self.held)?.map(|()| Said::Greeting)
            };
            if said.is_some() {
                self.held.clear();
                self.is_greeted = true;
                return Ok(said);
            }
        }
        Ok(None)
    }
}

fn greeting(bytes: &[u8]) -> Result<Option<()>, SocksError> {
    match bytes {
        [version, ..] if *version != VERSION => Err(SocksError::Version),
        [_, count, methods @ ..] if methods.len() >= usize::from(*count) => {
            if methods.contains(&NO_AUTHENTICATION) {
                Ok(Some(()))
            } else {
                Err(SocksError::Method)
            }
        }
        _ => Ok(None),
    }
}

fn request(bytes: &[u8]) -> Result<Option<Destination>, SocksError> {
    let [version, command, _, kind, rest @ ..] = bytes else {
        return Ok(None);
    };
    if *version != VERSION {
        return Err(SocksError::Version);
    }
    if *command != CONNECT {
        return Err(SocksError::Command(*command));
    }
    let at = |address: IpAddr, [a, b]: [u8; 2]| {
        Destination::Address(SocketAddr::new(address, u16::from_be_bytes([a, b])))
    };
    match *kind {
        IPV4 => Ok(rest
            .split_first_chunk::<4>()
            .and_then(|(address, port)| Some(at(Ipv4Addr::from(*address).into(), port.try_into().ok()?)))),
        IPV6 => Ok(rest
            .split_first_chunk::<16>()
            .and_then(|(address, port)| Some(at(Ipv6Addr::from(*address).into(), port.try_into().ok()?)))),
        NAME => name(rest),
        other => Err(SocksError::AddressType(other)),
    }
}

fn name(bytes: &[u8]) -> Result<Option<Destination>, SocksError> {
    let Some((length, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((name, port)) = rest.split_at_checked(usize::from(*length)) else {
        return Ok(None);
    };
    let Ok(port) = <[u8; 2]>::try_from(port) else {
        return Ok(None);
    };
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
    let name = name.ok_or(SocksError::Name)?;
    // Some clients write an address as a name.
    let port = u16::from_be_bytes(port);
    Ok(Some(match name.parse::<IpAddr>() {
        Ok(address) => Destination::Address(SocketAddr::new(address, port)),
        Err(_) => Destination::Name(name.to_owned(), port),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client says and what is left of it.
    fn hear(input: &[u8]) -> Result<(Vec<Said>, Vec<u8>), SocksError> {
        let (mut handshake, mut bytes, mut said) =
            (Handshake::default(), Bytes::copy_from_slice(input), vec![]);
        while let Some(next) = handshake.handle_bytes(&mut bytes)? {
            let is_request = matches!(next, Said::Connect(_));
            said.push(next);
            if is_request {
                break;
            }
        }
        Ok((said, bytes.to_vec()))
    }

    fn check(request: &[u8], wanted: Result<Destination, SocksError>) {
        let input = [b"\x05\x02\x02\x00", request].concat();
        let found = hear(&input).map(|(said, rest)| {
            assert_eq!(rest, b"");
            said
        });
        let wanted = wanted.map(|destination| vec![Said::Greeting, Said::Connect(destination)]);
        assert_eq!(found, wanted, "{request:x?}");
    }

    #[test]
    fn destinations_of_each_kind_are_read() {
        let address = |text: &str| Ok(Destination::Address(text.parse().unwrap()));
        check(
            b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x16",
            address("127.0.0.1:22"),
        );
        check(
            b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb",
            address("[::1]:443"),
        );
        check(
            b"\x05\x01\x00\x03\x03app\x00\x50",
            Ok(Destination::Name("app".to_owned(), 80)),
        );
        check(
            b"\x05\x01\x00\x03\x0710.0.0.\x00\x50",
            Ok(Destination::Name("10.0.0.".to_owned(), 80)),
        );
        check(b"\x05\x01\x00\x03\x0810.0.0.1\x00\x50", address("10.0.0.1:80"));
    }

    #[test]
    fn what_cannot_be_served_is_answered() {
        check(b"\x05\x02\x00\x01", Err(SocksError::Command(2)));
        check(b"\x05\x01\x00\x09", Err(SocksError::AddressType(9)));
        check(b"\x05\x01\x00\x03\x00\x00\x50", Err(SocksError::Name));
        check(b"\x05\x01\x00\x03\x01\xff\x00\x50", Err(SocksError::Name));
        check(b"\x04\x01\x00\x01", Err(SocksError::Version));
        assert_eq!(hear(b"\x05\x01\x02"), Err(SocksError::Method));
        assert_eq!(hear(b"GET / HTTP/1.1"), Err(SocksError::Version));
        assert_eq!(SocksError::Method.reply(), &b"\x05\xff"[..]);
        assert_eq!(SocksError::Command(2).reply()[..2], [5, 7]);
    }

    #[test]
    fn the_first_bytes_for_the_destination_stay() {
        let input = b"\x05\x01\x00\x05\x01\x00\x01\x0a\0\0\x01\x00\x16SSH-2.0";
        let (said, rest) = hear(input).unwrap();
        assert_eq!((said.len(), &rest[..]), (2, &b"SSH-2.0"[..]));
    }

    #[test]
    fn cuts_change_nothing() {
        let input = b"\x05\x01\x00\x05\x01\x00\x03\x03app\x00\x50rest";
        for cut in 0..=input.len() {
            let (mut handshake, mut said, mut rest) = (Handshake::default(), 0, Vec::new());
            for part in [&input[..cut], &input[cut..]] {
                let mut bytes = Bytes::copy_from_slice(part);
                while said < 2 && handshake.handle_bytes(&mut bytes).unwrap().is_some() {
                    said += 1;
                }
                rest.extend_from_slice(&bytes);
            }
            assert_eq!((said, &rest[..]), (2, &b"rest"[..]), "{cut}");
        }
    }
}
