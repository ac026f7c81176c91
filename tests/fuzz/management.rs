//! What reaches an edge and a connector by the management hostname: tokens of strangers, and messages of
//! WebSockets.

use std::time::UNIX_EPOCH;

use adit_control_api::management::{ManagementKey, TOKEN_BYTES_MAX};
use adit_proto::websocket::{MessageError, Messages, Peer, Told};
use bytes::Bytes;

use crate::engine::{MemoryBound, Target, run};

/// A token is decoded and parsed, and what it says is a fraction of it.
const TOKEN: MemoryBound = MemoryBound {
    base_bytes: 8 * TOKEN_BYTES_MAX as u64,
    factor: 8,
};

/// One message is held, and given away once.
const MESSAGES: MemoryBound = MemoryBound {
    base_bytes: 8 * 1024,
    factor: 8,
};

/// Largest message of the target.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// The base point of P-256; that a mutation signs for it is out of the question.
const KEY: &str = "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU";

#[test]
fn management_token() {
    run(&Target {
        name: "management_token",
        memory: TOKEN,
        check: |input| {
            let key = ManagementKey::try_from(KEY.to_owned()).expect("a point");
            let Ok(text) = std::str::from_utf8(input) else {
                return;
            };
            assert!(
                key.verify(text, UNIX_EPOCH).is_err(),
                "nothing is signed for this key"
            );
        },
    });
}

/// What a stream tells, given in pieces of this size.
fn told(input: &[u8], size: usize) -> (Vec<Told>, Option<MessageError>) {
    let mut messages = Messages::new(Peer::Client, MESSAGE_BYTES_MAX);
    let mut all = Vec::new();
    for piece in input.chunks(size) {
        let mut bytes = Bytes::copy_from_slice(piece);
        loop {
            match messages.handle_bytes(&mut bytes) {
                Ok(Some(told)) => all.push(told),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
}

#[test]
fn websocket_messages() {
    run(&Target {
        name: "websocket_messages",
        memory: MESSAGES,
        check: |input| {
            let whole = told(input, input.len().max(1));
            for one in &whole.0 {
                if let Told::Message(text) = one {
                    assert!(text.len() <= MESSAGE_BYTES_MAX);
                }
            }
            assert_eq!(told(input, 7), whole, "it does not matter how a stream is cut");
        },
    });
}
