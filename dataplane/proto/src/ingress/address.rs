//! One place where an origin listens.

use std::fmt;
use std::path::PathBuf;

use http::uri::Authority;

use super::service::OriginService;

/// An address as configured; a name may have several of the network's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginAddress {
    /// `host:port`; the host without brackets.
    Tcp {
        /// A name or an address.
        host: Box<str>,
        /// Its port.
        port: u16,
    },
    /// `unix:/path`.
    Unix {
        /// The socket.
        path: PathBuf,
    },
}

impl OriginAddress {
    /// Reads `host:port` or `unix:/path`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix { path: path.into() });
        }
        let authority: Authority = text.parse().ok()?;
        let port = authority.port_u16().filter(|port| *port > 0)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_plain = !host.is_empty() && !text.contains('@');
        is_plain.then(|| Self::Tcp {
            host: host.into(),
            port,
        })
    }

    /// Where `service` is; `None` if it is nowhere, or its port is not known.
    pub fn of(service: &OriginService) -> Option<Self> {
        if let OriginService::Unix { path, .. } = service {
            return Some(Self::Unix { path: path.clone() });
        }
        let host = service.host()?.into();
        Some(Self::Tcp {
            host,
            port: service.port()?,
        })
    }
}

impl fmt::Display for OriginAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for text in ["app:80", "10.0.0.1:8080", "[::1]:80", "unix:/run/a.sock"] {
            assert_eq!(OriginAddress::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "app",
            "app:",
            "app:0",
            "app:x",
            "http://app:1",
            "me@app:1",
            "app:1/x",
            "unix:",
            "unix:x",
            ":80",
        ] {
            assert_eq!(OriginAddress::parse(text), None, "{text}");
        }
    }
}
