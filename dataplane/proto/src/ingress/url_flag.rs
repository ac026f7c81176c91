//! The value of `--url`, which is read more leniently than the `service` of a rule.
//!
//! | written | means |
//! |---|---|
//! | `localhost:8080`, `127.0.0.1`, `[::1]:80`, `::1` | the same with `http://` before it |
//! | `https://me@app:8443/path?query` | `https://app:8443`: visitors bring path and query of their own |
//! | `tcp://`, `ssh://`, `rdp://`, `smb://` | a TCP service |
//! | any other scheme | refused |
//!
//! What is no address in a rule (`unix:/path`, `hello_world`, `http_status:404`) means the same here, unlike
//! in cloudflared.
//!
//! Source: cloudflared `validation/validation.go`.

use std::net::Ipv6Addr;

use super::IngressError;
use super::punycode::to_ascii;
use super::service::{OriginService, is_scheme, without_user};

/// Schemes that the flag takes.
const SCHEMES: [&str; 6] = ["http", "https", "tcp", "ssh", "rdp", "smb"];

/// Why a value of `--url` names no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlFlagError {
    /// Nothing was written.
    #[error("URL should not be empty")]
    Empty,
    /// The scheme is none of those that the flag takes.
    #[error("adit tunnel does not support {0} protocol; http, https, tcp, ssh, rdp and smb are known")]
    Scheme(String),
    /// It has no usable host or port.
    #[error(transparent)]
    Address(#[from] IngressError),
}

impl OriginService {
    /// Reads the value of `--url`.
    ///
    /// # Errors
    /// [`UrlFlagError`].
    pub fn parse_flag(text: &str) -> Result<Self, UrlFlagError> {
        if text.is_empty() {
            return Err(UrlFlagError::Empty);
        }
        if let Some(named) = Self::parse_named(text) {
            return Ok(named?);
        }
        let with_scheme = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
        let (scheme, rest) = match with_scheme {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("http".to_owned(), text),
        };
        if !SCHEMES.contains(&scheme.as_str()) {
            return Err(UrlFlagError::Scheme(scheme));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (place, _path_of_nobody) = rest.split_at(end);
        let place = place.rsplit_once('@').map_or(place, |(_user, place)| place);
        let place = if place.parse::<Ipv6Addr>().is_ok() {
            format!("[{place}]")
        } else {
            to_ascii(place)
        };
        // With the path gone, nothing else can be wrong with it.
        let address = Self::parse(&format!("{scheme}://{place}"));
        Ok(address.map_err(|_| IngressError::InvalidAddress(without_user(text)))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_scheme_and_lose_what_is_the_visitors() {
        for (text, service) in [
            ("localhost:8080", "http://localhost:8080"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("127.0.0.1", "http://127.0.0.1"),
            ("app", "http://app"),
            ("::1", "http://[::1]"),
            ("[::1]", "http://[::1]"),
            ("[::1]:81", "http://[::1]:81"),
            ("http://localhost:1/", "http://localhost:1"),
            ("localhost:8080/api/?u=http://x", "http://localhost:8080"),
            ("https://app/a/b?c=d#e", "https://app"),
            ("https://app?x", "https://app"),
            ("HTTPS://me:secret@app:8443/", "https://app:8443"),
            ("http://b\u{fc}cher.example", "http://xn--bcher-kva.example"),
            ("ssh://host", "ssh://host:22"),
            ("tcp://db:5432/x", "tcp://db:5432"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("hello_world", "hello_world"),
        ] {
            let parsed = OriginService::parse_flag(text).map(|service| service.to_string());
            assert_eq!(parsed, Ok(service.to_owned()), "{text}");
        }
    }

    #[test]
    fn other_schemes_and_no_address_at_all_are_refused() {
        for scheme in ["ftp", "ws", "wss", "redis"] {
            let refused = OriginService::parse_flag(&format!("{scheme}://app:1"));
            assert_eq!(refused, Err(UrlFlagError::Scheme(scheme.to_owned())));
        }
        assert_eq!(OriginService::parse_flag(""), Err(UrlFlagError::Empty));
        for text in [
            "http://",
            "http:/x",
            ":8080",
            "localhost:99999",
            "a b",
            "http://[::1",
        ] {
            let refused = OriginService::parse_flag(text);
            let invalid = IngressError::InvalidAddress(text.to_owned());
            assert_eq!(refused, Err(UrlFlagError::Address(invalid)), "{text}");
        }
    }
}
