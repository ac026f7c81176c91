//! Heads of requests and the ends of their bodies.

use adit_proto::limits::HEAD_BYTES_MAX;
use adit_proto::request_head::{self, ChunkedBody};
use adit_proto::sent_frames::SentFrames;

use crate::engine::{MemoryBound, Target, run};

/// A target is copied to be encoded, and so is a head whose target is no text.
const COPIED: MemoryBound = MemoryBound {
    base_bytes: 4 * 1024,
    factor: 12,
};

#[test]
fn request_head() {
    run(&Target {
        name: "request_head",
        memory: COPIED,
        check: |input| {
            let read = request_head::read(input);
            let Ok(Some(head)) = read else {
                // Nothing that comes later makes a bad head good.
                if read.is_err() {
                    assert!(!matches!(
                        request_head::read(&[input, b"\r\n\r\n"].concat()),
                        Ok(Some(_))
                    ));
                }
                return;
            };
            assert!(head.size <= input.len().min(HEAD_BYTES_MAX));
            let whole = &input[..head.size];
            assert_eq!(request_head::read(whole), Ok(Some(head.clone())));
            assert!(request_head::may_be_whole(whole, head.size - 1));
            let cut = request_head::read(&whole[..head.size - 1]);
            assert!(!matches!(cut, Ok(Some(_))), "whole before its end");
            let Some(target) = head.raw_target else { return };
            let encoded = request_head::encoded(&whole[target.clone()]);
            let again = [&whole[..target.start], &encoded, &whole[target.end..]].concat();
            // Encoding grows it threefold at most, perhaps beyond the limit.
            if let Ok(Some(again)) = request_head::read(&again) {
                assert_eq!((again.framing, again.raw_target), (head.framing, None));
            } else {
                assert!(again.len() > HEAD_BYTES_MAX);
            }
        },
    });
}

#[test]
fn chunked_body() {
    run(&Target {
        name: "chunked_body",
        memory: COPIED,
        check: |input| {
            let whole = ChunkedBody::default().handle_bytes(input);
            for step in [1, 2, 7] {
                let (mut body, mut at, mut ended) = (ChunkedBody::default(), 0, Ok(None));
                for part in input.chunks(step) {
                    ended = body.handle_bytes(part).map(|end| end.map(|size| at + size));
                    if ended != Ok(None) {
                        break;
                    }
                    at += part.len();
                }
                assert_eq!(ended, whole, "in steps of {step}");
            }
        },
    });
}

#[test]
fn sent_frames() {
    run(&Target {
        name: "sent_frames",
        memory: COPIED,
        check: |input| {
            let told = |step: usize| {
                let (mut frames, mut told) = (SentFrames::default(), Vec::new());
                for part in input.chunks(step) {
                    frames.handle_bytes(part, |broken| told.push(broken));
                }
                told
            };
            assert_eq!(told(1), told(input.len().max(1)));
        },
    });
}
