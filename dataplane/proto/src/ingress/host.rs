//! Which hostnames an ingress rule is for.
//!
//! Names are compared without regard to ASCII case (RFC 9110 §4.2.3), where cloudflared compares bytes. The
//! star of `*.example.com` stands for one label or more, never for none.
//!
//! Source: cloudflared `ingress/rule.go`, `ingress/ingress.go`.

use std::fmt;

use super::IngressError;
use super::punycode;

/// The hostnames of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostFilter {
    /// Every hostname: the rule says nothing or `*`.
    Any,
    /// One hostname, as written and as it travels in a Host header.
    Exact {
        /// As in the configuration.
        written: Box<str>,
        /// Its ASCII form (`xn--…`), equal to `written` for an ASCII name.
        ascii: Box<str>,
    },
    /// All hostnames below a name.
    Below {
        /// `.example.com` for `*.example.com`.
        written: Box<str>,
        /// Its ASCII form.
        ascii: Box<str>,
    },
}

impl HostFilter {
    /// Parses the `hostname` of a rule; the empty text is a filter for all.
    ///
    /// # Errors
    /// [`IngressError::PortInHostname`] and [`IngressError::BadWildcard`].
    pub fn parse(text: &str) -> Result<Self, IngressError> {
        if text.is_empty() || text == "*" {
            return Ok(Self::Any);
        }
        if split_port(text).is_some() {
            return Err(IngressError::PortInHostname);
        }
        let (name, is_wildcard) = match text.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') => (rest, true),
            Some(_) => return Err(IngressError::BadWildcard),
            None => (text, false),
        };
        if name.contains('*') {
            return Err(IngressError::BadWildcard);
        }
        let written = Box::from(name);
        let ascii = punycode::to_ascii(name).into_boxed_str();
        Ok(if is_wildcard {
            Self::Below { written, ascii }
        } else {
            Self::Exact { written, ascii }
        })
    }

    /// Whether a hostname without port passes.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact { written, ascii } => {
                host.eq_ignore_ascii_case(written) || (ascii != written && host.eq_ignore_ascii_case(ascii))
            }
            Self::Below { written, ascii } => {
                is_below(host, written) || (ascii != written && is_below(host, ascii))
            }
        }
    }
}

impl fmt::Display for HostFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact { written, .. } => f.write_str(written),
            Self::Below { written, .. } => write!(f, "*{written}"),
        }
    }
}

fn is_below(host: &str, suffix: &str) -> bool {
    host.len() > suffix.len()
        && host
            .get(host.len() - suffix.len()..)
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

/// The hostname of a Host header: without port, and without the brackets of an IPv6 address before a port.
pub(super) fn without_port(host: &str) -> &str {
    split_port(host).unwrap_or(host)
}

/// The host of `host:port` or `[host]:port`; `None` if `text` has another form.
fn split_port(text: &str) -> Option<&str> {
    let host = text.get(..text.bytes().rposition(|byte| byte == b':')?)?;
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.strip_suffix(']');
    }
    (!host.contains(':')).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, host: &str, expected: bool) {
        let parsed = HostFilter::parse(filter).unwrap();
        assert_eq!(parsed.matches(host), expected, "{filter} {host}");
    }

    #[test]
    fn a_filter_passes_its_hostnames_only() {
        check("", "anything", true);
        check("*", "anything", true);
        check("app.example.com", "app.example.com", true);
        check("app.example.com", "APP.example.com", true);
        check("app.example.com", "x.app.example.com", false);
        check("*.example.com", "app.example.com", true);
        check("*.example.com", "a.b.example.com", true);
        check("*.example.com", "example.com", false);
        check("*.example.com", ".example.com", false);
        check("*.example.com", "badexample.com", false);
        check("*.example.com", "ü.com", false);
    }

    #[test]
    fn an_international_name_is_matched_in_both_forms() {
        check("bücher.example.com", "bücher.example.com", true);
        check("bücher.example.com", "xn--bcher-kva.example.com", true);
        check("*.bücher.example", "a.xn--bcher-kva.example", true);
    }

    #[test]
    fn stars_inside_and_ports_are_refused() {
        for bad in ["app.*.com", "*app.com", "**.com", "*.*.com"] {
            assert_eq!(HostFilter::parse(bad), Err(IngressError::BadWildcard), "{bad}");
        }
        for bad in ["app.com:80", "[::1]:80"] {
            assert_eq!(HostFilter::parse(bad), Err(IngressError::PortInHostname), "{bad}");
        }
    }

    #[test]
    fn ports_are_taken_off() {
        for (host, expected) in [
            ("app.com:80", "app.com"),
            ("app.com", "app.com"),
            ("[::1]:80", "::1"),
            ("::1", "::1"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(host), expected);
        }
    }
}
