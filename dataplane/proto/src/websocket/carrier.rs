//! A byte stream carried in a WebSocket, as `access tcp` and TCP services of a connector speak it.
//!
//! ```text
//! binary messages, whole or in parts ─► data, as it arrives      ping ─► a pong to send
//! text ─► nothing from a client, data from a server              pong ─► nothing
//! close ─► the peer sends no more data                           anything unlawful ─► the end
//! ```
//! Boundaries of messages mean nothing. A close is taken as the end of one direction: the other side may
//! still speak until it closes as well, which carries the half-close of TCP.
//!
//! Source: cloudflared `websocket/connection.go`, `carrier/websocket.go`.

use bytes::{Buf as _, Bytes, BytesMut};

use super::frame::{
    BINARY, CLOSE, CONTROL_BYTES_MAX, HEAD_BYTES_MAX, Head, HeadBytes, Kind, PING, PONG, Peer, Unlawful,
    apply_mask, put_head,
};

/// Most bytes in one data frame: a current stock connector loses what exceeds its buffer of this size.
pub const DATA_BYTES_MAX: usize = 16 << 10;

/// Room before data for the head of its frame: at most 64 KiB follow, so the longest length is never needed.
pub const HEADROOM: usize = 8;

const _: () = assert!(DATA_BYTES_MAX <= u16::MAX as usize);

/// Code of a close in order (RFC 6455 §7.4.1).
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Bytes of the stream.
    Data(Bytes),
    /// A ping with this payload; [`pong`] answers it.
    Ping(Bytes),
    /// The peer sends no more data.
    End,
}

/// Takes frames of one peer apart.
#[derive(Debug)]
pub struct Carrier {
    peer: Peer,
    phase: Phase,
    /// Between the first and the last part of a message: whether it is data.
    fragmented: Option<bool>,
}

#[derive(Debug)]
enum Phase {
    Head(HeadBytes),
    Payload {
        left: u64,
        /// Turned so that its first byte is for the next byte of the payload.
        mask: [u8; 4],
        use_: Use,
    },
    Ended,
}

/// What becomes of a payload.
#[derive(Debug)]
enum Use {
    Data,
    Dropped,
    /// Collected, at most [`CONTROL_BYTES_MAX`].
    Ping(BytesMut),
    Close,
}

impl Carrier {
    /// For the frames of `peer`.
    pub fn new(peer: Peer) -> Self {
        Self {
            peer,
            phase: Phase::Head(HeadBytes::new()),
            fragmented: None,
        }
    }

    /// Takes from `bytes` up to the next thing worth telling; `None` when they are used up.
    ///
    /// After [`Carried::End`] everything is thrown away.
    ///
    /// # Errors
    /// [`Unlawful`]: the WebSocket cannot be used any more.
    pub fn handle_bytes(&mut self, bytes: &mut Bytes) -> Result<Option<Carried>, Unlawful> {
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
                Phase::Payload { left: 0, use_, .. } => {
                    let done = std::mem::replace(use_, Use::Dropped);
                    self.phase = Phase::Head(HeadBytes::new());
                    match done {
                        Use::Data | Use::Dropped => {}
                        Use::Ping(payload) => return Ok(Some(Carried::Ping(payload.freeze()))),
                        Use::Close => {
                            self.phase = Phase::Ended;
                            return Ok(Some(Carried::End));
                        }
                    }
                }
                Phase::Payload { left, mask, use_ } => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    let part = bytes.split_to(count);
                    *left -= count as u64;
                    match use_ {
                        Use::Data if self.peer == Peer::Server => return Ok(Some(Carried::Data(part))),
                        Use::Data => {
                            // Not copied if nobody else holds the datagram it came in.
                            let mut part = part
                                .try_into_mut()
                                .unwrap_or_else(|part| BytesMut::from(&part[..]));
                            *mask = apply_mask(&mut part, *mask);
                            return Ok(Some(Carried::Data(part.freeze())));
                        }
                        Use::Ping(payload) => {
                            let start = payload.len();
                            payload.extend_from_slice(&part);
                            *mask = apply_mask(&mut payload[start..], *mask);
                        }
                        Use::Dropped | Use::Close => {}
                    }
                }
            }
        }
    }

    fn begin(&mut self, head: &Head) -> Result<(), Unlawful> {
        let is_data = match head.kind {
            Kind::Binary => Some(true),
            Kind::Text => Some(self.peer == Peer::Server),
            Kind::Continuation => Some(self.fragmented.ok_or(Unlawful)?),
            Kind::Close | Kind::Ping | Kind::Pong => None,
        };
        if matches!(head.kind, Kind::Binary | Kind::Text) && self.fragmented.is_some() {
            return Err(Unlawful);
        }
        if is_data.is_some() {
            self.fragmented = is_data.filter(|_| !head.is_last());
        }
        let use_ = match (head.kind, is_data) {
            (Kind::Ping, _) => Use::Ping(BytesMut::new()),
            (Kind::Close, _) => Use::Close,
            (_, Some(true)) => Use::Data,
            (_, Some(false) | None) => Use::Dropped,
        };
        self.phase = Phase::Payload {
            left: head.length,
            mask: head.mask,
            use_,
        };
        Ok(())
    }
}

