//! Agreeing to a WebSocket that the connector itself speaks.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderMap, HeaderValue};

/// What a server appends to the key before it digests it (RFC 6455 §4.2.2).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Length of a key: 16 bytes as base64.
const KEY_LENGTH: usize = 24;

/// The headers of the 101 to a visitor who sent `key`; `None` if that is no key.
pub(crate) fn accept(key: Option<&HeaderValue>) -> Option<HeaderMap> {
    let key = key?.as_bytes();
    if key.len() != KEY_LENGTH || STANDARD.decode(key).is_err() {
        return None;
    }
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    let proof = HeaderValue::try_from(STANDARD.encode(proof)).ok()?;
    Some(HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, proof),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standards_example() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let headers = accept(Some(&key)).unwrap();
        assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for bad in [
            None,
            Some(""),
            Some("dGhlIHNhbXBsZSBub25jZQ"),
            Some("dGhlIHNhbXBsZSBub25j!!!!"),
        ] {
            let bad = bad.map(HeaderValue::from_static);
            assert_eq!(accept(bad.as_ref()), None, "{bad:?}");
        }
    }
}
