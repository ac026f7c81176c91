//! Whole messages of a WebSocket, for protocols that are made of texts.
//!
//! ```text
//! text, binary, in parts or whole ─► the message, once it is whole     ping ─► a pong to send
//! close ─► its code and reason, and the end                            pong ─► nothing
//! ```
//! Holds one message, up to a limit of the caller's; control frames may stand between its parts.
//!
//! Source: RFC 6455 §5.

use bytes::{Buf as _, Bytes, BytesMut};

use super::frame::{
    CLOSE, CONTROL_BYTES_MAX, HEAD_BYTES_MAX, Head, HeadBytes, Kind, Peer, TEXT, Unlawful, apply_mask,
    put_head,
};

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A message; whether it was text or bytes does not matter to anybody here.
    Message(Bytes),
    /// A ping with this payload; [`pong`](super::carrier::pong) answers it.
    Ping(Bytes),
    /// The peer says no more, with a code if it gave one, and a reason.
    Close(Option<u16>, Bytes),
}

/// The peer cannot be listened to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It breaks the protocol.
    #[error(transparent)]
    Unlawful(#[from] Unlawful),
    /// A message is larger than the limit.
    #[error("a WebSocket message is too large")]
    TooLarge,
}

impl MessageError {
    /// The code to close with (RFC 6455 §7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Unlawful(Unlawful) => 1002,
            Self::TooLarge => 1009,
        }
    }
}

/// Puts the messages of one peer together.
#[derive(Debug)]
pub struct Messages {
    peer: Peer,
    bytes_max: usize,
    phase: Phase,
    /// The parts of the message so far.
    message: BytesMut,
    /// Between the first and the last part of a message.
    is_fragmented: bool,
}

#[derive(Debug)]
enum Phase {
    Head(HeadBytes),
    Payload {
        left: usize,
        /// Turned so that its first byte is for the next byte of the payload.
        mask: [u8; 4],
        kind: Kind,
        is_last: bool,
        /// Of a control frame.
        control: BytesMut,
    },
    Ended,
}

impl Messages {
    /// For the frames of `peer`, whose messages have at most `bytes_max` bytes.
    pub fn new(peer: Peer, bytes_max: usize) -> Self {
        Self {
            peer,
            bytes_max,
            phase: Phase::Head(HeadBytes::new()),
            message: BytesMut::new(),
            is_fragmented: false,
        }
    }

    /// Takes from `bytes` up to the next thing worth telling; `None` when they are used up.
    ///
    /// After [`Told::Close`] and after an error everything is thrown away.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn handle_bytes(&mut self, bytes: &mut Bytes) -> Result<Option<Told>, MessageError> {
        let told = self.advance(bytes);
        if told.is_err() {
            self.phase = Phase::Ended;
            self.message = BytesMut::new();
        }
        told
    }

    fn advance(&mut self, bytes: &mut Bytes) -> Result<Option<Told>, MessageError> {
        loop {
            match &mut self.phase {
                Phase::Ended => {
                    bytes.clear();
                    return Ok(None);
                }
                Phase::Head(held) => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    if let Some(head) = held.push(bytes.get_u8(), self.peer)? {
                        self.begin(&head)?;
                    }
                }
                Phase::Payload { left: 0, .. } => {
                    if let Some(told) = self.end() {
                        return Ok(Some(told));
                    }
                }
                Phase::Payload {
                    left,
                    mask,
                    kind,
                    control,
                    ..
                } => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let part = bytes.split_to(bytes.len().min(*left));
                    *left -= part.len();
                    let target = if kind.is_control() {
                        control
                    } else {
                        &mut self.message
                    };
                    let start = target.len();
                    target.extend_from_slice(&part);
                    *mask = apply_mask(&mut target[start..], *mask);
                }
            }
        }
    }

    fn begin(&mut self, head: &Head) -> Result<(), MessageError> {
        let is_lawful = match head.kind {
            Kind::Text | Kind::Binary => !self.is_fragmented,
            Kind::Continuation => self.is_fragmented,
            Kind::Close | Kind::Ping | Kind::Pong => true,
        };
        if !is_lawful {
            return Err(Unlawful.into());
        }
        let room = if head.kind.is_control() {
            CONTROL_BYTES_MAX
        } else {
            self.is_fragmented = !head.is_last();
            self.bytes_max - self.message.len()
        };
        let left = usize::try_from(head.length).ok().filter(|length| *length <= room);
        self.phase = Phase::Payload {
            left: left.ok_or(MessageError::TooLarge)?,
            mask: head.mask,
            kind: head.kind,
            is_last: head.is_last(),
            control: BytesMut::new(),
        };
        Ok(())
    }

    /// Ends a frame whose payload is whole.
    fn end(&mut self) -> Option<Told> {
        let ended = std::mem::replace(&mut self.phase, Phase::Head(HeadBytes::new()));
        let Phase::Payload {
            kind,
            is_last,
            mut control,
            ..
        } = ended
        else {
            return None;
        };
        match kind {
            Kind::Text | Kind::Binary | Kind::Continuation => {
                is_last.then(|| Told::Message(self.message.split().freeze()))
            }
            Kind::Ping => Some(Told::Ping(control.freeze())),
            Kind::Pong => None,
            Kind::Close => {
                self.phase = Phase::Ended;
                let code = (control.len() >= 2).then(|| control.get_u16());
                Some(Told::Close(code, control.freeze()))
            }
        }
    }
}

