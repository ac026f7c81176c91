//! Interim answers (1xx, RFC 9110 §15.2): what an origin says ahead of its answer, such as 103 Early Hints.
//!
//! ```text
//! origin ─ 103, 103, 200 ─► connector ─ a ConnectResponse each, or 1xx over HTTP/2 ─► edge ─► visitor
//! ```
//! A switch of protocols (101) is an answer, and none of these. Both ends keep to [`Allowance`], so that an
//! origin cannot keep anybody busy with them. What is more is not passed on.

use adit_wire::connect::ConnectResponse;
use adit_wire::metadata::HTTP_STATUS;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName};

use super::edge::response::{is_internal, read};
use super::hop_by_hop::HopByHop;

/// Interim answers of one exchange that are passed on. Servers of repute send one or two.
pub const HEADS_MAX: u32 = 16;

/// Bytes of their headers, all together.
pub const BYTES_MAX: usize = 16 << 10;

/// What of an exchange's interim answers may still be passed on.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    heads: u32,
    bytes: usize,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            heads: HEADS_MAX,
            bytes: BYTES_MAX,
        }
    }
}

impl Allowance {
    /// Whether one with these headers may pass. It then counts.
    pub fn admits(&mut self, headers: &HeaderMap) -> bool {
        let size: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        match (self.heads.checked_sub(1), self.bytes.checked_sub(size)) {
            (Some(heads), Some(bytes)) => {
                *self = Self { heads, bytes };
                true
            }
            _ => false,
        }
    }
}

/// Whether an answer of this status is an interim one.
pub fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Removes what is the origin's connection's alone, and what is said of a body, which there is none of.
pub fn clean(headers: &mut HeaderMap) {
    HopByHop::remove_listed(headers);
    let stays = HopByHop::default();
    let names: Vec<HeaderName> = headers.keys().cloned().collect();
    for name in names {
        if name == CONTENT_LENGTH || stays.contains(name.as_str()) || is_internal(name.as_str()) {
            headers.remove(name);
        }
    }
}

/// Whether a connector's words are an interim answer. It says the status first.
pub fn is_interim_response(response: &ConnectResponse) -> bool {
    let first = response.metadata.iter().next();
    let status = first.filter(|(key, _)| *key == HTTP_STATUS.as_bytes());
    status
        .and_then(|(_, value)| StatusCode::from_bytes(value).ok())
        .is_some_and(is_interim)
}

/// An interim answer for the visitor; `None` if its head is none.
pub fn interim_response(response: &ConnectResponse) -> Option<(StatusCode, HeaderMap)> {
    let (status, mut headers) = read(&response.metadata).ok()?.into_head();
    headers.remove(CONTENT_LENGTH);
    is_interim(status).then_some((status, headers))
}

/// An interim answer as HTTP/1.1 writes it.
pub fn http1_head(status: StatusCode, headers: &HeaderMap) -> Bytes {
    let mut head = BytesMut::new();
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in headers {
        head.put_slice(b"\r\n");
        head.put_slice(name.as_str().as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
    }
    head.put_slice(b"\r\n\r\n");
    head.freeze()
}

#[cfg(test)]
mod tests {
    use adit_wire::connect::decode_response;
    use http::HeaderValue;

    use super::*;
    use crate::exchange::connector::encode_response_head;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        lines.collect()
    }

    #[test]
    fn hints_pass_and_what_is_of_a_hop_does_not() {
        let mut origins = headers(&[
            ("link", "</a.css>; rel=preload"),
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("content-length", "7"),
            ("transfer-encoding", "chunked"),
            ("cf-int-secret", "1"),
        ]);
        clean(&mut origins);
        assert_eq!(origins, headers(&[("link", "</a.css>; rel=preload")]));
        let mut encoded = encode_response_head(StatusCode::EARLY_HINTS, &origins).unwrap();
        let response = decode_response(&mut encoded).unwrap().unwrap();
        assert!(is_interim_response(&response));
        let (status, got) = interim_response(&response).unwrap();
        assert_eq!(
            http1_head(status, &got),
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
        );
    }

    #[test]
    fn answers_and_switches_are_no_interim_ones() {
        for (status, expected) in [
            (100, true),
            (101, false),
            (102, true),
            (103, true),
            (199, true),
            (200, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let mut encoded = encode_response_head(status, &HeaderMap::new()).unwrap();
            let response = decode_response(&mut encoded).unwrap().unwrap();
            assert_eq!(is_interim_response(&response), expected, "{status}");
            assert_eq!(interim_response(&response).is_some(), expected, "{status}");
        }
        assert!(!is_interim_response(&ConnectResponse::default()));
        let unnamed = StatusCode::from_u16(199).unwrap();
        assert_eq!(http1_head(unnamed, &HeaderMap::new()), "HTTP/1.1 199 \r\n\r\n");
    }

    #[test]
    fn an_exchange_has_so_many_heads_and_so_many_bytes() {
        let mut allowance = Allowance::default();
        let none = HeaderMap::new();
        assert_eq!(
            (0..100).filter(|_| allowance.admits(&none)).count(),
            HEADS_MAX as usize
        );
        let mut allowance = Allowance::default();
        let large = HeaderMap::from_iter([(
            HeaderName::from_static("link"),
            HeaderValue::from_bytes(&vec![b'x'; BYTES_MAX / 2]).unwrap(),
        )]);
        assert!(allowance.admits(&large) && !allowance.admits(&large) && allowance.admits(&none));
    }
}
