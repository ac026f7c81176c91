//! Where an ingress rule sends its exchanges.
//!
//! `ws` and `wss` are read as `http` and `https`: whether an exchange is a WebSocket is the visitor's choice.
//!
//! Any other scheme names a TCP service, whose bytes visitors carry in a WebSocket.
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
    /// `tcp://host[:port]`, `ssh://`, `rdp://`, `smb://`, or any other scheme with a port.
    Tcp {
        /// In lower case.
        scheme: Box<str>,
        /// Host and port, the scheme's own if none was written and there is one.
        authority: Authority,
    },
    /// `bastion`: TCP to where each visitor says.
    Bastion,
    /// `socks-proxy`: a SOCKS5 proxy for each visitor.
    SocksProxy,
    /// `http_status:NNN`: that status and an empty body, 100 to 999.
    Status(u16),
    /// `hello_world`: a built-in page.
    HelloWorld,
}

impl OriginService {
    /// Parses the `service` of a rule.
    ///
    /// # Errors
    /// [`IngressError::InvalidStatus`], [`IngressError::InvalidAddress`], [`IngressError::Scheme`] and
    /// [`IngressError::PathInAddress`].
    pub fn parse(text: &str) -> Result<Self, IngressError> {
        Self::parse_named(text).unwrap_or_else(|| address(text))
    }

    /// Parses the `service` of a rule with `bastionMode`, under which an address means nothing.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_bastion(text: &str) -> Result<Self, IngressError> {
        Self::parse_named(text).unwrap_or(Ok(Self::Bastion))
    }

    /// Parses whatever is not an address.
    pub(super) fn parse_named(text: &str) -> Option<Result<Self, IngressError>> {
        match text {
            "hello_world" | "hello-world" => return Some(Ok(Self::HelloWorld)),
            "bastion" => return Some(Ok(Self::Bastion)),
            "socks-proxy" => return Some(Ok(Self::SocksProxy)),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Some(unix(text, path, false));
        }
        if let Some(path) = text.strip_prefix("unix+tls:") {
            return Some(unix(text, path, true));
        }
        text.strip_prefix("http_status:").map(status_code)
    }

    /// Whether the origin speaks TLS.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Http { tls, .. } | Self::Unix { tls, .. } => *tls,
            Self::Tcp { .. } | Self::Bastion | Self::SocksProxy | Self::Status(_) | Self::HelloWorld => false,
        }
    }

    /// The port dialled: as written, or the scheme's. `None` for services without one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Http { authority, tls } => {
                Some(authority.port_u16().unwrap_or(if *tls { 443 } else { 80 }))
            }
            Self::Tcp { authority, .. } => authority.port_u16(),
            Self::Unix { .. } | Self::Bastion | Self::SocksProxy | Self::Status(_) | Self::HelloWorld => None,
        }
    }

    /// The host dialled, an IPv6 address without its brackets. `None` for services without one.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Http { authority, .. } | Self::Tcp { authority, .. } => {
                Some(authority.host().trim_start_matches('[').trim_end_matches(']'))
            }
            Self::Unix { .. } | Self::Bastion | Self::SocksProxy | Self::Status(_) | Self::HelloWorld => None,
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
            Self::Tcp { scheme, authority } => write!(f, "{scheme}://{authority}"),
            Self::Bastion => f.write_str("bastion"),
            Self::SocksProxy => f.write_str("socks-proxy"),
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
    let shown = || without_user(text);
    let invalid = || IngressError::InvalidAddress(shown());
    let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    let scheme = scheme.to_ascii_lowercase();
    if !is_scheme(&scheme) {
        return Err(invalid());
    }
    if let Some(meant) = meant(&scheme) {
        let (service, scheme) = (shown(), scheme);
        return Err(IngressError::Scheme {
            service,
            scheme,
            meant,
        });
    }
    let tls = match scheme.as_str() {
        "http" | "ws" => Some(false),
        "https" | "wss" => Some(true),
        _ => None,
    };
    // Addresses are sometimes written with a user, who is not told to the origin, as in cloudflared.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let authority: Authority = authority.parse().map_err(|_| invalid())?;
    let has_port = authority.as_str().len() > authority.host().len();
    // `Authority` takes an empty host and a port above 65535, neither of which can be dialled.
    if authority.host().is_empty() || has_port && authority.port_u16().is_none() {
        return Err(invalid());
    }
    if !path.is_empty() {
        return Err(IngressError::PathInAddress(shown()));
    }
    match tls {
        Some(tls) => Ok(OriginService::Http { authority, tls }),
        None => tcp(&scheme, authority).ok_or_else(invalid),
    }
}

/// An address for an error's text, which many may read: without a user and a password.
pub(super) fn without_user(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = text.split_at(start);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}{place}{path}"),
        None => text.to_owned(),
    }
}

/// The HTTP scheme from which `scheme` differs by one letter. Such a slip would be taken for TCP, as other
/// schemes are, and would fail with every visitor.
fn meant(scheme: &str) -> Option<&'static str> {
    let known = ["http", "https"];
    if known.contains(&scheme) {
        return None;
    }
    known
        .into_iter()
        .find(|known| strsim::osa_distance(scheme, known) == 1)
}

/// RFC 3986 §3.1.
pub(super) fn is_scheme(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(is_inner)
}

/// Adds the scheme's port if there is one and none was written.
fn tcp(scheme: &str, authority: Authority) -> Option<OriginService> {
    let port = match scheme {
        "ssh" => Some(22),
        "rdp" => Some(3389),
        "smb" => Some(445),
        "tcp" => Some(7864),
        _ => None,
    };
    let authority = match port.filter(|_| authority.port_u16().is_none()) {
        Some(port) => format!("{}:{port}", authority.host()).parse().ok()?,
        None => authority,
    };
    Some(OriginService::Tcp {
        scheme: scheme.into(),
        authority,
    })
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
            "tcp://db:5432",
            "foo://a",
            "ftp://a:21",
            "smtp://a:25",
            "mysql://a:3306",
            "bastion",
            "socks-proxy",
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
            ("http://me:secret@app:8", "app", 8),
            ("http://app:81", "app", 81),
            ("tcp://db", "db", 7864),
            ("SSH://me:secret@[::1]", "::1", 22),
            ("rdp://desk", "desk", 3389),
            ("smb://files", "files", 445),
            ("smb://files:44", "files", 44),
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
            "://x",
            "unix:",
            "tcp://",
            "tcp://:22",
            "tcp://a:0x",
            "a b://c:1",
        ] {
            check(text, &format!("{text} {invalid}"));
        }
        check("http://u:pickaxe@", &format!("http:// {invalid}"));
        let told = OriginService::parse("https://u:pickaxe@a/b")
            .unwrap_err()
            .to_string();
        assert!(
            told.starts_with("https://a/b is") && !told.contains("pickaxe"),
            "{told}"
        );
        check(
            "http://a/b",
            "http://a/b is an invalid address, ingress rules don't support proxying to a different path on the origin service. The path will be the same as the eyeball request's path",
        );
        for (text, scheme, meant) in [
            ("htp://a:1", "htp", "http"),
            ("htpp://a:1", "htpp", "http"),
            ("hhtps://a:1", "hhtps", "https"),
            ("HTTP2://a:1", "http2", "http"),
            ("htttps://a", "htttps", "https"),
        ] {
            let told = format!("{text} has the scheme {scheme}; {meant} is meant, or tcp for other services");
            check(text, &told);
        }
        check("http_status:99", "invalid HTTP status code: 99");
        check("http_status:1000", "invalid HTTP status code: 1000");
        check("http_status:x", "invalid HTTP status code: x");
    }
}
