//! The PROXY protocol: a header before the bytes of a connection, in which a proxy says for whom it
//! connected.
//!
//! ```text
//! v1: PROXY TCP4 192.0.2.1 198.51.100.7 40000 443\r\n
//! v2: signature 12 | version, command 1 | family 1 | length u16 | addresses and extensions
//! ```
//! Both are read and written. Extensions of v2 are stepped over.
//!
//! Does not: decide who may send one. Whoever is not trusted could claim any address.
//!
//! Source: HAProxy's `proxy-protocol.txt`, versions 1 and 2.

mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

/// Longest header that is read. Version 1 has 107 bytes at most. Version 2 has room for extensions, and those
/// about a client's certificate take some hundred bytes.
pub const HEADER_BYTES_MAX: usize = 4 << 10;

/// Versions of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Version {
    /// Reads `v1` or `v2`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Self::V1),
            "v2" => Some(Self::V2),
            _ => None,
        }
    }

    /// As in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// The two ends of a visitor's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The visitor.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The connection is for a visitor.
    Visitor(Ends),
    /// The proxy itself connects, to see whether we live, or cannot say for whom.
    Nobody,
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it says.
    pub said: Said,
    /// Bytes it takes; what follows them is the visitor's.
    pub size: usize,
}

/// The bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY header, or a broken one")]
pub struct Unlawful;

/// Reads a header from the beginning of `bytes`; `None` while it is not whole.
///
/// # Errors
/// [`Unlawful`], at the first byte that cannot belong to a header or when it exceeds [`HEADER_BYTES_MAX`].
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Unlawful> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => v1::parse(bytes),
        Some(_) => v2::parse(bytes),
    }
}

/// Writes a header.
pub fn encode(version: Version, said: &Said) -> Bytes {
    match (version, said) {
        (Version::V1, Said::Visitor(ends)) => v1::encode(&ends.of_one_family()),
        (Version::V2, Said::Visitor(ends)) => v2::encode(&ends.of_one_family()),
        (Version::V1, Said::Nobody) => Bytes::from_static(v1::NOBODY),
        (Version::V2, Said::Nobody) => Bytes::from_static(v2::NOBODY),
    }
}

impl Ends {
    /// A header has one address family for both ends. An IPv4 address beside an IPv6 one is written as mapped
    /// into IPv6.
    fn of_one_family(self) -> Self {
        let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let mapped = |end: SocketAddr| match end.ip() {
            IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), end.port()),
            IpAddr::V6(_) => end,
        };
        let (source, destination) = (plain(self.source), plain(self.destination));
        if source.is_ipv4() == destination.is_ipv4() {
            return Self { source, destination };
        }
        Self {
            source: mapped(source),
            destination: mapped(destination),
        }
    }
}

/// Whether `bytes` could become `whole`, and are it: `None` while they are only its beginning.
fn begins_with(bytes: &[u8], whole: &[u8]) -> Result<Option<()>, Unlawful> {
    let count = bytes.len().min(whole.len());
    if bytes.get(..count) != whole.get(..count) {
        return Err(Unlawful);
    }
    Ok((count == whole.len()).then_some(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(source: &str, destination: &str) -> Ends {
        Ends {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn read(bytes: &[u8]) -> Result<Option<Header>, Unlawful> {
        let whole = parse(bytes);
        // However it is cut, nothing else comes out, and nothing before the end.
        let size = match whole {
            Ok(Some(header)) => header.size,
            Ok(None) | Err(Unlawful) => bytes.len(),
        };
        for count in 0..size {
            let cut = parse(&bytes[..count]);
            assert!(
                cut == Ok(None) || (cut == Err(Unlawful) && whole == cut),
                "{count} of {bytes:x?}: {cut:?}"
            );
        }
        whole
    }

    #[test]
    fn what_is_written_is_read() {
        for (source, destination) in [
            ("192.0.2.1:40000", "198.51.100.7:443"),
            ("255.255.255.255:65535", "255.255.255.255:65535"),
            ("[2001:db8::1]:1", "[::1]:22"),
            (
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff::]:65535",
            ),
        ] {
            let ends = ends(source, destination);
            for version in [Version::V1, Version::V2] {
                for said in [Said::Visitor(ends), Said::Nobody] {
                    let mut bytes = encode(version, &said).to_vec();
                    let size = bytes.len();
                    bytes.extend_from_slice(b"SSH-2.0-visitor\r\n");
                    assert_eq!(read(&bytes), Ok(Some(Header { said, size })), "{version:?}");
                }
            }
        }
    }

    #[test]
    fn ends_of_two_families_are_written_in_one() {
        let mixed = ends("192.0.2.1:1", "[2001:db8::1]:2");
        let text = encode(Version::V1, &Said::Visitor(mixed));
        assert_eq!(text, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n");
        let both = ends("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2");
        assert_eq!(
            encode(Version::V1, &Said::Visitor(both)),
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
        );
    }

    #[test]
    fn lines_of_version_1_are_read_strictly() {
        let nobody = |size| {
            Ok(Some(Header {
                said: Said::Nobody,
                size,
            }))
        };
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), nobody(15));
        assert_eq!(read(b"PROXY UNKNOWN what ever 1 2\r\nGET"), nobody(29));
        for line in [
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2  1 2\r\n",
            "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Unlawful), "{line:?}");
        }
        assert_eq!(
            parse(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat()),
            Err(Unlawful)
        );
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [
            b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
            &[command, family],
            &length,
            rest,
        ]
        .concat()
    }

    #[test]
    fn version_2_may_have_extensions_other_families_and_no_visitor() {
        let size = |rest: usize| 16 + rest;
        let header = |said, rest| {
            Ok(Some(Header {
                said,
                size: size(rest),
            }))
        };
        let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2];
        let visitor = Said::Visitor(ends("192.0.2.1:1", "192.0.2.2:2"));
        let extended = [&addresses[..], &[0x02, 0, 1, b'x']].concat();
        assert_eq!(read(&v2(0x21, 0x11, &extended)), header(visitor, 16));
        assert_eq!(read(&v2(0x20, 0x00, &[])), header(Said::Nobody, 0));
        assert_eq!(read(&v2(0x20, 0x11, &addresses)), header(Said::Nobody, 12));
        // Unix sockets and datagrams have no address that we could show.
        assert_eq!(read(&v2(0x21, 0x31, &[0; 216])), header(Said::Nobody, 216));
        assert_eq!(read(&v2(0x21, 0x00, &[1, 2])), header(Said::Nobody, 2));
        for (command, family, rest) in [
            (0x11, 0x11, &addresses[..]),
            (0x22, 0x11, &addresses),
            (0x21, 0x41, &addresses),
            (0x21, 0x11, &addresses[..11]),
            (0x21, 0x21, &addresses),
        ] {
            let bytes = v2(command, family, rest);
            assert_eq!(parse(&bytes), Err(Unlawful), "{bytes:x?}");
        }
        assert_eq!(
            parse(&v2(0x21, 0x11, &[0; HEADER_BYTES_MAX])[..16]),
            Err(Unlawful)
        );
    }
}
