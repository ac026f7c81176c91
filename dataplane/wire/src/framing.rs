//! Stream framing of Cap'n Proto messages, and the gate that keeps bombs away from the RPC reader.
//!
//! ```text
//! | segments - 1 : u32 LE | words of segment 0 : u32 LE | … | zero padding to 8 bytes | segments …
//! ```
//! A segment table of a few bytes can announce gigabytes, and a reader that believes it allocates
//! them. [`FrameGate`] watches the bytes on their way to such a reader and fails before the reader
//! has seen the end of a table that announces too much. Its limit may change while bytes flow: small
//! before registration, larger once the peer is known.
//!
//! Source: capnproto.org/encoding.html, "Serialization Over a Stream".

use capnp::message::ReaderOptions;

/// Bytes of a Cap'n Proto word.
pub const WORD_SIZE: usize = 8;

/// Most segments in one message. Writers use one, or a few when a message outgrows their first guess.
pub const SEGMENTS_MAX: usize = 64;

/// Largest message from a peer that has not registered: a registration is well under 1 KiB.
pub const UNREGISTERED_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Largest message from a registered peer: it may carry a whole configuration.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting of pointers in a message: RPC messages with their deepest parameters stay under 16.
pub const NESTING_MAX: i32 = 32;

/// How a Cap'n Proto RPC connection reads its messages.
///
/// The traversal limit is twice the largest message, so that each part may be visited twice but a
/// message whose pointers all lead to one place cannot be blown up further. It also bounds what the
/// reader allocates for a message, should no [`FrameGate`] stand before it.
pub const RPC_READER_OPTIONS: ReaderOptions = ReaderOptions {
    traversal_limit_in_words: Some(2 * MESSAGE_BYTES_MAX / WORD_SIZE),
    nesting_limit: NESTING_MAX,
};

/// Why bytes are not an acceptable framed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The table announces more than [`SEGMENTS_MAX`] segments.
    #[error("message announces {count} segments, more than {SEGMENTS_MAX}")]
    TooManySegments {
        /// Segments announced.
        count: u64,
    },
    /// The message with its table is larger than the limit.
    #[error("message announces {size} bytes, more than {limit}")]
    TooLarge {
        /// Bytes announced, table included.
        size: u64,
        /// Limit in force.
        limit: usize,
    },
}

/// Size in bytes of a table for that many segments, padded to a word.
fn table_size(segments: usize) -> usize {
    (4 + 4 * segments).next_multiple_of(WORD_SIZE)
}

fn segment_count(first: [u8; 4]) -> Result<usize, FrameError> {
    let count = u64::from(u32::from_le_bytes(first)) + 1;
    match usize::try_from(count) {
        Ok(segments) if segments <= SEGMENTS_MAX => Ok(segments),
        _ => Err(FrameError::TooManySegments { count }),
    }
}

/// Size in bytes of the framed message at the start of `bytes`, table included.
///
/// Returns `Ok(None)` until the whole table is there; the message itself need not be.
///
/// # Errors
/// [`FrameError`] as soon as the table announces more than [`SEGMENTS_MAX`] segments or `limit` bytes.
pub fn message_size(bytes: &[u8], limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(first) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let segments = segment_count(*first)?;
    let table = table_size(segments);
    let mut size = table as u64;
    let Some(sizes) = bytes.get(4..4 + 4 * segments) else {
        return Ok(None);
    };
    for words in sizes.as_chunks::<4>().0 {
        size += u64::from(u32::from_le_bytes(*words)) * WORD_SIZE as u64;
    }
    match usize::try_from(size) {
        Ok(size) if size <= limit => Ok(Some(size)),
        _ => Err(FrameError::TooLarge { size, limit }),
    }
}

/// Bytes of the largest table without its padding.
const TABLE_BYTES_MAX: usize = 4 + 4 * SEGMENTS_MAX;

/// Watches a byte stream of framed messages; fails when one announces more than the limit.
///
/// Feed it every byte before the reader gets it. After an error the stream is of no use.
#[derive(Debug)]
pub struct FrameGate {
    limit: usize,
    /// The table that is being read, without padding.
    table: [u8; TABLE_BYTES_MAX],
    table_read: usize,
    /// Bytes of padding and segments to come, which need no look.
    body_left: usize,
}

