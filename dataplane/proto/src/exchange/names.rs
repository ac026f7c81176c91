//! Names of headers in the keys of a head.
//!
//! Most names on the wire are a few dozen. They are found in a table by length and then by one comparison of
//! 32 bytes each, without the general parser, the hash of the name's text and a copy of it. Any other name is
//! parsed.

use adit_wire::metadata::{HTTP_HEADER, header_name};
use http::HeaderName;

/// Longest name in the table, bytes.
const KNOWN_BYTES_MAX: usize = 32;

/// A key that names no header although it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyError<'a> {
    /// It is and is not one of a header.
    Malformed,
    /// The name holds what HTTP does not allow.
    Name(&'a [u8]),
}

/// The header that a key of a head speaks of; `None` for a key that speaks of something else.
pub(super) fn header(key: &[u8]) -> Result<Option<HeaderName>, KeyError<'_>> {
    let malformed = |_| KeyError::Malformed;
    let Some(name) = key.strip_prefix(HTTP_HEADER.as_bytes()) else {
        return header_name(key).map(|_| None).map_err(malformed);
    };
    if let Some(known) = find(name) {
        return Ok(Some(known.name.clone()));
    }
    match HeaderName::from_bytes(name) {
        Ok(name) => Ok(Some(name)),
        // A second colon is more than a forbidden character.
        Err(_) => Err(header_name(key).map_or_else(malformed, |_| KeyError::Name(name))),
    }
}

struct Known {
    /// In lower case, followed by zeros.
    text: [u8; KNOWN_BYTES_MAX],
    name: HeaderName,
}

fn find(name: &[u8]) -> Option<&'static Known> {
    let mut text = [0; KNOWN_BYTES_MAX];
    text.get_mut(..name.len())?.copy_from_slice(name);
    text.make_ascii_lowercase();
    let of_length = usize::from(*STARTS.get(name.len())?)..usize::from(*STARTS.get(name.len() + 1)?);
    KNOWN.get(of_length)?.iter().find(|known| known.text == text)
}

const fn known(name: &'static str) -> Known {
    let mut text = [0; KNOWN_BYTES_MAX];
    let mut place = 0;
    while place < name.len() {
        text[place] = name.as_bytes()[place];
        place += 1;
    }
    Known {
        text,
        name: HeaderName::from_static(name),
    }
}

/// Where the names of each length start in the table.
const STARTS: [u8; KNOWN_BYTES_MAX + 2] = {
    let mut starts = [0; KNOWN_BYTES_MAX + 2];
    let (mut place, mut length) = (0, 0);
    while place < NAMES.len() {
        assert!(
            NAMES[place].len() >= length,
            "names are in the order of their length"
        );
        while length < NAMES[place].len() {
            length += 1;
            starts[length] = place as u8;
        }
        place += 1;
    }
    while length <= KNOWN_BYTES_MAX {
        length += 1;
        starts[length] = place as u8;
    }
    starts
};

macro_rules! table {
    ($($name:literal)*) => {
        const NAMES: &[&str] = &[$($name),*];
        static KNOWN: [Known; NAMES.len()] = [$(known($name)),*];
    };
}

table! {
    "te"
    "age" "via"
    "date" "etag" "host" "link" "vary"
    "allow" "range"
    "accept" "cf-ray" "cookie" "expect" "origin" "pragma" "server"
    "alt-svc" "expires" "referer" "trailer" "upgrade"
    "if-match" "if-range" "location" "priority"
    "forwarded" "sec-ch-ua" "x-real-ip"
    "cf-visitor" "connection" "keep-alive" "set-cookie" "user-agent"
    "retry-after"
    "content-type" "x-powered-by" "x-request-id"
    "accept-ranges" "authorization" "cache-control" "content-range" "if-none-match" "last-modified"
    "content-length" "sec-fetch-dest" "sec-fetch-mode" "sec-fetch-site" "sec-fetch-user"
    "accept-encoding" "accept-language" "referrer-policy" "x-frame-options" "x-forwarded-for"
    "cf-connecting-ip" "content-encoding" "content-language" "proxy-connection" "sec-ch-ua-mobile"
    "www-authenticate" "x-forwarded-host" "x-requested-with" "x-xss-protection"
    "if-modified-since" "sec-websocket-key" "transfer-encoding" "x-forwarded-proto"
    "permissions-policy" "sec-ch-ua-platform"
    "content-disposition" "if-unmodified-since" "timing-allow-origin"
    "sec-websocket-accept"
    "sec-websocket-version"
    "sec-websocket-protocol" "x-content-type-options"
    "content-security-policy"
    "sec-websocket-extensions"
    "strict-transport-security" "upgrade-insecure-requests"
    "access-control-allow-origin"
    "access-control-allow-headers" "access-control-allow-methods"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_alike_with_and_without_the_table() {
        for name in NAMES {
            let parsed = HeaderName::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(find(name.as_bytes()).unwrap().name, parsed);
            for key in [
                format!("HttpHeader:{name}"),
                format!("HttpHeader:{}", name.to_ascii_uppercase()),
            ] {
                assert_eq!(header(key.as_bytes()), Ok(Some(parsed.clone())));
            }
            let longer = format!("HttpHeader:{name}-");
            let expected = HeaderName::from_bytes(format!("{name}-").as_bytes()).unwrap();
            assert_eq!(header(longer.as_bytes()), Ok(Some(expected)));
        }
    }

    #[test]
    fn broken_keys_are_told_apart() {
        let long = "x".repeat(KNOWN_BYTES_MAX + 1);
        for (key, expected) in [
            ("HttpMethod", Ok(None)),
            ("HttpHeader:X-Test", Ok(Some(HeaderName::from_static("x-test")))),
            ("HttpHeader:", Err(KeyError::Malformed)),
            ("HttpHeader", Err(KeyError::Malformed)),
            ("HttpHeader:a:b", Err(KeyError::Malformed)),
            ("HttpHeader:a b", Err(KeyError::Name(b"a b"))),
            ("HttpHeader:te\0", Err(KeyError::Name(b"te\0"))),
        ] {
            assert_eq!(header(key.as_bytes()), expected, "{key}");
        }
        assert!(header(format!("HttpHeader:{long}").as_bytes()).unwrap().is_some());
    }
}
