//! The origin's response as the edge gets it.

use adit_wire::connect::{Entry, HeadError, encode_response};
use adit_wire::metadata::HTTP_STATUS;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONNECTION, HeaderMap, HeaderName, TRANSFER_ENCODING, UPGRADE};

use super::{KEEP_ALIVE, PROXY_CONNECTION};

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
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    let is_kept = |name: &HeaderName| match *name {
        CONNECTION | UPGRADE => is_switch,
        TRANSFER_ENCODING => false,
        _ => *name != KEEP_ALIVE && *name != PROXY_CONNECTION,
    };
    let names: usize = headers.keys().map(|name| name.as_str().len()).sum();
    let mut canonical = Vec::with_capacity(names);
    for name in headers.keys().filter(|name| is_kept(name)) {
        write_canonical(&mut canonical, name.as_str());
    }
    let mut entries = Vec::with_capacity(1 + headers.len());
    entries.push(Entry::new(HTTP_STATUS, status.as_str()));
    let mut rest = canonical.as_slice();
    for name in headers.keys().filter(|name| is_kept(name)) {
        let (written, after) = rest.split_at(name.as_str().len());
        rest = after;
        for value in headers.get_all(name) {
            entries.push(Entry::header(written, value.as_bytes()));
        }
    }
    encode_response(b"", &entries)
}

/// Writes the `ConnectResponse` of an exchange that failed before the origin answered.
///
/// # Errors
/// None in practice: the text is cut to [`ERROR_BYTES_MAX`].
pub fn encode_error(text: &str) -> Result<Bytes, HeadError> {
    let mut end = text.len().min(ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    encode_response(text.get(..end).unwrap_or_default().as_bytes(), &[])
}

/// `content-type` as `Content-Type`.
fn write_canonical(out: &mut Vec<u8>, name: &str) {
    let mut is_start = true;
    for byte in name.bytes() {
        out.push(if is_start { byte.to_ascii_uppercase() } else { byte });
        is_start = byte == b'-';
    }
}