/// A message of text; `mask` for clients.
pub fn text(payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    frame(TEXT, payload, mask)
}

/// A frame that ends the WebSocket; a reason that is too long is cut off.
pub fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Bytes {
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let payload = [&code.to_be_bytes()[..], &reason.as_bytes()[..end]].concat();
    frame(CLOSE, &payload, mask)
}

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES_MAX + payload.len());
    put_head(&mut out, first, payload.len() as u64, mask);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[start..], mask);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::carrier;

    const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

    /// What a client's bytes tell, cut into pieces of `size`.
    fn told(stream: &[u8], size: usize) -> Result<Vec<Told>, MessageError> {
        let mut messages = Messages::new(Peer::Client, 16);
        let mut all = Vec::new();
        for piece in stream.chunks(size) {
            let mut bytes = Bytes::copy_from_slice(piece);
            while let Some(told) = messages.handle_bytes(&mut bytes)? {
                all.push(told);
            }
        }
        Ok(all)
    }

    fn message(text: &str) -> Told {
        Told::Message(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn messages_are_put_together_however_they_are_cut() {
        let mut first = text(b"one ", MASK).to_vec();
        first[0] &= 0x7f;
        let mut last = text(b"whole", MASK).to_vec();
        last[0] = 0x80;
        let ping = carrier::ping(MASK);
        let stream = [
            &first[..],
            &ping,
            &last,
            &text(b"", MASK),
            &close(4001, "why", MASK),
        ]
        .concat();
        let expected = vec![
            Told::Ping(Bytes::new()),
            message("one whole"),
            message(""),
            Told::Close(Some(4001), Bytes::from_static(b"why")),
        ];
        for size in [1, 3, 7, stream.len()] {
            assert_eq!(told(&stream, size).unwrap(), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_message_above_the_limit_is_refused_before_it_is_held() {
        let mut stream = text(&[b'x'; 17], MASK).to_vec();
        stream.truncate(6);
        assert_eq!(told(&stream, 1), Err(MessageError::TooLarge));
        let mut part = text(&[b'x'; 10], MASK).to_vec();
        part[0] &= 0x7f;
        let mut rest = part.clone();
        rest[0] &= 0xf0;
        assert_eq!(told(&[part, rest].concat(), 9), Err(MessageError::TooLarge));
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let mut continuation = text(b"x", MASK).to_vec();
        continuation[0] = 0x80;
        let unmasked = text(b"x", None);
        for stream in [&continuation[..], &unmasked] {
            assert_eq!(told(stream, 1), Err(Unlawful.into()));
        }
    }

    #[test]
    fn a_reason_is_cut_where_a_character_ends() {
        let long = "ä".repeat(100);
        let frame = close(1000, &long, None);
        assert_eq!(frame.len(), 2 + 2 + 122);
    }
}
