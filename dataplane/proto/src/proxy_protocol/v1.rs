//! Version 1: a line of text.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::{Ends, Header, Said, Unlawful, begins_with};

const PREFIX: &[u8] = b"PROXY ";

/// What is written where the visitor is not known.
pub(super) const NOBODY: &[u8] = b"PROXY UNKNOWN\r\n";

/// Longest line with its end, as the specification says.
const LINE_BYTES_MAX: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, Unlawful> {
    if begins_with(bytes, PREFIX)?.is_none() {
        return Ok(None);
    }
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return match bytes.len() {
            LINE_BYTES_MAX.. => Err(Unlawful),
            _ => Ok(None),
        };
    };
    let line = bytes
        .get(PREFIX.len()..end)
        .and_then(|line| line.strip_suffix(b"\r"));
    let line = line
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(Unlawful)?;
    Ok(Some(Header {
        said: said(line)?,
        size: end + 1,
    }))
}

fn said(line: &str) -> Result<Said, Unlawful> {
    let mut words = line.split(' ');
    let family = words.next().ok_or(Unlawful)?;
    if family == "UNKNOWN" {
        // What follows is to be ignored.
        return Ok(Said::Nobody);
    }
    let mut address = || -> Result<IpAddr, Unlawful> {
        let address: IpAddr = words.next().and_then(|word| word.parse().ok()).ok_or(Unlawful)?;
        let is_fit = match family {
            "TCP4" => address.is_ipv4(),
            "TCP6" => address.is_ipv6(),
            _ => false,
        };
        is_fit.then_some(address).ok_or(Unlawful)
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || words.next().and_then(port).ok_or(Unlawful);
    let ends = Ends {
        source: SocketAddr::new(source, port()?),
        destination: SocketAddr::new(destination, port()?),
    };
    match words.next() {
        None => Ok(Said::Visitor(ends)),
        Some(_) => Err(Unlawful),
    }
}

/// A number without sign and leading zeros.
fn port(word: &str) -> Option<u16> {
    let is_plain = word == "0"
        || word
            .bytes()
            .next()
            .is_some_and(|digit| matches!(digit, b'1'..=b'9'));
    word.parse().ok().filter(|_| is_plain)
}

pub(super) fn encode(ends: &Ends) -> Bytes {
    let Ends { source, destination } = ends;
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    line.into()
}
