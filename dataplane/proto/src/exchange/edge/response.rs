//! A connector's response head as the visitor gets it.

use adit_wire::connect::ConnectResponse;
use adit_wire::metadata::{self, HTTP_STATUS};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers of one response; more are refused as not valid.
const RESPONSE_HEADERS_MAX: usize = 256;

/// What the visitor gets.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status of the origin.
    pub status: StatusCode,
    /// Its headers, without those of the connector's own connection to it.
    pub headers: HeaderMap,
}

/// The stream's head is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The connector could not get a response; its words, for the log only.
    #[error("the connector reports: {0}")]
    Refused(String),
    /// The head lacks a status or holds something HTTP does not allow.
    #[error("the response head is not valid: {0}")]
    Invalid(&'static str),
}

/// Longest text of a connector that is logged.
const REASON_BYTES_MAX: usize = 512;

/// Reads the head of the reply.
///
/// # Errors
/// [`ResponseError`].
pub fn read(response: &ConnectResponse) -> Result<ResponseHead, ResponseError> {
    if !response.error.is_empty() {
        let text = response.error.get(..REASON_BYTES_MAX).unwrap_or(&response.error);
        return Err(ResponseError::Refused(String::from_utf8_lossy(text).into_owned()));
    }
    if response.metadata.len() > RESPONSE_HEADERS_MAX {
        return Err(ResponseError::Invalid("too many headers"));
    }
    let mut status = None;
    let mut headers = HeaderMap::with_capacity(response.metadata.len());
    for (key, value) in &response.metadata {
        if key == HTTP_STATUS {
            status = StatusCode::from_bytes(value).ok();
            continue;
        }
        let Ok(Some(name)) = metadata::header_name(key) else { continue };
        let name = HeaderName::from_bytes(name).map_err(|_| ResponseError::Invalid("a header's name"))?;
        let value =
            HeaderValue::from_bytes(value).map_err(|_| ResponseError::Invalid("a header's value"))?;
        headers.append(name, value);
    }
    let status = status.ok_or(ResponseError::Invalid("no status"))?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(ResponseError::Invalid("an interim status"));
    }
    drop_hop_by_hop(&mut headers, status);
    Ok(ResponseHead { status, headers })
}

/// RFC 9110 §7.6.1: these speak of the connector's connection, not of ours.
fn drop_hop_by_hop(headers: &mut HeaderMap, status: StatusCode) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|token| token.trim().parse().ok())
        .collect();
    for name in named {
        if !(status == StatusCode::SWITCHING_PROTOCOLS && name == header::UPGRADE) {
            headers.remove(name);
        }
    }
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::TE, header::TRAILER] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    // RFC 9110 §8.6: no length where there is no content.
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn response(entries: &[(&str, &[u8])]) -> ConnectResponse {
        let metadata = entries
            .iter()
            .map(|(key, value)| (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value)))
            .collect();
        ConnectResponse { error: Bytes::new(), metadata }
    }

    #[test]
    fn status_and_repeated_headers_arrive_with_raw_bytes() {
        let head = read(&response(&[
            ("HttpStatus", b"200"),
            ("HttpHeader:Set-Cookie", b"a=1"),
            ("HttpHeader:Set-Cookie", b"b=2"),
            ("HttpHeader:X-Raw", b"caf\xe9"),
        ]))
        .unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(head.headers["x-raw"].as_bytes(), b"caf\xe9");
    }

    #[test]
    fn the_connectors_own_connection_headers_are_dropped() {
        let head = read(&response(&[
            ("HttpStatus", b"204"),
            ("HttpHeader:Connection", b"keep-alive, X-Hop"),
            ("HttpHeader:X-Hop", b"1"),
            ("HttpHeader:Transfer-Encoding", b"chunked"),
            ("HttpHeader:Content-Length", b"0"),
        ]))
        .unwrap();
        assert!(head.headers.is_empty(), "{:?}", head.headers);
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        let refused =
            ConnectResponse { error: Bytes::from_static(b"no route to origin"), metadata: Vec::new() };
        assert_eq!(read(&refused).unwrap_err(), ResponseError::Refused("no route to origin".into()));
        for bad in [
            response(&[]),
            response(&[("HttpStatus", b"20x")]),
            response(&[("HttpStatus", b"103")]),
            response(&[("HttpStatus", b"200"), ("HttpHeader:Bad Name", b"1")]),
            response(&[("HttpStatus", b"200"), ("HttpHeader:X", b"a\r\nb: c")]),
        ] {
            assert!(matches!(read(&bad), Err(ResponseError::Invalid(_))), "{bad:?}");
        }
    }
}
