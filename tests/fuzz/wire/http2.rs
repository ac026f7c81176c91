//! What tunnels over HTTP/2 say in headers and in the answer to a configuration.

use adit_wire::config_push::ConfigApplied;
use adit_wire::http2::{Headers, ResponseMeta, encode_headers};

use super::SMALL;
use crate::engine::{MemoryBound, Target, run};

/// A pair of two empty texts takes two bytes of the value, and a place of 16 bytes.
const PAIRS: MemoryBound = MemoryBound {
    base_bytes: 4 * 1024,
    factor: 64,
};

#[test]
fn http2_headers() {
    run(&Target {
        name: "http2_headers",
        memory: PAIRS,
        check: |input| {
            if let Ok(headers) = Headers::decode(input) {
                let again = encode_headers(headers.iter());
                let again = Headers::decode(again.as_bytes()).expect("our own headers are valid");
                assert_eq!(again, headers);
            }
        },
    });
}

#[test]
fn http2_answers() {
    run(&Target {
        name: "http2_answers",
        memory: MemoryBound { factor: 256, ..SMALL },
        check: |input| {
            if let Some(meta) = ResponseMeta::parse(input) {
                assert_eq!(ResponseMeta::parse(meta.as_str().as_bytes()), Some(meta));
            }
            if let Ok(applied) = ConfigApplied::from_json(input) {
                assert!(applied.error.len() <= adit_wire::config_push::ERROR_BYTES_MAX);
            }
        },
    });
}
