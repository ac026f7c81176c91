//! Hostnames and hostname patterns, parsed once at the boundary.
//!
//! A [`Hostname`] is lower case, carries no port and no trailing dot, and has labels of letters,
//! digits, hyphens and underscores. A [`HostPattern`] is such a name or `*.` before one; the star
//! stands for one label or more, never for none.
//!
//! Does not: translate Unicode names. Visitors send them in their ASCII form (`xn--…`).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest hostname in its text form without the trailing dot (RFC 1035 §3.1).
pub const HOSTNAME_BYTES_MAX: usize = 253;

/// Longest label (RFC 1035 §3.1).
pub const LABEL_BYTES_MAX: usize = 63;

/// Why a text is not a hostname.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// Nothing there.
    #[error("hostname is empty")]
    Empty,
    /// More than [`HOSTNAME_BYTES_MAX`].
    #[error("hostname is longer than {HOSTNAME_BYTES_MAX} bytes")]
    TooLong,
    /// A label is empty, longer than [`LABEL_BYTES_MAX`], or starts or ends with a hyphen.
    #[error("hostname has an empty, too long or badly hyphenated label")]
    Label,
    /// A character that no hostname has.
    #[error("hostname has a character other than letters, digits, '-', '_' and '.'")]
    Character,
    /// What follows the colon is no port.
    #[error("hostname is followed by something that is not a port")]
    Port,
    /// A star somewhere else than as the whole first label.
    #[error("a wildcard stands only for whole leading labels, as in *.example.com")]
    Wildcard,
}

/// A host's name in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(Box<str>);

impl Hostname {
    /// Parses a `Host` header or `:authority`: a hostname with an optional port, which is dropped.
    ///
    /// # Errors
    /// As [`Hostname::from_str`], and [`HostnameError::Port`] if the colon is not followed by a port.
    pub fn from_authority(text: &str) -> Result<Self, HostnameError> {
        let colon = text.bytes().rposition(|byte| byte == b':');
        let Some((host, port)) = colon.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?))) else {
            return text.parse();
        };
        // RFC 3986 §3.2.3 allows an empty port.
        if !port.bytes().all(|b| b.is_ascii_digit()) || (!port.is_empty() && port.parse::<u16>().is_err()) {
            return Err(HostnameError::Port);
        }
        host.parse()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names this one lies under, nearest first: `c.d` and `d` for `b.c.d`.
    ///
    /// These are the suffixes under which a wildcard for this name can be filed.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(parent_of(&self.0), |name| parent_of(name))
    }
}

fn parent_of(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, rest)| rest)
}

impl FromStr for Hostname {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostnameError::Empty);
        }
        if name.len() > HOSTNAME_BYTES_MAX {
            return Err(HostnameError::TooLong);
        }
        check_labels(name.as_bytes())?;
        let mut name: Box<str> = name.into();
        name.make_ascii_lowercase();
        Ok(Self(name))
    }
}

/// Underscores are no part of RFC 952 names, but of names that people use.
fn check_labels(name: &[u8]) -> Result<(), HostnameError> {
    let (mut size, mut before) = (0, b'.');
    for &byte in name {
        match byte {
            b'.' if is_label_end(size, before) => size = 0,
            b'-' if size == 0 => return Err(HostnameError::Label),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => size += 1,
            b'.' => return Err(HostnameError::Label),
            _ => return Err(HostnameError::Character),
        }
        before = byte;
    }
    is_label_end(size, before)
        .then_some(())
        .ok_or(HostnameError::Label)
}

fn is_label_end(size: usize, last: u8) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&size) && last != b'-'
}

impl TryFrom<String> for Hostname {
    type Error = HostnameError;

    fn try_from(text: String) -> Result<Self, HostnameError> {
        text.parse()
    }
}

impl From<Hostname> for String {
    fn from(name: Hostname) -> Self {
        name.0.into()
    }
}

// Lets a map keyed by `Hostname` be asked with a part of another name, without allocating.
impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One hostname, or every name under a suffix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// Exactly this name.
    Exact(Hostname),
    /// `*.suffix`: any name below the suffix at any depth, not the suffix itself.
    Wildcard(Hostname),
}

impl HostPattern {
    /// Whether `name` is meant by this pattern.
    pub fn matches(&self, name: &Hostname) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Wildcard(suffix) => name
                .0
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.ends_with('.')),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        let (suffix, pattern): (&str, fn(Hostname) -> Self) = match text.strip_prefix("*.") {
            Some(suffix) => (suffix, Self::Wildcard),
            None => (text, Self::Exact),
        };
        if suffix.contains('*') {
            return Err(HostnameError::Wildcard);
        }
        suffix.parse().map(pattern)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostnameError;

    fn try_from(text: String) -> Result<Self, HostnameError> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl From<Hostname> for HostPattern {
    fn from(name: Hostname) -> Self {
        Self::Exact(name)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Hostname {
        text.parse().unwrap()
    }

    #[test]
    fn hostnames_become_lower_case_without_trailing_dot() {
        assert_eq!(host("App.Example.COM.").as_str(), "app.example.com");
        assert_eq!(host("_dmarc.x-1.test").as_str(), "_dmarc.x-1.test");
    }

    #[test]
    fn bad_hostnames_are_refused_with_their_reason() {
        let long_label = "a".repeat(LABEL_BYTES_MAX + 1);
        let long_name = "a.".repeat(HOSTNAME_BYTES_MAX / 2 + 1) + "a";
        for (text, reason) in [
            ("", HostnameError::Empty),
            (".", HostnameError::Empty),
            ("a..b", HostnameError::Label),
            ("-a.test", HostnameError::Label),
            ("a-.test", HostnameError::Label),
            (long_label.as_str(), HostnameError::Label),
            (long_name.as_str(), HostnameError::TooLong),
            ("a.test:80", HostnameError::Character),
            ("[::1]", HostnameError::Character),
            ("b\u{fc}cher.test", HostnameError::Character),
            ("a test", HostnameError::Character),
            ("*.test", HostnameError::Character),
        ] {
            assert_eq!(text.parse::<Hostname>(), Err(reason), "{text:?}");
        }
    }

    #[test]
    fn authority_drops_a_port_and_refuses_what_is_none() {
        for good in ["a.test", "A.test:443", "a.test:", "a.test.:80"] {
            assert_eq!(Hostname::from_authority(good), Ok(host("a.test")), "{good:?}");
        }
        for bad in ["a.test:x", "a.test:65536", "a.test:-1"] {
            assert_eq!(Hostname::from_authority(bad), Err(HostnameError::Port), "{bad:?}");
        }
        assert!(Hostname::from_authority("user@a.test:80").is_err());
    }

    #[test]
    fn wildcards_mean_every_name_below_and_not_the_suffix_itself() {
        let pattern: HostPattern = "*.Example.com".parse().unwrap();
        assert_eq!(pattern.to_string(), "*.example.com");
        for (name, expected) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            ("badexample.com", false),
        ] {
            assert_eq!(pattern.matches(&host(name)), expected, "{name}");
        }
        let exact: HostPattern = "example.com".parse().unwrap();
        assert!(exact.matches(&host("EXAMPLE.com")) && !exact.matches(&host("a.example.com")));
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        for bad in ["a.*.test", "*a.test", "*.*.test", "*"] {
            assert_eq!(bad.parse::<HostPattern>(), Err(HostnameError::Wildcard), "{bad}");
        }
    }

    #[test]
    fn parents_go_from_near_to_far() {
        assert_eq!(host("a.b.c").parents().collect::<Vec<_>>(), ["b.c", "c"]);
        assert_eq!(host("a").parents().count(), 0);
    }
}