/// Makes a frame of the data in `buffer`, which begins with [`HEADROOM`] bytes for the head; `mask` for
/// clients.
///
/// # Panics
/// When the headroom is missing, or more than [`DATA_BYTES_MAX`] bytes follow it.
pub fn frame_data(mut buffer: BytesMut, mask: Option<[u8; 4]>) -> Bytes {
    let length = buffer
        .len()
        .checked_sub(HEADROOM)
        .expect("the buffer begins with headroom");
    assert!(
        length <= DATA_BYTES_MAX,
        "data is read in parts of at most this size"
    );
    if let Some(mask) = mask {
        apply_mask(&mut buffer[HEADROOM..], mask);
    }
    let mut head = [0; HEAD_BYTES_MAX];
    let mut rest = &mut head[..];
    put_head(&mut rest, BINARY, length as u64, mask);
    let written = HEAD_BYTES_MAX - rest.len();
    let start = HEADROOM - written;
    buffer[start..HEADROOM].copy_from_slice(&head[..written]);
    buffer.advance(start);
    buffer.freeze()
}

/// A frame with this data, at most [`DATA_BYTES_MAX`] bytes.
///
/// # Panics
/// When there are more.
pub fn frame(data: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    let mut buffer = BytesMut::zeroed(HEADROOM);
    buffer.extend_from_slice(data);
    frame_data(buffer, mask)
}

/// A frame that says that no more data follows.
pub fn close(mask: Option<[u8; 4]>) -> Bytes {
    control(CLOSE, &NORMAL, mask)
}

/// An empty ping.
pub fn ping(mask: Option<[u8; 4]>) -> Bytes {
    control(PING, b"", mask)
}

/// The answer to a ping with `payload`.
pub fn pong(payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
    control(PONG, payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload), mask)
}

