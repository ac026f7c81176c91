//! Heads of frames: flags, opcode, length and mask.
//!
//! ```text
//! | FIN 1 | reserved 3 | opcode 4 | masked 1 | length 7, or 126 and u16, or 127 and u64 | mask 4 if masked |
//! ```
//! Source: RFC 6455 §5.2.

use bytes::BufMut;

/// Longest head: flags, opcode, length in its longest form, mask.
pub const HEAD_BYTES_MAX: usize = 14;

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The last frame of its message.
pub(crate) const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// First bytes of frames that are whole messages.
pub(crate) const TEXT: u8 = FIN | 0x1;
pub(crate) const BINARY: u8 = FIN | 0x2;
pub(crate) const CLOSE: u8 = FIN | 0x8;
pub(crate) const PING: u8 = FIN | 0x9;
pub(crate) const PONG: u8 = FIN | 0xa;

/// Who sends the frames: a client masks, a server does not (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The side that asked for the WebSocket.
    Client,
    /// The side that agreed to it.
    Server,
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The next part of a message.
    Continuation,
    /// A message of text, or its first part.
    Text,
    /// A message of bytes, or its first part.
    Binary,
    /// The sender will say nothing more.
    Close,
    /// A pong is wanted.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Kind {
    /// Whether the frame may stand between the parts of a message.
    pub fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame is for.
    pub kind: Kind,
    /// Flags and opcode as they came.
    pub first: u8,
    /// Bytes of the payload.
    pub length: u64,
    /// What the payload is masked with; zero from a server.
    pub mask: [u8; 4],
}

/// A frame breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a WebSocket frame breaks the protocol")]
pub struct Unlawful;

/// Collects the bytes of a head, however they are cut.
#[derive(Debug)]
pub(crate) struct HeadBytes {
    held: [u8; HEAD_BYTES_MAX],
    count: usize,
}

impl HeadBytes {
    pub(crate) const fn new() -> Self {
        Self {
            held: [0; HEAD_BYTES_MAX],
            count: 0,
        }
    }

    /// Takes one more byte; gives the head once it is whole.
    pub(crate) fn push(&mut self, byte: u8, peer: Peer) -> Result<Option<Head>, Unlawful> {
        // A head is whole, or known to be unlawful, at its longest form at the latest.
        let slot = self.held.get_mut(self.count).ok_or(Unlawful)?;
        *slot = byte;
        self.count += 1;
        Head::parse(&self.held[..self.count], peer)
    }
}

impl Head {
    /// Whether the frame ends its message.
    pub fn is_last(&self) -> bool {
        self.first & FIN != 0
    }

    /// Reads a head; `None` while it is not whole.
    ///
    /// # Errors
    /// [`Unlawful`], also for a mask that is missing or should not be there.
    pub fn parse(bytes: &[u8], peer: Peer) -> Result<Option<Self>, Unlawful> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let kind = match first & 0x0f {
            0x0 => Kind::Continuation,
            0x1 => Kind::Text,
            0x2 => Kind::Binary,
            0x8 => Kind::Close,
            0x9 => Kind::Ping,
            0xa => Kind::Pong,
            _ => return Err(Unlawful),
        };
        let is_masked = second & MASKED != 0;
        // RFC 6455 §5.2: reserved bits belong to extensions, and none is agreed.
        if first & RESERVED != 0 || is_masked != (peer == Peer::Client) {
            return Err(Unlawful);
        }
        let (length, mask) = match (second & !MASKED, rest) {
            (126, [a, b, mask @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), mask),
            (127, [a, b, c, d, e, f, g, h, mask @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), mask)
            }
            (126 | 127, _) => return Ok(None),
            (length, mask) => (length.into(), mask),
        };
        // RFC 6455 §5.5: control frames are short and whole, and a close has a code of two bytes or none.
        let is_bad_control = kind.is_control() && (length > CONTROL_BYTES_MAX as u64 || first & FIN == 0);
        if is_bad_control || (kind == Kind::Close && length == 1) || length > i64::MAX as u64 {
            return Err(Unlawful);
        }
        let mask = if is_masked {
            match <[u8; 4]>::try_from(mask) {
                Ok(mask) => mask,
                Err(_) => return Ok(None),
            }
        } else {
            [0; 4]
        };
        Ok(Some(Self {
            kind,
            first: *first,
            length,
            mask,
        }))
    }
}

/// Writes a head, of a client's frame if there is a mask.
pub(crate) fn put_head(out: &mut impl BufMut, first: u8, length: u64, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.put_u8(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => out.put_u8(length | masked),
        (_, Ok(length)) => {
            out.put_u8(126 | masked);
            out.put_u16(length);
        }
        (_, Err(_)) => {
            out.put_u8(127 | masked);
            out.put_u64(length);
        }
    }
    if let Some(mask) = mask {
        out.put_slice(&mask);
    }
}

/// Masks or unmasks `bytes`; returns the mask turned for the byte that follows them.
pub(crate) fn apply_mask(bytes: &mut [u8], mut mask: [u8; 4]) -> [u8; 4] {
    let (words, rest) = bytes.as_chunks_mut::<4>();
    let word = u32::from_ne_bytes(mask);
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len());
    mask
}
