//! How the operator wants edges to be reached: over which transport, and at which kind of address.

use std::net::{IpAddr, SocketAddr};

use adit_proto::supervisor::{Protocol, Transport};

use super::{ConfigError, invalid};

/// Dials over QUIC that fail in a row before HTTP/2 is tried, by default. cloudflared waits for eight, and
/// then never goes back. Ours goes back to QUIC later.
const DIAL_FAILURES: u32 = 2;

/// Which addresses of an edge's name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IpVersion {
    /// The first.
    Any,
    V4,
    V6,
}

impl IpVersion {
    /// Whether an address is one of them.
    pub(crate) fn admits(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// Reads `protocol`.
pub(super) fn transport(given: Option<&str>, warnings: &mut Vec<String>) -> Result<Transport, ConfigError> {
    match given {
        None | Some("auto") => Ok(Transport::Auto),
        Some("quic") => Ok(Transport::Only(Protocol::Quic)),
        Some("http2") => Ok(Transport::Only(Protocol::Http2)),
        Some("h2mux") => {
            warnings.push("h2mux is no longer spoken by anybody: using http2".to_owned());
            Ok(Transport::Only(Protocol::Http2))
        }
        Some(other) => Err(invalid("protocol", other, "it must be quic, http2 or auto")),
    }
}

/// Reads `max-edge-addr-retries`.
pub(super) fn dial_failures(given: Option<u32>) -> u32 {
    given.unwrap_or(DIAL_FAILURES)
}

/// Reads `edge-ip-version`. A local address can only reach its own kind.
pub(super) fn ip_version(given: Option<&str>, bind: Option<IpAddr>) -> Result<IpVersion, ConfigError> {
    let wanted = match given {
        None | Some("auto") => IpVersion::Any,
        Some("4") => IpVersion::V4,
        Some("6") => IpVersion::V6,
        Some(other) => return Err(invalid("edge-ip-version", other, "it must be 4, 6 or auto")),
    };
    let bound = match bind {
        None => return Ok(wanted),
        Some(IpAddr::V4(_)) => IpVersion::V4,
        Some(IpAddr::V6(_)) => IpVersion::V6,
    };
    if wanted == IpVersion::Any || wanted == bound {
        return Ok(bound);
    }
    Err(invalid(
        "edge-ip-version",
        given.unwrap_or_default(),
        "edge-bind-address is of the other kind",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_is_one_or_what_gets_through() {
        let read = |text| transport(Some(text), &mut Vec::new());
        assert_eq!(transport(None, &mut Vec::new()).unwrap(), Transport::Auto);
        assert_eq!(read("auto").unwrap(), Transport::Auto);
        assert_eq!(read("quic").unwrap(), Transport::Only(Protocol::Quic));
        assert_eq!(read("http2").unwrap(), Transport::Only(Protocol::Http2));
        assert!(read("tcp").is_err());
        let mut warnings = Vec::new();
        assert_eq!(
            transport(Some("h2mux"), &mut warnings).unwrap(),
            read("http2").unwrap()
        );
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn the_bound_address_decides_the_kind() {
        let (v4, v6) = ("127.0.0.1".parse().ok(), "::1".parse().ok());
        assert_eq!(ip_version(None, None).unwrap(), IpVersion::Any);
        assert_eq!(ip_version(Some("6"), None).unwrap(), IpVersion::V6);
        assert_eq!(ip_version(Some("auto"), v4).unwrap(), IpVersion::V4);
        assert_eq!(ip_version(Some("6"), v6).unwrap(), IpVersion::V6);
        assert!(ip_version(Some("4"), v6).is_err());
        assert!(ip_version(Some("5"), None).is_err());
        assert!(IpVersion::V6.admits(&"[::1]:1".parse().unwrap()));
        assert!(!IpVersion::V6.admits(&"127.0.0.1:1".parse().unwrap()));
    }
}
