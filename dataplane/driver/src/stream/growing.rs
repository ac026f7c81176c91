//! Reads a byte stream into chunks, with memory that follows the flow. It is little while messages are small,
//! because there are many idle WebSockets. It is much while bytes flow, because every read is a system call.
//!
//! For streams of any kind, with TLS or without; a bare socket also has
//! [`read_chunk`](super::Stream::read_chunk).

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Room for the next small message. As much as the ring of io_uring mode has received ahead.
const ROOM_BYTES_MIN: usize = 2 << 10;

/// Room while bytes flow: what 44 packets of an ordinary path carry, one full send of QUIC. With a little
/// more, every other send would have only two or three packets.
const ROOM_BYTES_MAX: usize = 62_000;

/// After this many bytes other tasks of the core run. QUIC then packs and sends what was read while it is in
/// the second-level cache. Measured: half a MiB costs a twentieth more CPU per byte.
const TURN_BYTES: usize = 4 * ROOM_BYTES_MAX;

/// A read that fills its room is followed by one with this many times as much.
const GROWTH: usize = 4;

/// Memory for the reads of one direction. Holds none until the first read.
#[derive(Debug)]
pub struct GrowingBuffer {
    memory: BytesMut,
    room: usize,
    /// Bytes read since others could run.
    since_turn: usize,
}

impl Default for GrowingBuffer {
    fn default() -> Self {
        Self {
            memory: BytesMut::new(),
            room: ROOM_BYTES_MIN,
            since_turn: 0,
        }
    }
}

impl GrowingBuffer {
    /// Reads what is there, at least one byte and at most 62,000; `None` at the end of the stream.
    /// Cancel-safe.
    ///
    /// # Errors
    /// What the stream says.
    pub async fn read<R: AsyncRead + Unpin>(&mut self, stream: &mut R) -> io::Result<Option<Bytes>> {
        if self.since_turn >= TURN_BYTES {
            self.since_turn = 0;
            tokio::task::yield_now().await;
        }
        // What a chunk leaves of its memory serves the next one unless it is small change.
        if self.memory.capacity() < (self.room / GROWTH).max(ROOM_BYTES_MIN) {
            self.memory.reserve(self.room);
        }
        let offered = self.memory.capacity().min(self.room);
        let read = stream.read_buf(&mut (&mut self.memory).limit(offered)).await?;
        self.since_turn += read;
        let chunk = self.memory.split().freeze();
        if read == offered {
            self.room = (self.room * GROWTH).min(ROOM_BYTES_MAX);
        } else if read < ROOM_BYTES_MIN && self.room > ROOM_BYTES_MIN {
            // Memory made by splitting remembers how large it was and would be made as large again.
            *self = Self::default();
        }
        Ok((read > 0).then_some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;

    #[test]
    fn room_grows_while_bytes_flow_and_shrinks_when_they_do_not() {
        block_on(async {
            let mut buffer = GrowingBuffer::default();
            let flood = vec![7; 1 << 20];
            let mut flow = flood.as_slice();
            // Kept, as by a peer that has not acknowledged them: no memory can be used again.
            let mut chunks = Vec::new();
            for _ in 0..6 {
                chunks.push(buffer.read(&mut flow).await.unwrap().unwrap());
            }
            let lengths: Vec<usize> = chunks.iter().map(Bytes::len).collect();
            assert_eq!(lengths, [2 << 10, 8 << 10, 32 << 10, 62_000, 62_000, 62_000]);
            let mut message = b"small".as_slice();
            assert_eq!(buffer.read(&mut message).await.unwrap().unwrap(), "small");
            assert!(buffer.memory.capacity() <= ROOM_BYTES_MIN);
            assert_eq!(buffer.room, ROOM_BYTES_MIN);
            assert_eq!(buffer.read(&mut message).await.unwrap(), None);
        });
    }

    #[test]
    fn bytes_come_whole_and_in_order() {
        block_on(async {
            let sent: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
            let mut flow = sent.as_slice();
            let mut buffer = GrowingBuffer::default();
            let mut got = Vec::new();
            while let Some(chunk) = buffer.read(&mut flow).await.unwrap() {
                assert!(chunk.len() <= ROOM_BYTES_MAX);
                got.extend_from_slice(&chunk);
            }
            assert_eq!(got, sent);
        });
    }
}
