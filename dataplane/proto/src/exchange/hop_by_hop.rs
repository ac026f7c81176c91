//! Headers that belong to one connection and are not passed on (RFC 9110 §7.6.1).

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};

/// Options of `Connection` that name no header worth looking for.
const OPTIONS: [&str; 3] = ["close", "keep-alive", "upgrade"];

/// The headers of one message that stay on its connection.
#[derive(Default)]
pub(super) struct HopByHop<'a> {
    /// Named by `Connection`; nearly always empty.
    listed: Vec<&'a str>,
}

impl<'a> HopByHop<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let lines = headers.get_all(CONNECTION).into_iter();
        Self::listed_in(lines.map(HeaderValue::as_bytes))
    }

    /// Of a message whose `Connection` lines are these.
    pub(super) fn listed_in(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let listed = lines
            .filter(|line| line.is_ascii())
            .filter_map(|line| std::str::from_utf8(line).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|name| {
                !name.is_empty() && !OPTIONS.iter().any(|option| option.eq_ignore_ascii_case(name))
            })
            .collect();
        Self { listed }
    }

    /// Whether no header was named beside those that always stay.
    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Removes what was named, but for a length: it is about the body, whatever the sender says.
    pub(super) fn remove_listed(headers: &mut HeaderMap) {
        let listed: Vec<HeaderName> = HopByHop::of(headers)
            .listed
            .iter()
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .collect();
        for name in listed.iter().filter(|name| **name != CONTENT_LENGTH) {
            headers.remove(name);
        }
    }

    /// `name` is in lower case, as `http` keeps it.
    pub(super) fn contains(&self, name: &str) -> bool {
        is_always(name) || self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(name))
    }
}

fn is_always(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}
