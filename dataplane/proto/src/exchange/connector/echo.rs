//! A WebSocket that says back what it hears: the server's side, bytes in and bytes out.
//!
//! Every frame is answered by one like it, while it arrives: a head first, then the payload as far as it is
//! there. So a message of any size is echoed in the memory of one chunk, and fragments stay fragments.
//!
//! ```text
//! text, binary, continuation ─► the same      ping ─► pong      pong ─► nothing
//! close ─► close with the same code, the end  anything unlawful ─► close 1002, the end
//! ```
//! Does not: know the handshake, offer extensions, or check that text is UTF-8 (it is the visitor's own).
//!
//! Source: RFC 6455 §5.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::websocket::frame::{FIN, Head, HeadBytes, Kind, PONG, Peer, Unlawful, apply_mask, put_head};

/// An unmasked close frame with the code for a protocol error, 1002.
const PROTOCOL_ERROR: [u8; 4] = [FIN | 0x8, 2, 0x03, 0xea];

/// The state of one such WebSocket.
#[derive(Debug)]
pub struct Echo {
    phase: Phase,
    /// Between the first and the last fragment of a message.
    is_fragmented: bool,
}

#[derive(Debug)]
enum Phase {
    /// Collects the head of a frame.
    Head(HeadBytes),
    /// Passes a payload on.
    Payload {
        left: u64,
        /// Turned so that its first byte is for the next byte of the payload.
        mask: [u8; 4],
        kind: Kind,
    },
    Closed,
}

impl Default for Echo {
    fn default() -> Self {
        Self {
            phase: Phase::Head(HeadBytes::new()),
            is_fragmented: false,
        }
    }
}

impl Echo {
    /// Takes what the visitor sent and returns what to send back: at most as much, and a close frame.
    pub fn handle_bytes(&mut self, mut bytes: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(bytes.len() + PROTOCOL_ERROR.len());
        while !bytes.is_empty() {
            let taken = match &mut self.phase {
                Phase::Closed => break,
                Phase::Head(held) => {
                    match held.push(bytes[0], Peer::Client) {
                        Ok(None) => {}
                        Ok(Some(head)) => self.begin(&head, &mut out),
                        Err(Unlawful) => self.fail(&mut out),
                    }
                    1
                }
                Phase::Payload { left, mask, kind } => {
                    let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    if *kind != Kind::Pong {
                        let start = out.len();
                        out.extend_from_slice(&bytes[..taken]);
                        *mask = apply_mask(&mut out[start..], *mask);
                    }
                    *left -= taken as u64;
                    self.end_if_whole();
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
        out.freeze()
    }

    /// Whether the WebSocket is over: nothing more is heard, and the connection can end.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn begin(&mut self, head: &Head, out: &mut BytesMut) {
        let is_last = head.is_last();
        let is_lawful = match head.kind {
            Kind::Text | Kind::Binary => !self.is_fragmented,
            Kind::Continuation => self.is_fragmented,
            Kind::Close | Kind::Ping | Kind::Pong => true,
        };
        if !is_lawful {
            return self.fail(out);
        }
        match head.kind {
            Kind::Text | Kind::Binary | Kind::Continuation => self.is_fragmented = !is_last,
            Kind::Close | Kind::Ping | Kind::Pong => {}
        }
        match head.kind {
            Kind::Text | Kind::Binary | Kind::Continuation | Kind::Close => {
                put_head(out, head.first, head.length, None)
            }
            Kind::Ping => put_head(out, PONG, head.length, None),
            Kind::Pong => {}
        }
        self.phase = Phase::Payload {
            left: head.length,
            mask: head.mask,
            kind: head.kind,
        };
        self.end_if_whole();
    }

    fn end_if_whole(&mut self) {
        match self.phase {
            Phase::Payload {
                left: 0,
                kind: Kind::Close,
                ..
            } => self.phase = Phase::Closed,
            Phase::Payload { left: 0, .. } => self.phase = Phase::Head(HeadBytes::new()),
            Phase::Payload { .. } | Phase::Head(_) | Phase::Closed => {}
        }
    }

    fn fail(&mut self, out: &mut BytesMut) {
        out.put_slice(&PROTOCOL_ERROR);
        self.phase = Phase::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_head(&mut out, first, payload.len() as u64, Some(MASK));
        out.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        out.to_vec()
    }

    /// A server's frame.
    fn answer(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_head(&mut out, first, payload.len() as u64, None);
        out.extend_from_slice(payload);
        out.to_vec()
    }

    fn said(bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut echo = Echo::default();
        (echo.handle_bytes(bytes).to_vec(), echo.is_closed())
    }

    #[test]
    fn frames_of_every_length_and_kind_come_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            assert_eq!(
                said(&frame(0x82, &payload)),
                (answer(0x82, &payload), false),
                "{length}"
            );
        }
        let cases: [(&[u8], Vec<u8>); 4] = [
            (&frame(0x81, b"text"), answer(0x81, b"text")),
            (&frame(0x89, b"ping"), answer(0x8a, b"ping")),
            (&frame(0x8a, b"pong"), vec![]),
            (
                &[frame(0x01, b"in "), frame(0x89, b""), frame(0x80, b"parts")].concat(),
                [answer(0x01, b"in "), answer(0x8a, b""), answer(0x80, b"parts")].concat(),
            ),
        ];
        for (input, wanted) in cases {
            assert_eq!(said(input), (wanted, false), "{input:x?}");
        }
    }