impl FrameGate {
    /// Makes a gate at the start of a message.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            table: [0; TABLE_BYTES_MAX],
            table_read: 0,
            body_left: 0,
        }
    }

    /// Sets the largest message; a table that is half read is held to it too.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes the next bytes of the stream, cut anywhere.
    ///
    /// # Errors
    /// [`FrameError`] if a table among them announces too much; the reader must not see these bytes.
    pub fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let taken = self.body_left.min(bytes.len());
                self.body_left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let wanted = self.table_wanted()? - self.table_read;
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.table[self.table_read..][..taken.len()].copy_from_slice(taken);
            self.table_read += taken.len();
            bytes = rest;
            if let Some(size) = message_size(&self.table[..self.table_read], self.limit)? {
                self.body_left = size - self.table_read;
                self.table_read = 0;
            }
        }
        Ok(())
    }

    /// Whether the bytes so far end with a whole message.
    pub const fn is_between_messages(&self) -> bool {
        self.table_read == 0 && self.body_left == 0
    }

    /// Size of the table as far as it is known: its first word tells the rest.
    fn table_wanted(&self) -> Result<usize, FrameError> {
        match self.table[..self.table_read].first_chunk::<4>() {
            Some(first) => Ok(4 + 4 * segment_count(*first)?),
            None => Ok(4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &[u8] = include_bytes!("../fixtures/control_register_connection_call.bin");

    fn table(segments_less_one: u32, words: &[u32]) -> Vec<u8> {
        let mut bytes = segments_less_one.to_le_bytes().to_vec();
        words.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes
    }

    /// What the gate says of `bytes` fed in pieces of every size from 1 on.
    fn check(bytes: &[u8], limit: usize, expected: Result<(), FrameError>) {
        for piece in 1..=bytes.len() {
            let mut gate = FrameGate::new(limit);
            let got = bytes.chunks(piece).try_for_each(|part| gate.handle_bytes(part));
            assert_eq!(got, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn captured_messages_pass_however_they_are_cut() {
        check(CALL, UNREGISTERED_MESSAGE_BYTES_MAX, Ok(()));
        let mut gate = FrameGate::new(UNREGISTERED_MESSAGE_BYTES_MAX);
        gate.handle_bytes(CALL).unwrap();
        assert!(gate.is_between_messages());
        gate.handle_bytes(&CALL[..20]).unwrap();
        assert!(!gate.is_between_messages());
    }

    #[test]
    fn a_table_that_announces_gigabytes_is_refused_before_its_body() {
        let size = 8 + 8 * u64::from(u32::MAX);
        let refused = FrameError::TooLarge { size, limit: 1024 };
        check(&table(0, &[u32::MAX]), 1024, Err(refused));
        // Sizes that overflow 32 bits together still count in full.
        let size = 16 + 8 * 3 * u64::from(u32::MAX);
        check(
            &table(2, &[u32::MAX; 3]),
            1024,
            Err(FrameError::TooLarge { size, limit: 1024 }),
        );
    }

    #[test]
    fn absurd_segment_counts_are_refused_by_their_first_word() {
        for count in [SEGMENTS_MAX as u32, 511, u32::MAX] {
            check(
                &table(count, &[]),
                1024,
                Err(FrameError::TooManySegments {
                    count: u64::from(count) + 1,
                }),
            );
        }
        check(&table(SEGMENTS_MAX as u32 - 1, &[0; SEGMENTS_MAX]), 1024, Ok(()));
    }

    #[test]
    fn the_limit_counts_the_table_and_can_be_raised_between_messages() {
        let mut message = table(0, &[15]);
        message.resize(128, 0);
        check(&message, 128, Ok(()));
        check(
            &message,
            127,
            Err(FrameError::TooLarge {
                size: 128,
                limit: 127,
            }),
        );
        let mut gate = FrameGate::new(64);
        gate.handle_bytes(&table(0, &[0])).unwrap();
        gate.set_limit(128);
        assert_eq!(gate.handle_bytes(&message), Ok(()));
    }

    #[test]
    fn empty_segments_leave_the_gate_between_messages() {
        for segments in 1..5_u32 {
            let mut bytes = table(segments - 1, &vec![0; segments as usize]);
            bytes.resize(table_size(segments as usize), 0);
            let mut gate = FrameGate::new(1024);
            gate.handle_bytes(&bytes).unwrap();
            assert!(gate.is_between_messages(), "{segments} segments");
        }
    }

    #[test]
    fn size_is_known_as_soon_as_the_table_is_whole() {
        assert_eq!(message_size(&CALL[..7], 1024), Ok(None));
        assert_eq!(message_size(&CALL[..8], 1024), Ok(Some(520)));
    }
}
