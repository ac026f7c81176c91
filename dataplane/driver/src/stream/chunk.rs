//! Reads from a socket into `Bytes` without a buffer per stream.
//!
//! One buffer per core. A large read leaves it as `Bytes` without a copy; a small one is copied out, which
//! is cheaper than giving away a 64 KiB block for it. What was given away is taken back by the next
//! reservation once all its `Bytes` are gone.

use std::cell::RefCell;
use std::io;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes, BytesMut};

/// Largest chunk, and the size of a core's buffer.
pub(crate) const CHUNK_BYTES_MAX: usize = 65_536;

/// Reads shorter than this are copied out: the copy is in the first-level cache.
const GIVE_AWAY_BYTES_MIN: usize = 16_384;

/// A read is offered at least this much room.
const ROOM_BYTES_MIN: usize = 32_768;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::default();
}

/// Runs `read` on the core's buffer, limited to `max` bytes, and takes out what it has read. Passes on its
/// `None` (nothing there); an empty chunk is the end of the stream.
pub(crate) fn read(
    max: usize,
    read: impl FnOnce(&mut Limit<&mut BytesMut>) -> io::Result<Option<usize>>,
) -> io::Result<Option<Bytes>> {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.capacity() < ROOM_BYTES_MIN {
            buffer.reserve(CHUNK_BYTES_MAX);
        }
        let max = max.clamp(1, buffer.capacity().min(CHUNK_BYTES_MAX));
        let read = read(&mut (&mut *buffer).limit(max))?;
        Ok(read.map(|length| take(buffer, length)))
    })
}

fn take(buffer: &mut BytesMut, length: usize) -> Bytes {
    debug_assert_eq!(buffer.len(), length, "the buffer is empty between reads");
    if length < GIVE_AWAY_BYTES_MIN {
        let chunk = Bytes::copy_from_slice(buffer);
        buffer.clear();
        chunk
    } else {
        buffer.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_reads_are_copied_and_large_ones_are_given_away() {
        let small = read(CHUNK_BYTES_MAX, |buffer| {
            buffer.put_slice(b"small");
            Ok(Some(5))
        });
        assert_eq!(small.unwrap().unwrap(), "small");
        let before = BUFFER.with_borrow(BytesMut::capacity);
        let large = read(CHUNK_BYTES_MAX, |buffer| {
            buffer.put_bytes(7, GIVE_AWAY_BYTES_MIN);
            Ok(Some(GIVE_AWAY_BYTES_MIN))
        });
        assert_eq!(large.unwrap().unwrap(), vec![7; GIVE_AWAY_BYTES_MIN]);
        let after = BUFFER.with_borrow(BytesMut::capacity);
        assert_eq!(before - after, GIVE_AWAY_BYTES_MIN);
    }

    #[test]
    fn the_limit_is_kept_and_there_is_always_room() {
        for _ in 0..64 {
            let chunk = read(20_000, |buffer| {
                let room = buffer.remaining_mut();
                assert_eq!(room, 20_000);
                buffer.put_bytes(1, room);
                Ok(Some(room))
            });
            assert_eq!(chunk.unwrap().unwrap().len(), 20_000);
        }
    }

    #[test]
    fn nothing_there_is_not_the_end() {
        assert_eq!(read(100, |_| Ok(None)).unwrap(), None);
        assert_eq!(read(100, |_| Ok(Some(0))).unwrap(), Some(Bytes::new()));
    }
}
