//! The header that tells a server whom a connection is for: the PROXY protocol, versions 1 and 2. Written only.
//!
//! Both addresses of a header are of one family, so an IPv4 address beside an IPv6 one is written as mapped.
//!
//! Source: the PROXY protocol's specification by HAProxy, §2.1 and §2.2.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, for somebody else.
const PROXY: u8 = 0x21;

/// Version 2, for the sender itself.
const LOCAL: u8 = 0x20;

/// TCP over IPv4.
const TCP4: u8 = 0x11;

/// TCP over IPv6.
const TCP6: u8 = 0x21;

/// How the header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// As a line of text.
    V1,
    /// As bytes.
    V2,
}

impl ProxyVersion {
    /// Reads `v1` or `v2`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Self::V1),
            "v2" => Some(Self::V2),
            _ => None,
        }
    }

    /// As it is written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The header of a connection to `destination` for a visitor at `source`; nobody knows the visitor's port, so
    /// it is zero. Without a source it says that there is nothing to say.
    pub fn encode(self, source: Option<IpAddr>, destination: SocketAddr) -> Vec<u8> {
        let Some(source) = source else {
            return match self {
                Self::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
                Self::V2 => [&SIGNATURE[..], &[LOCAL, 0, 0, 0]].concat(),
            };
        };
        let port = destination.port();
        match (self, source.to_canonical(), destination.ip().to_canonical()) {
            (Self::V1, IpAddr::V4(source), IpAddr::V4(destination)) => {
                format!("PROXY TCP4 {source} {destination} 0 {port}\r\n").into_bytes()
            }
            (Self::V1, source, destination) => {
                let (source, destination) = (mapped(source), mapped(destination));
                format!("PROXY TCP6 {source} {destination} 0 {port}\r\n").into_bytes()
            }
            (Self::V2, IpAddr::V4(source), IpAddr::V4(destination)) => {
                binary(TCP4, &source.octets(), &destination.octets(), port)
            }
            (Self::V2, source, destination) => binary(
                TCP6,
                &mapped(source).octets(),
                &mapped(destination).octets(),
                port,
            ),
        }
    }
}

fn binary(family: u8, source: &[u8], destination: &[u8], port: u16) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([PROXY, family]);
    // 36 at most.
    let length = source.len() + destination.len() + 4;
    header.extend([0, u8::try_from(length).unwrap_or(u8::MAX)]);
    header.extend(source);
    header.extend(destination);
    header.extend([0, 0]);
    header.extend(port.to_be_bytes());
    header
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(source: &str, destination: &str) -> String {
        let header = ProxyVersion::V1.encode(source.parse().ok(), destination.parse().unwrap());
        String::from_utf8(header).unwrap()
    }

    #[test]
    fn version_1_is_a_line() {
        assert_eq!(
            line("192.0.2.1", "127.0.0.1:80"),
            "PROXY TCP4 192.0.2.1 127.0.0.1 0 80\r\n"
        );
        assert_eq!(
            line("2001:db8::1", "[::1]:80"),
            "PROXY TCP6 2001:db8::1 ::1 0 80\r\n"
        );
        assert_eq!(
            line("2001:db8::1", "127.0.0.1:80"),
            "PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 0 80\r\n"
        );
        assert_eq!(line("", "127.0.0.1:80"), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_is_bytes_of_the_length_it_says() {
        for (source, destination, family, length) in [
            ("192.0.2.1", "127.0.0.1:258", 0x11, 12),
            ("192.0.2.1", "[::1]:258", 0x21, 36),
            ("2001:db8::1", "127.0.0.1:258", 0x21, 36),
        ] {
            let header = ProxyVersion::V2.encode(source.parse().ok(), destination.parse().unwrap());
            let (fixed, rest) = header.split_at(16);
            assert_eq!(&fixed[..12], b"\r\n\r\n\0\r\nQUIT\n");
            assert_eq!(fixed[12..], [0x21, family, 0, length]);
            assert_eq!(rest.len(), usize::from(length));
            assert!(rest.ends_with(&[0, 0, 1, 2]));
        }
        let unknown = ProxyVersion::V2.encode(None, "127.0.0.1:1".parse().unwrap());
        assert_eq!(unknown[12..], [0x20, 0, 0, 0]);
    }
}