fn control(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Bytes {
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
    use rand::rngs::SmallRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

    fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut out = control(first, payload, mask).to_vec();
        out[0] = first;
        out
    }

    /// Data in one piece, pings, whether it ended.
    type Heard = (Vec<u8>, Vec<Vec<u8>>, bool);

    fn hear(carrier: &mut Carrier, mut bytes: Bytes, heard: &mut Heard) -> Result<(), Unlawful> {
        while let Some(carried) = carrier.handle_bytes(&mut bytes)? {
            match carried {
                Carried::Data(data) => heard.0.extend_from_slice(&data),
                Carried::Ping(payload) => heard.1.push(payload.to_vec()),
                Carried::End => heard.2 = true,
            }
        }
        assert!(bytes.is_empty());
        Ok(())
    }

    fn check(peer: Peer, input: &[u8], wanted: Result<(&[u8], usize, bool), Unlawful>) {
        let mut heard = Heard::default();
        let outcome = hear(&mut Carrier::new(peer), Bytes::copy_from_slice(input), &mut heard);
        let found = outcome.map(|()| (&heard.0[..], heard.1.len(), heard.2));
        assert_eq!(found, wanted, "{input:x?}");
    }

    #[test]
    fn data_pings_and_the_end_are_told_apart() {
        let cut = [
            frame(0x02, b"in ", MASK),
            frame(0x89, b"?", MASK),
            frame(0x80, b"parts", MASK),
        ];
        check(Peer::Client, &cut.concat(), Ok((b"in parts", 1, false)));
        check(Peer::Client, &frame(0x81, b"text", MASK), Ok((b"", 0, false)));
        check(Peer::Server, &frame(0x81, b"text", None), Ok((b"text", 0, false)));
        check(Peer::Server, &frame(0x8a, b"pong", None), Ok((b"", 0, false)));
        let late = [close(MASK).to_vec(), frame(0x82, b"late", MASK)].concat();
        check(Peer::Client, &late, Ok((b"", 0, true)));
        check(Peer::Client, &frame(0x88, b"", MASK), Ok((b"", 0, true)));
    }

    #[test]
    fn what_breaks_the_protocol_is_an_error() {
        for (peer, input) in [
            (Peer::Client, frame(0x82, b"x", None)),
            (Peer::Server, frame(0x82, b"x", MASK)),
            (Peer::Client, frame(0xc2, b"x", MASK)),
            (Peer::Client, frame(0x83, b"x", MASK)),
            (Peer::Client, frame(0x80, b"x", MASK)),
            (Peer::Client, frame(0x09, b"", MASK)),
            (Peer::Client, frame(0x88, b"\x03", MASK)),
            (
                Peer::Client,
                [frame(0x02, b"", MASK), frame(0x82, b"", MASK)].concat(),
            ),
            (Peer::Client, vec![0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            check(peer, &input, Err(Unlawful));
        }
    }

    #[test]
    fn frames_of_every_length_come_out_as_they_went_in() {
        for mask in [None, MASK] {
            let peer = if mask.is_some() {
                Peer::Client
            } else {
                Peer::Server
            };
            for length in [0, 1, 125, 126, 4_097, DATA_BYTES_MAX] {
                let data: Vec<u8> = (0..length).map(|place| place as u8).collect();
                check(peer, &super::frame(&data, mask), Ok((&data, 0, false)));
            }
            check(peer, &ping(mask), Ok((b"", 1, false)));
            check(peer, &pong(b"x", mask), Ok((b"", 0, false)));
        }
    }

    #[test]
    fn cuts_change_nothing() {
        for seed in 0..300 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut input = Vec::new();
            for _ in 0..rng.random_range(1..6) {
                let payload: Vec<u8> = (0..rng.random_range(0..120)).map(|_| rng.random()).collect();
                input.extend(frame(
                    [0x81, 0x82, 0x89, 0x8a][rng.random_range(0..4)],
                    &payload,
                    MASK,
                ));
            }
            if rng.random() {
                input.extend((0..rng.random_range(0..50)).map(|_| rng.random::<u8>()));
            }
            let mut whole = Heard::default();
            let outcome = hear(&mut Carrier::new(Peer::Client), input.clone().into(), &mut whole);
            let (mut carrier, mut heard, mut rest) =
                (Carrier::new(Peer::Client), Heard::default(), &input[..]);
            let mut cut_outcome = Ok(());
            while !rest.is_empty() && cut_outcome.is_ok() {
                let (part, later) = rest.split_at(rng.random_range(1..=rest.len()));
                cut_outcome = hear(&mut carrier, Bytes::copy_from_slice(part), &mut heard);
                rest = later;
            }
            assert_eq!((heard, cut_outcome), (whole, outcome), "seed {seed}");
        }
    }
}
