//! The client's side of SOCKS5, up to the reply to CONNECT.

use std::net::IpAddr;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Credentials, Refused, Step};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
/// Version of the conversation about user and password (RFC 1929).
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

const WRONG: Refused = Refused::Protocol { kind: "SOCKS5" };

/// Where the conversation is.
#[derive(Debug)]
pub(super) struct Client {
    phase: Phase,
    credentials: Option<Credentials>,
    request: Bytes,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Method,
    Password,
    Reply,
}

impl Client {
    pub(super) fn begin(
        credentials: Option<Credentials>,
        host: &str,
        port: u16,
    ) -> Result<(Self, Bytes), Refused> {
        let greeting: &[u8] = if credentials.is_some() {
            &[VERSION, 2, NO_AUTHENTICATION, PASSWORD]
        } else {
            &[VERSION, 1, NO_AUTHENTICATION]
        };
        let client = Self {
            phase: Phase::Method,
            credentials,
            request: request(host, port)?,
        };
        Ok((client, Bytes::copy_from_slice(greeting)))
    }

    pub(super) fn handle(&mut self, read: &mut BytesMut) -> Result<Step, Refused> {
        match self.phase {
            Phase::Method => self.method(read),
            Phase::Password => self.password(read),
            Phase::Reply => reply(read),
        }
    }

    fn method(&mut self, read: &mut BytesMut) -> Result<Step, Refused> {
        let [version, method, ..] = **read else {
            return unfinished(read);
        };
        read.advance(2);
        match (version, method, &self.credentials) {
            (VERSION, NO_AUTHENTICATION, _) => Ok(self.ask()),
            (VERSION, PASSWORD, Some(credentials)) => {
                self.phase = Phase::Password;
                Ok(Step::Send(told(credentials)))
            }
            (VERSION, NO_METHOD | PASSWORD, credentials) => Err(Refused::Credentials {
                had_credentials: credentials.is_some(),
            }),
            (_, _, _) => Err(WRONG),
        }
    }

    fn password(&mut self, read: &mut BytesMut) -> Result<Step, Refused> {
        let [version, status, ..] = **read else {
            return Ok(Step::Read);
        };
        read.advance(2);
        match (version, status) {
            (PASSWORD_VERSION, 0) => Ok(self.ask()),
            (PASSWORD_VERSION, _) => Err(Refused::Credentials {
                had_credentials: true,
            }),
            (_, _) => Err(WRONG),
        }
    }

    fn ask(&mut self) -> Step {
        self.phase = Phase::Reply;
        Step::Send(self.request.clone())
    }
}

/// A wrong first byte is told at once: an HTTP proxy would wait for more of us.
fn unfinished(read: &[u8]) -> Result<Step, Refused> {
    match read.first() {
        None | Some(&VERSION) => Ok(Step::Read),
        Some(_) => Err(WRONG),
    }
}

fn reply(read: &mut BytesMut) -> Result<Step, Refused> {
    let [version, code, _, kind, first, ..] = **read else {
        return unfinished(read);
    };
    if version != VERSION {
        return Err(WRONG);
    }
    if let Some(reason) = reason(code) {
        return Err(Refused::Reply { reason });
    }
    // The address that the proxy dials from, of which nothing is needed but its size.
    let address = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => 1 + usize::from(first),
        _ => return Err(WRONG),
    };
    let size = 4 + address + 2;
    if read.len() < size {
        return Ok(Step::Read);
    }
    read.advance(size);
    Ok(Step::Through)
}

fn reason(code: u8) -> Option<&'static str> {
    Some(match code {
        0 => return None,
        1 => "general failure",
        2 => "its rules do not allow the connection",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "for a reason that SOCKS5 does not know",
    })
}

fn told(Credentials { user, password }: &Credentials) -> Bytes {
    let mut bytes = BytesMut::with_capacity(3 + user.len() + password.len());
    bytes.put_u8(PASSWORD_VERSION);
    for text in [user, password] {
        // Checked when they were read.
        bytes.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
        bytes.put_slice(text.as_bytes());
    }
    bytes.freeze()
}

fn request(host: &str, port: u16) -> Result<Bytes, Refused> {
    let mut bytes = BytesMut::with_capacity(7 + host.len());
    bytes.put_slice(&[VERSION, CONNECT, 0]);
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            bytes.put_u8(IPV4);
            bytes.put_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            bytes.put_u8(IPV6);
            bytes.put_slice(&address.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len()).map_err(|_| Refused::Destination)?;
            if length == 0 {
                return Err(Refused::Destination);
            }
            bytes.put_slice(&[NAME, length]);
            bytes.put_slice(host.as_bytes());
        }
    }
    bytes.put_u16(port);
    Ok(bytes.freeze())
}
