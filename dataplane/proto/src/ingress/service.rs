//! Where an ingress rule sends its exchanges.
//!
//! `ws` and `wss` are read as `http` and `https`: whether an exchange is a WebSocket is the visitor's choice.
//!
//! Does not: serve TCP-like services (`tcp://`, `ssh://`, `bastion`, `socks-proxy`, …). They are refused when
//! the configuration is read rather than when a visitor comes.
//!
//! Source: cloudflared `ingress/ingress.go`, `ingress/origin_service.go`.

use std::fmt;
use std::path::PathBuf;

use http::uri::Authority;

use super::IngressError;

/// The `service` of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginService {
    /// `http://host[:port]` or `https://host[:port]`.
    Http {
        /// Host and port as written.
        authority: Authority,
        /// Whether the origin speaks TLS.
        tls: bool,
    },
    /// `unix:/path` or `unix+tls:/path`.
    Unix {
        /// The socket.
        path: PathBuf,
        /// Whether the origin speaks TLS.
        tls: bool,
    },
    /// `http_status:NNN`: that status and an empty body, 100 to 999.
    Status(u16),
    /// `hello_world`: a built-in page.
    HelloWorld,
}

impl OriginService {
    /// Parses the `service` of a rule.
    ///
    /// # Errors
    /// [`IngressError::InvalidStatus`], [`IngressError::InvalidAddress`], [`IngressError::PathInAddress`],
    /// and [`IngressError::UnsupportedService`] for services that are not HTTP.
    pub fn parse(text: &str) -> Result<Self, IngressError> {
        match text {
            "hello_world" | "hello-world" => return Ok(Self::HelloWorld),
            "bastion" | "socks-proxy" => return Err(IngressError::UnsupportedService(text.to_owned())),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(text, path, false);
        }
        if let Some(path) = text.strip_prefix("unix+tls:") {
            return unix(text, path, true);
        }
        if let Some(status) = text.strip_prefix("http_status:") {
            return status_code(status);
        }
        address(text)
    }

    /// Whether the origin speaks TLS.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Http { tls, .. } | Self::Unix { tls, .. } => *tls,
            Self::Status(_) | Self::HelloWorld => false,
        }
    }

    /// The port dialled: as written, or the scheme's. `None` for services without one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Http { authority, tls } => {
                Some(authority.port_u16().unwrap_or(if *tls { 443 } else { 80 }))
            }
            Self::Unix { .. } | Self::Status(_) | Self::HelloWorld => None,
        }
    }

    /// The host dialled, an IPv6 address without its brackets. `None` for services without one.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Http { authority, .. } => {
                Some(authority.host().trim_start_matches('[').trim_end_matches(']'))
            }
            Self::Unix { .. } | Self::Status(_) | Self::HelloWorld => None,
        }
    }
}

impl fmt::Display for OriginService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http {
                authority,
                tls: false,
            } => write!(f, "http://{authority}"),
            Self::Http { authority, tls: true } => write!(f, "https://{authority}"),
            Self::Unix { path, tls: false } => write!(f, "unix:{}", path.display()),
            Self::Unix { path, tls: true } => write!(f, "unix+tls:{}", path.display()),
            Self::Status(status) => write!(f, "http_status:{status}"),
            Self::HelloWorld => f.write_str("hello_world"),
        }
    }
}

fn unix(text: &str, path: &str, tls: bool) -> Result<OriginService, IngressError> {
    if path.is_empty() {
        return Err(IngressError::InvalidAddress(text.to_owned()));
    }
    Ok(OriginService::Unix {
        path: PathBuf::from(path),
        tls,
    })
}

fn status_code(text: &str) -> Result<OriginService, IngressError> {
    match text.parse::<u16>() {
        Ok(status @ 100..=999) => Ok(OriginService::Status(status)),
        Ok(_) | Err(_) => Err(IngressError::InvalidStatus(text.to_owned())),
    }
}

fn address(text: &str) -> Result<OriginService, IngressError> {
    let invalid = || IngressError::InvalidAddress(text.to_owned());
    let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => false,
        "https" | "wss" => true,
        "" => return Err(invalid()),
        _ => return Err(IngressError::UnsupportedService(text.to_owned())),
    };
    let authority: Authority = authority.parse().map_err(|_| invalid())?;
    let has_port = authority.as_str().len() > authority.host().len();
    // `Authority` takes a user name, an empty host and a port above 65535, none of which can be dialled.
    if authority.host().is_empty()
        || authority.as_str().contains('@')
        || has_port && authority.port_u16().is_none()
    {
        return Err(invalid());
    }
    if !path.is_empty() {
        return Err(IngressError::PathInAddress(text.to_owned()));
    }
    Ok(OriginService::Http { authority, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_and_written_alike() {
        for text in [
            "http://127.0.0.1:8000",
            "https://app.internal",
            "unix:/run/app.sock",
            "unix+tls:/run/app.sock",
            "http_status:404",
            "hello_world",
        ] {
            assert_eq!(OriginService::parse(text).unwrap().to_string(), text);
        }
        let websocket = OriginService::parse("wss://app:9").unwrap();
        assert_eq!(websocket, OriginService::parse("https://app:9").unwrap());
    }

    #[test]
    fn host_and_port_are_ready_to_dial() {
        for (text, host, port) in [
            ("http://[::1]", "::1", 80),
            ("https://app", "app", 443),
            ("http://app:81", "app", 81),
        ] {
            let service = OriginService::parse(text).unwrap();
            assert_eq!((service.host(), service.port()), (Some(host), Some(port)));
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(OriginService::parse(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn bad_services_are_refused_in_the_known_words() {
        let invalid = "is an invalid address, please make sure it has a scheme and a hostname";
        for text in [
            "localhost:8000",
            "",
            "http://",
            "http://a:99999",
            "http://u@h",
            "://x",
            "unix:",
        ] {
            check(text, &format!("{text} {invalid}"));
        }
        check(
            "http://a/b",
            "http://a/b is an invalid address, ingress rules don't support proxying to a different path on the origin service. The path will be the same as the eyeball request's path",
        );
        check("http_status:99", "invalid HTTP status code: 99");
        check("http_status:1000", "invalid HTTP status code: 1000");
        check("http_status:x", "invalid HTTP status code: x");
        for text in ["tcp://a:1", "ssh://a", "bastion", "socks-proxy", "foo://a:1"] {
            let unsupported = "is not supported yet: only HTTP and WebSocket origins can be served";
            check(text, &format!("{text} {unsupported}"));
        }
    }
}
