//! Puts the limits of RPC messages between a stream and capnp-rpc.
//!
//! The RPC library takes memory for a message as soon as its segment table announces one, and keeps the
//! answer to every call until the caller has finished with it. The gate reads along and fails the stream
//! when a message is larger than the connector may send (64 KiB until it has registered, 1 MiB afterwards),
//! or when there have been more of them than any honest connector sends in its life.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use adit_wire::framing::{FrameError, FrameGate, WORD_SIZE};
use tokio::io::{AsyncRead, ReadBuf};

/// Messages on one stream. A connector sends about ten, and three for each change of its configuration.
const MESSAGES_MAX: usize = 4_096;

/// A stream broke the limits of RPC messages.
#[derive(Debug, thiserror::Error)]
enum GateError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("more than {MESSAGES_MAX} messages on one stream")]
    TooManyMessages,
}

/// A stream whose messages are limited; the limit of their size is shared with whoever raises it.
pub(crate) struct Gated<R> {
    stream: R,
    counted: Counted,
}

impl<R> Gated<R> {
    pub(crate) fn new(stream: R, limit: usize) -> (Self, Rc<RefCell<FrameGate>>) {
        let gate = Rc::new(RefCell::new(FrameGate::new(limit)));
        (
            Self {
                stream,
                counted: Counted::new(gate.clone()),
            },
            gate,
        )
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Gated<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let checked = self.counted.handle_bytes(read);
        Poll::Ready(checked.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
    }
}

/// A frame gate that counts messages.
struct Counted {
    gate: Rc<RefCell<FrameGate>>,
    /// Bytes read of the present word. Messages begin and end at words.
    word_read: usize,
    messages: usize,
}

impl Counted {
    fn new(gate: Rc<RefCell<FrameGate>>) -> Self {
        Self {
            gate,
            word_read: 0,
            messages: 0,
        }
    }

    fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<(), GateError> {
        let mut gate = self.gate.borrow_mut();
        while !bytes.is_empty() {
            let (word, rest) = bytes.split_at(bytes.len().min(WORD_SIZE - self.word_read));
            gate.handle_bytes(word)?;
            self.word_read = (self.word_read + word.len()) % WORD_SIZE;
            if self.word_read == 0 && gate.is_between_messages() {
                self.messages += 1;
                if self.messages > MESSAGES_MAX {
                    return Err(GateError::TooManyMessages);
                }
            }
            bytes = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One segment of `words` words.
    fn message(words: u8) -> Vec<u8> {
        let mut bytes = vec![0; 8 * (usize::from(words) + 1)];
        bytes[4] = words;
        bytes
    }

    fn counted(limit: usize) -> Counted {
        Counted::new(Rc::new(RefCell::new(FrameGate::new(limit))))
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let stream: Vec<u8> = [message(0), message(3), message(1)].concat();
        for piece in 1..=stream.len() {
            let mut counted = counted(1_024);
            stream
                .chunks(piece)
                .for_each(|part| counted.handle_bytes(part).unwrap());
            assert_eq!(counted.messages, 3, "in pieces of {piece}");
        }
    }

    #[test]
    fn too_many_or_too_large_messages_end_the_stream() {
        let mut many = counted(1_024);
        for _ in 0..MESSAGES_MAX {
            many.handle_bytes(&message(2)).unwrap();
        }
        assert!(matches!(
            many.handle_bytes(&message(2)),
            Err(GateError::TooManyMessages)
        ));
        assert!(matches!(
            counted(64).handle_bytes(&message(9)),
            Err(GateError::Frame(_))
        ));
    }
}
