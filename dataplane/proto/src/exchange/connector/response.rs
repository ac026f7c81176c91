//! The origin's response as the edge gets it.

use adit_wire::connect::{Entry, HeadError, encode_response};
use adit_wire::metadata::{HTTP_STATUS, TRAILERS, TRUE, UNREACHED};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONNECTION, HeaderMap, HeaderName, TRANSFER_ENCODING, UPGRADE};

use super::{KEEP_ALIVE, PROXY_CONNECTION};
use crate::exchange::reach::Reach;

/// Longest error text sent to the edge.
pub const ERROR_BYTES_MAX: usize = 1024;

/// Writes the `ConnectResponse` of a response: the status first, then every header value in its order.
///
/// Headers that end at this hop stay behind, except that a switch of protocols keeps those that say to
/// what. Names get the case that HTTP/1 visitors know from elsewhere.
///
/// # Errors
/// [`HeadError`] if the head is larger than a stream's head may be.
pub fn encode_response_head(status: StatusCode, headers: &HeaderMap) -> Result<Bytes, HeadError> {
    encode(status, &[], headers)
}

/// The same for a response whose body follows in frames ([`framed_body`](crate::exchange::framed_body)).
///
/// # Errors
/// As [`encode_response_head`].
pub fn encode_framed_response_head(status: StatusCode, headers: &HeaderMap) -> Result<Bytes, HeadError> {
    encode(status, &[Entry::new(TRAILERS, TRUE)], headers)
}

fn encode(status: StatusCode, marks: &[Entry<'_>], headers: &HeaderMap) -> Result<Bytes, HeadError> {
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    let is_kept = |name: &HeaderName| match *name {
        CONNECTION | UPGRADE => is_switch,
        TRANSFER_ENCODING => false,
        _ => *name != KEEP_ALIVE && *name != PROXY_CONNECTION,
    };
    let mut entries = Vec::with_capacity(1 + marks.len() + headers.len());
    entries.push(Entry::new(HTTP_STATUS, status.as_str()));
    // Before the headers: what is marked says how to read them.
    entries.extend_from_slice(marks);
    let kept = headers.iter().filter(|(name, _)| is_kept(name));
    entries.extend(kept.map(|(name, value)| Entry::title_case(name, value)));
    encode_response(b"", &entries)
}

/// Writes the `ConnectResponse` of an exchange that failed before the origin answered.
///
/// `reach` may only be told to edges of ours.
///
/// # Errors
/// None in practice: the text is cut to [`ERROR_BYTES_MAX`].
pub fn encode_error(text: &str, reach: Reach) -> Result<Bytes, HeadError> {
    let mut end = text.len().min(ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default().as_bytes();
    match reach.mark() {
        Some(value) => encode_response(text, &[Entry::new(UNREACHED, value)]),
        None => encode_response(text, &[]),
    }
}
