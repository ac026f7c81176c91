//! Version 2: binary.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Ends, HEADER_BYTES_MAX, Header, Said, Unlawful, begins_with};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const HEAD_BYTES: usize = 16;

/// Version in the upper half, command in the lower.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// What is written where the visitor is not known: signature, [`LOCAL`], no family, no length.
pub(super) const NOBODY: &[u8; HEAD_BYTES] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Family in the upper half, transport in the lower.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const FAMILY_MAX: u8 = 3;
const TRANSPORT_MAX: u8 = 2;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Unlawful> {
    if begins_with(bytes, SIGNATURE)?.is_none() {
        return Ok(None);
    }
    let Some([command, family, length_high, length_low]) = bytes
        .get(SIGNATURE.len()..HEAD_BYTES)
        .and_then(|head| <[u8; 4]>::try_from(head).ok())
    else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    let size = HEAD_BYTES + length;
    let is_known = family >> 4 <= FAMILY_MAX && family & 0x0f <= TRANSPORT_MAX;
    if !matches!(command, LOCAL | PROXY) || !is_known || size > HEADER_BYTES_MAX {
        return Err(Unlawful);
    }
    let needed = match (command, family) {
        (PROXY, TCP4) => 12,
        (PROXY, TCP6) => 36,
        _ => 0,
    };
    if length < needed {
        return Err(Unlawful);
    }
    let Some(rest) = bytes.get(HEAD_BYTES..size) else {
        return Ok(None);
    };
    let said = match (command, family) {
        (PROXY, TCP4) => visitor::<4>(rest)?,
        (PROXY, TCP6) => visitor::<16>(rest)?,
        _ => Said::Nobody,
    };
    Ok(Some(Header { said, size }))
}

/// Two addresses of `N` bytes each, and two ports.
fn visitor<const N: usize>(rest: &[u8]) -> Result<Said, Unlawful>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = rest.split_first_chunk::<N>().ok_or(Unlawful)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(Unlawful)?;
    let [a, b, c, d] = *rest.first_chunk::<4>().ok_or(Unlawful)?;
    Ok(Said::Visitor(Ends {
        source: SocketAddr::new((*source).into(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new((*destination).into(), u16::from_be_bytes([c, d])),
    }))
}

pub(super) fn encode(ends: &Ends) -> Bytes {
    let (family, length) = if ends.source.is_ipv4() {
        (TCP4, 12)
    } else {
        (TCP6, 36)
    };
    let mut out = BytesMut::with_capacity(HEAD_BYTES + usize::from(length));
    out.put_slice(SIGNATURE);
    out.put_u8(PROXY);
    out.put_u8(family);
    out.put_u16(length);
    for end in [ends.source, ends.destination] {
        match end.ip() {
            IpAddr::V4(v4) => out.put_slice(&v4.octets()),
            IpAddr::V6(v6) => out.put_slice(&v6.octets()),
        }
    }
    out.put_u16(ends.source.port());
    out.put_u16(ends.destination.port());
    out.freeze()
}
