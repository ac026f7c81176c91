//! The `/ws` of `hello_world`: a WebSocket that says back what it hears, without any origin.

use adit_driver::quic::{RecvStream, SendStream};
use adit_proto::exchange::connector::echo::Echo;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderMap, HeaderValue};

use super::websocket::End;

/// Where it is.
const PATH: &str = "/ws";

/// What a server appends to the key before it digests it (RFC 6455 §4.2.2).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Length of a key: 16 bytes as base64.
const KEY_LENGTH: usize = 24;

/// Whether a request for `target`, a path with its query, is for the echo.
pub(crate) fn is_at(target: &str) -> bool {
    target.split('?').next() == Some(PATH)
}

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

/// Echoes until the visitor closes or goes; `first` came along with the request.
pub(crate) async fn serve(first: Bytes, send: &mut SendStream, recv: &mut RecvStream) -> End {
    let mut echo = Echo::default();
    let mut chunk = first;
    loop {
        let answer = echo.handle_bytes(&chunk);
        if !answer.is_empty() && send.write(answer).await.is_err() {
            return End::Broken;
        }
        if echo.is_closed() {
            return End::Finished;
        }
        chunk = match recv.read_chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return End::Finished,
            Err(_) => return End::Broken,
        };
    }
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

    #[test]
    fn only_its_path_is_its() {
        assert!(is_at("/ws") && is_at("/ws?a=/b"));
        assert!(!is_at("/") && !is_at("/ws/") && !is_at("/wsx") && !is_at("/?/ws"));
    }
}
