//! Reads the head of an HTTP/1 request before the HTTP library does: whether it is whole, whether it may
//! pass, where its body ends. Pure.
//!
//! ```text
//! bytes ─► read() ─► none yet | Head { size, framing, target } | Fault
//! ```
//! The parser is the one that hyper uses, with the same settings, so both see the same head in the same
//! bytes. Two things are added. Heads that hyper takes but others may read otherwise are refused (RFC 9112
//! §6.1). Targets that are no URI but that old clients send are found. What passes here passes hyper: the
//! tests compare the two.
//!
//! Costs one pass over the head, and no allocation unless the target is rewritten.

mod chunked;
mod target;

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Error, Header, Request, Status};

use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

pub use chunked::{ChunkedBody, NotChunked};
pub use target::encoded;

/// A head that is whole and may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its bytes, with the empty line at its end and those before it.
    pub size: usize,
    /// What follows it.
    pub framing: Framing,
    /// Where its target is, if that has to be [`encoded`] first.
    pub raw_target: Option<Range<usize>>,
}

/// How the end of a request's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its length, which is 0 without a body.
    Length(u64),
    /// By its last chunk.
    Chunked,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Fault {
    /// No head of HTTP/1.
    #[error("the request head is malformed")]
    Malformed,
    /// A target that cannot be made a URI.
    #[error("the request target is no URI")]
    Target,
    /// The end of the body can be read in more than one way, or in none.
    #[error("the request head does not say clearly where the body ends")]
    Framing,
    /// Too many bytes or headers.
    #[error("the request head is too large")]
    TooLarge,
}

impl Fault {
    /// Number of faults: the size of arrays indexed by [`Self::index`].
    pub const COUNT: usize = 4;

    /// Every fault in the order of [`Self::index`].
    pub const ALL: [Self; Self::COUNT] = [Self::Malformed, Self::Target, Self::Framing, Self::TooLarge];

    /// 0-based, for counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Target => "target",
            Self::Framing => "framing",
            Self::TooLarge => "too-large",
        }
    }
}

/// Reads a head that begins with `bytes`; `None` while it is not whole.
///
/// # Errors
/// [`Fault`], perhaps before the head is whole.
pub fn read(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = Request::new(&mut []);
    let size = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(size)) if size <= HEAD_BYTES_MAX => size,
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(Status::Complete(_) | Status::Partial) | Err(Error::TooManyHeaders) => {
            return Err(Fault::TooLarge);
        }
        // The parser's targets are text: other bytes are looked at when the head is whole.
        Err(Error::Token) if request.method.is_some() => return read_other_bytes(bytes),
        Err(_) => return Err(Fault::Malformed),
    };
    let framing = framing(request.headers, request.version == Some(1))?;
    let path = request.path.unwrap_or_default();
    let raw_target = match target::judge(path) {
        target::Form::Uri => None,
        target::Form::Raw => Some(range_of(bytes, path)?),
        target::Form::Other => return Err(Fault::Target),
    };
    Ok(Some(Head {
        size,
        framing,
        raw_target,
    }))
}

/// What a head asks for, as far as it can be read: its method and its target. For logs.
#[must_use]
pub fn request_line(bytes: &[u8]) -> (Option<&str>, Option<&str>) {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = Request::new(&mut []);
    // However it ends, what was read stays.
    let _ = request.parse_with_uninit_headers(bytes, &mut headers);
    (request.method, request.path)
}

/// Whether a head may be whole that was not with `seen` bytes: an empty line has come since.
#[must_use]
pub fn may_be_whole(bytes: &[u8], seen: usize) -> bool {
    let since = bytes.get(seen.saturating_sub(3)..).unwrap_or_default();
    since.windows(2).any(|pair| pair == b"\n\n") || since.windows(3).any(|three| three == b"\n\r\n")
}

/// Empty lines at the beginning, which belong to no head (RFC 9112 §2.2).
#[must_use]
pub fn empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] = rest {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Reads a head whose target the parser does not take: one with bytes that are no text, or none at all.
fn read_other_bytes(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let range = target::range(bytes).ok_or(Fault::Malformed)?;
    if bytes.get(range.clone()).is_none_or(<[u8]>::is_ascii) {
        return Err(Fault::Malformed);
    }
    // The same head with a target of nothing but text, as long as the true one.
    let mut text = bytes.to_vec();
    for byte in text.get_mut(range.clone()).unwrap_or_default() {
        if !byte.is_ascii() {
            *byte = b'x';
        }
    }
    let head = read(&text)?;
    if head.is_some() && !target::becomes_uri(bytes.get(range.clone()).unwrap_or_default()) {
        return Err(Fault::Target);
    }
    Ok(head.map(|head| Head {
        raw_target: Some(range),
        ..head
    }))
}

/// Where in `bytes` the parser found `path`.
fn range_of(bytes: &[u8], path: &str) -> Result<Range<usize>, Fault> {
    let range = target::range(bytes).filter(|range| range.len() == path.len());
    range.ok_or(Fault::Malformed)
}

/// How the body ends, by rules that leave no choice (RFC 9112 §6.3).
fn framing(headers: &[Header<'_>], is_11: bool) -> Result<Framing, Fault> {
    let (mut length, mut codings) = (None, None);
    for Header { name, value } in headers {
        if name.eq_ignore_ascii_case("content-length") {
            let announced = number(value).ok_or(Fault::Framing)?;
            if length.replace(announced).is_some_and(|other| other != announced) {
                return Err(Fault::Framing);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            // Applied twice, or under another one: nobody is sure where that ends.
            if codings == Some(true) || count_chunked(value) > 1 {
                return Err(Fault::Framing);
            }
            let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            let is_chunked = value.is_ascii() && last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            codings = Some(is_chunked);
        }
    }
    match (length, codings) {
        (length, None) => Ok(Framing::Length(length.unwrap_or(0))),
        (None, Some(true)) if is_11 => Ok(Framing::Chunked),
        (Some(_), Some(_)) | (None, Some(_)) => Err(Fault::Framing),
    }
}

fn count_chunked(value: &[u8]) -> usize {
    let codings = value.split(|byte| *byte == b',');
    codings
        .filter(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
        .count()
}

/// A length: digits only, and less than what stands for none.
fn number(value: &[u8]) -> Option<u64> {
    const LENGTH_MAX: u64 = u64::MAX - 2;
    if value.is_empty() {
        return None;
    }
    let number = value.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.filter(|number| *number <= LENGTH_MAX)
}

#[cfg(test)]
mod tests;
