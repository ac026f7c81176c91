//! Bodies in frames, and the trailers behind them.

use adit_proto::exchange::framed_body::{FramedBody, data_frame, trailers_frame};
use adit_wire::connect::METADATA_ENTRIES_MAX;
use bytes::Bytes;
use http::HeaderMap;

use crate::engine::{MemoryBound, Target, run};

/// Trailers are collected in a buffer that doubles as it grows. The list of a head and a table of headers
/// come on top. [`METADATA_ENTRIES_MAX`] bounds both however few bytes announce them.
const COLLECTED: MemoryBound = MemoryBound {
    base_bytes: 4 * (METADATA_ENTRIES_MAX * size_of::<(Bytes, Bytes)>()) as u64,
    factor: 24,
};

type Read = Option<(Vec<u8>, Option<HeaderMap>)>;

/// What comes out of `input`, given in pieces of `step` bytes.
fn read(input: &[u8], step: usize) -> Read {
    let (mut body, mut data) = (FramedBody::default(), Vec::new());
    for piece in input.chunks(step.max(1)) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(part) = body.handle_bytes(&mut piece).ok()? {
            assert!(!part.is_empty(), "a piece of nothing");
            data.extend_from_slice(&part);
        }
        assert!(piece.is_empty(), "all that came is taken");
    }
    Some((data, body.finish().ok()?))
}

/// `None` for trailers that shared their texts in the input and are too large without.
fn written(data: Vec<u8>, trailers: Option<&HeaderMap>) -> Option<Vec<u8>> {
    let (mut rest, mut all) = (Bytes::from(data), Vec::new());
    while !rest.is_empty() {
        all.extend(data_frame(&mut rest).concat());
    }
    if let Some(trailers) = trailers {
        all.extend(trailers_frame(trailers).ok()?.concat());
    }
    Some(all)
}

#[test]
fn framed_body() {
    run(&Target {
        name: "framed_body",
        memory: COLLECTED,
        check: |input| {
            let whole = read(input, input.len());
            // Cuts change nothing.
            for step in [1, 7, 1_200] {
                assert_eq!(read(input, step), whole);
            }
            if let Some((data, trailers)) = whole
                && let Some(again) = written(data.clone(), trailers.as_ref())
            {
                assert_eq!(read(&again, again.len()), Some((data, trailers)));
            }
        },
    });
}
