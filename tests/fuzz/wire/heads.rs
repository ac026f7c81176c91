//! First bytes and heads of data streams.

use adit_wire::connect::{HeadError, METADATA_ENTRIES_MAX, Metadata, decode_request, decode_response};
use adit_wire::metadata::header_name;
use adit_wire::signature::StreamKind;
use bytes::Bytes;

use crate::engine::{MemoryBound, Target, run};

/// A head's list of pairs is at most [`METADATA_ENTRIES_MAX`] long, and grows by doubling; re-encoding
/// shared texts can double the message, once in the buffer and once decoded again.
const HEAD: MemoryBound = MemoryBound {
    base_bytes: 4 * (METADATA_ENTRIES_MAX * size_of::<(Bytes, Bytes)>()) as u64,
    factor: 16,
};

/// Checks a decoder of heads: all or nothing is taken, and what was decoded survives encoding.
fn check<T: PartialEq + std::fmt::Debug>(
    input: &[u8],
    decode: impl Fn(&mut Bytes) -> Result<Option<T>, HeadError>,
    encode: impl Fn(&T) -> Result<Bytes, HeadError>,
) -> Option<T> {
    let mut buffer = Bytes::copy_from_slice(input);
    let Ok(decoded) = decode(&mut buffer) else {
        return None;
    };
    let Some(head) = decoded else {
        assert_eq!(buffer, input, "an incomplete head takes nothing");
        return None;
    };
    assert!(input.ends_with(&buffer), "what follows the head stays");
    match encode(&head) {
        Ok(bytes) => {
            let mut again = bytes;
            assert_eq!(
                decode(&mut again).expect("our own bytes decode").as_ref(),
                Some(&head)
            );
            assert!(again.is_empty());
        }
        // Texts that shared their place in the input do not in the output.
        Err(error) => assert!(matches!(error, HeadError::TooLarge(_)), "{error}"),
    }
    Some(head)
}

fn check_metadata(metadata: &Metadata) {
    assert!(metadata.len() <= METADATA_ENTRIES_MAX);
    for (key, _) in metadata.iter() {
        if let Ok(Some(name)) = header_name(key) {
            assert!(key.ends_with(name) && !name.is_empty());
        }
    }
}

#[test]
fn connect_request() {
    run(&Target {
        name: "connect_request",
        memory: HEAD,
        check: |input| {
            if let Some(head) = check(input, decode_request, |head| head.encode()) {
                check_metadata(&head.metadata);
            }
        },
    });
}

#[test]
fn connect_response() {
    run(&Target {
        name: "connect_response",
        memory: HEAD,
        check: |input| {
            if let Some(head) = check(input, decode_response, |head| head.encode()) {
                check_metadata(&head.metadata);
            }
        },
    });
}

#[test]
fn stream_start() {
    run(&Target {
        name: "stream_start",
        memory: super::SMALL,
        check: |input| {
            let data = decode_request(&mut Bytes::copy_from_slice(input));
            let is_signed = StreamKind::of(input) == Some(StreamKind::Data);
            let is_refused = matches!(data, Err(HeadError::Signature));
            assert!(
                input.len() < 6 || is_signed != is_refused,
                "both read the same signature"
            );
        },
    });
}
