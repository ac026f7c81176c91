//! Targets of requests: what a URI may have in them, and what is percent-encoded first.
//!
//! Old clients, and some libraries, send `<`, `>`, `"`, a backquote or bytes beyond ASCII as they are.
//! Origins get them as `%3C` and so on. Other characters stay as they came, if the `http` crate takes them in
//! a URI: also `{`, `}`, `|` and `^`, which no URI has.

use std::ops::Range;

use http::Uri;

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A URI, or as good as one.
    Uri,
    /// One once it is [`encoded`].
    Raw,
    /// Not even then.
    Other,
}

/// Looks at a target.
pub(super) fn judge(target: &str) -> Form {
    let bytes = target.as_bytes();
    let has_suspects = bytes
        .iter()
        .any(|byte| is_raw(*byte, true) || is_raw(*byte, false));
    // `"` has a place in a path, not in a query.
    let has_raw = has_suspects && bytes_with_query(bytes).any(|(byte, in_query)| is_raw(byte, in_query));
    match (becomes_uri(bytes), has_raw) {
        (true, false) => Form::Uri,
        (true, true) => Form::Raw,
        (false, _) => Form::Other,
    }
}

/// Whether a target is a URI once it is [`encoded`].
pub(super) fn becomes_uri(target: &[u8]) -> bool {
    target.first() == Some(&b'/') || Uri::try_from(encoded(target)).is_ok()
}

/// The target with all percent-encoded that no URI takes.
#[must_use]
pub fn encoded(target: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
    let mut out = Vec::with_capacity(target.len() + 16);
    for (byte, in_query) in bytes_with_query(target) {
        if is_raw(byte, in_query) {
            out.extend([b'%', digit(byte >> 4), digit(byte & 0xf)]);
        } else {
            out.push(byte);
        }
    }
    out
}

/// Where the target of a request is: between the first two spaces of its first line.
pub(super) fn range(bytes: &[u8]) -> Option<Range<usize>> {
    let line = super::empty_lines(bytes);
    let method = bytes.get(line..)?.iter().position(|byte| *byte == b' ')?;
    let start = line + method + 1;
    let size = bytes.get(start..)?.iter().position(|byte| *byte == b' ')?;
    Some(start..start + size)
}

/// Each byte, and whether it is behind the first question mark.
fn bytes_with_query(target: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let query = target.iter().position(|byte| *byte == b'?');
    let query = query.unwrap_or(target.len());
    target
        .iter()
        .enumerate()
        .map(move |(at, byte)| (*byte, at > query))
}

/// Whether a URI has no place for this byte.
fn is_raw(byte: u8, in_query: bool) -> bool {
    match byte {
        b'<' | b'>' | 0x80.. => true,
        b'"' => in_query,
        b'`' => !in_query,
        _ => false,
    }
}
