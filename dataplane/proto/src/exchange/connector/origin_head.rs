//! What of an origin's head is about its connection, or contradicts itself.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};

use crate::exchange::codings::Codings;
use crate::exchange::hop_by_hop::HopByHop;

/// The body of an answer is in a coding that no hop takes off, and a visitor would not be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the origin answers in a transfer coding other than chunked")]
pub struct UnknownCoding;

/// What an origin's connection is good for after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The end of the answer is beyond doubt.
    Clear,
    /// It said two things about the end (RFC 9112 §6.3): its connection is not used again.
    Contradictory,
}

/// Takes out of an origin's headers what says how it framed the body, and what it names in `Connection`
/// (RFC 9110 §7.6.1). A length beside `chunked` is no length.
///
/// # Errors
/// [`UnknownCoding`].
pub fn clean_origin_head(headers: &mut HeaderMap) -> Result<Framing, UnknownCoding> {
    HopByHop::remove_listed(headers);
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(Framing::Clear);
    }
    let lines = headers.get_all(TRANSFER_ENCODING).into_iter();
    match Codings::of(lines.map(HeaderValue::as_bytes)) {
        Codings::None | Codings::Chunked => {}
        Codings::ChunkedTwice | Codings::Unknown => return Err(UnknownCoding),
    }
    Ok(match headers.remove(CONTENT_LENGTH) {
        Some(_) => Framing::Contradictory,
        None => Framing::Clear,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn what_is_about_the_origins_connection_stays_there() {
        for (lines, expected, left) in [
            (&[("x-a", "1")][..], Ok(Framing::Clear), &["x-a"][..]),
            (
                &[("connection", "close, X-Hop"), ("x-hop", "1"), ("x-a", "1")],
                Ok(Framing::Clear),
                &["connection", "x-a"],
            ),
            (
                &[("connection", "content-length"), ("content-length", "5")],
                Ok(Framing::Clear),
                &["connection", "content-length"],
            ),
            (
                &[("content-length", "5"), ("transfer-encoding", "chunked")],
                Ok(Framing::Contradictory),
                &["transfer-encoding"],
            ),
            (
                &[("transfer-encoding", "gzip, chunked")],
                Err(UnknownCoding),
                &["transfer-encoding"],
            ),
        ] {
            let pairs = lines
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let mut headers: HeaderMap = pairs.collect();
            assert_eq!(clean_origin_head(&mut headers), expected, "{lines:?}");
            let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, left, "{lines:?}");
        }
    }
}