    #[test]
    fn a_close_is_answered_with_its_code_and_nothing_follows() {
        for payload in [&b""[..], b"\x03\xe8", b"\x03\xe9going away"] {
            let input = [frame(0x88, payload), frame(0x81, b"late")].concat();
            assert_eq!(said(&input), (answer(0x88, payload), true));
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_closed_with_1002() {
        let unmasked = answer(0x81, b"x");
        let reserved = frame(0xc1, b"x");
        let unknown = frame(0x83, b"x");
        let long_ping = frame(0x89, &[0; 126]);
        let split_ping = frame(0x09, b"");
        let half_code = frame(0x88, b"\x03");
        let no_start = frame(0x80, b"x");
        let second_start = [frame(0x01, b""), frame(0x81, b"")].concat();
        let negative = [0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let cases: [&[u8]; 8] = [
            &unmasked,
            &reserved,
            &unknown,
            &long_ping,
            &split_ping,
            &half_code,
            &no_start,
            &negative,
        ];
        for input in cases {
            assert_eq!(said(input), (PROTOCOL_ERROR.to_vec(), true), "{input:x?}");
        }
        let (out, is_closed) = said(&second_start);
        assert!(is_closed && out.ends_with(&PROTOCOL_ERROR));
    }

    #[test]
    fn cuts_change_nothing_and_noise_is_bounded() {
        for seed in 0..300 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut input = Vec::new();
            for _ in 0..rng.random_range(1..6) {
                let length = rng.random_range(0..400);
                let payload: Vec<u8> = (0..length).map(|_| rng.random()).collect();
                input.extend(frame([0x81, 0x82, 0x8a][rng.random_range(0..3)], &payload));
            }
            if rng.random() {
                input.extend((0..rng.random_range(0..50)).map(|_| rng.random::<u8>()));
            }
            let whole = said(&input);
            assert!(whole.0.len() <= input.len() + PROTOCOL_ERROR.len(), "seed {seed}");
            let (mut echo, mut out, mut rest) = (Echo::default(), Vec::new(), &input[..]);
            while !rest.is_empty() {
                let (part, later) = rest.split_at(rng.random_range(1..=rest.len()));
                out.extend_from_slice(&echo.handle_bytes(part));
                rest = later;
            }
            assert_eq!((out, echo.is_closed()), whole, "seed {seed}");
        }
    }
}
