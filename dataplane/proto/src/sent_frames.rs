//! Looks at the HTTP/2 frames that we send for those that break something off: RST_STREAM and GOAWAY. Pure.
//!
//! The HTTP/2 library refuses streams and connections by itself and tells nobody; what it sends says so.
//! Reads the nine bytes before each frame and the error code of these two, and skips the rest.
//!
//! Source: RFC 9113 §4.1, §6.4, §6.8, §7.

const HEAD_BYTES: usize = 9;
/// GOAWAY has its code behind the last stream; RST_STREAM has nothing else.
const PAYLOAD_BYTES: usize = 8;

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// What was broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// One stream.
    Stream {
        /// Its number.
        stream: u32,
        /// Why.
        code: Code,
    },
    /// The connection, if the code is not [`Code::NO_ERROR`]; else it only ends.
    Connection {
        /// Why.
        code: Code,
    },
}

/// An error code of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

const NAMES: [&str; Code::COUNT] = [
    "no-error",
    "protocol-error",
    "internal-error",
    "flow-control-error",
    "settings-timeout",
    "stream-closed",
    "frame-size-error",
    "refused-stream",
    "cancel",
    "compression-error",
    "connect-error",
    "enhance-your-calm",
    "inadequate-security",
    "http-1-1-required",
    "other",
];

impl Code {
    /// Number of codes that are told apart: the size of arrays indexed by [`Self::index`].
    pub const COUNT: usize = 15;

    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0);

    /// 0-based, for counters; the last stands for codes that have no name.
    pub fn index(self) -> usize {
        let index = usize::try_from(self.0).unwrap_or(usize::MAX);
        index.min(Self::COUNT - 1)
    }

    /// The word used in logs and metric labels.
    pub fn as_str(self) -> &'static str {
        NAMES.get(self.index()).copied().unwrap_or("other")
    }

    /// The words of all codes in the order of [`Self::index`].
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter()
    }
}

/// Follows the frames of one connection, from the first that is sent.
#[derive(Debug, Default)]
pub struct SentFrames {
    /// The head of a frame, and of the two the beginning of their payload.
    kept: [u8; HEAD_BYTES + PAYLOAD_BYTES],
    count: usize,
    /// Payload that is of no interest.
    skipped: usize,
}

impl SentFrames {
    /// Takes the next bytes that were sent; tells of what they break off.
    pub fn handle_bytes(&mut self, mut sent: &[u8], mut tell: impl FnMut(Broken)) {
        while !sent.is_empty() {
            let skipped = self.skipped.min(sent.len());
            self.skipped -= skipped;
            sent = sent.get(skipped..).unwrap_or_default();
            let missing = self.wanted() - self.count;
            let taken = missing.min(sent.len());
            let place = self.kept.get_mut(self.count..self.count + taken);
            if let (Some(place), Some(bytes)) = (place, sent.get(..taken)) {
                place.copy_from_slice(bytes);
            }
            self.count += taken;
            sent = sent.get(taken..).unwrap_or_default();
            if self.count >= HEAD_BYTES && self.count == self.wanted() {
                if let Some(broken) = self.broken() {
                    tell(broken);
                }
                self.skipped = self.payload() - (self.count - HEAD_BYTES);
                self.count = 0;
            }
        }
    }

    /// Bytes of the frame that are looked at, as far as is known.
    fn wanted(&self) -> usize {
        let interesting = match self.kept[3] {
            _ if self.count < HEAD_BYTES => 0,
            RST_STREAM => 4,
            GOAWAY => PAYLOAD_BYTES,
            _ => 0,
        };
        HEAD_BYTES + interesting.min(self.payload())
    }

    fn payload(&self) -> usize {
        let [a, b, c, ..] = self.kept;
        usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX)
    }

    fn broken(&self) -> Option<Broken> {
        let [_, _, _, kind, _, s0, s1, s2, s3, a, b, c, d, e, f, g, h] = self.kept;
        match (kind, self.count) {
            (RST_STREAM, 13) => Some(Broken::Stream {
                stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
                code: Code(u32::from_be_bytes([a, b, c, d])),
            }),
            (GOAWAY, 17) => Some(Broken::Connection {
                code: Code(u32::from_be_bytes([e, f, g, h])),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&size[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn what_breaks_off_is_seen_wherever_writes_end() {
        let mut goaway = vec![0, 0, 0, 9, 0, 0, 0, 0xb];
        goaway.extend(b"why");
        let sent = [
            frame(4, 0, &[0; 12]),
            frame(1, 1, &[3; 40]),
            frame(RST_STREAM, 5, &[0, 0, 0, 1]),
            frame(0, 1, &[]),
            frame(0, 1, &[RST_STREAM; 300]),
            frame(RST_STREAM, 0x8000_0007, &[0, 0, 0, 0]),
            frame(GOAWAY, 0, &goaway),
            frame(RST_STREAM, 9, &[1, 0, 0, 0]),
        ]
        .concat();
        let stream = |stream, code| Broken::Stream {
            stream,
            code: Code(code),
        };
        let expected = [
            stream(5, 1),
            stream(7, 0),
            Broken::Connection { code: Code(11) },
            stream(9, 1 << 24),
        ];
        for size in [1, 2, 7, 9, 10, 13, 64, sent.len()] {
            let (mut frames, mut told) = (SentFrames::default(), Vec::new());
            for part in sent.chunks(size) {
                frames.handle_bytes(part, |broken| told.push(broken));
            }
            assert_eq!(told, expected, "{size}");
        }
        assert_eq!(Code(11).as_str(), "enhance-your-calm");
        assert_eq!((Code(14).as_str(), Code(u32::MAX).as_str()), ("other", "other"));
    }
}
