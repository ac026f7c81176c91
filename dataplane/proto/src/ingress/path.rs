//! Which paths an ingress rule is for.
//!
//! The expression is searched anywhere in the decoded path, without query. Go's RE2 syntax, in which the
//! rules of existing files are written, and that of `regex` agree but for rarely used classes.

use std::borrow::Cow;

/// Longest expression compiled, in bytes of program: the default of `regex` is ten times as much.
pub(super) const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// The path of a request target as rules see it: without query and with `%xx` decoded.
///
/// Bytes that are not UTF-8 become U+FFFD, and an incomplete escape stays as written: an expression has
/// to match something, and the origin still gets the path as it came.
#[inline]
pub(crate) fn decode(target: &str) -> Cow<'_, str> {
    let is_end_or_escape = |byte| matches!(byte, b'?' | b'%');
    let first = target.bytes().position(is_end_or_escape).unwrap_or(target.len());
    let (path, rest) = target.split_at(first);
    if !rest.starts_with('%') {
        return Cow::Borrowed(path);
    }
    let path = target.split('?').next().unwrap_or(target);
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (value, next) = match (byte, after) {
            (b'%', [high, low, tail @ ..]) => match hex(*high, *low) {
                Some(value) => (value, tail),
                None => (byte, after),
            },
            _ => (byte, after),
        };
        decoded.push(value);
        rest = next;
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    Some(digit(high)? * 16 + digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_and_queries_dropped() {
        for (target, expected) in [
            ("/", "/"),
            ("/a?b=/c", "/a"),
            ("/a%2Fb", "/a/b"),
            ("/%c3%bc", "/ü"),
            ("/%ff", "/\u{fffd}"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
        ] {
            assert_eq!(decode(target), expected);
        }
    }
}
