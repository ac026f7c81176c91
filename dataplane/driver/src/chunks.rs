//! Bytes of one stream in their order, still in the pieces in which they arrived.
//!
//! A chunk is usually what one QUIC packet carried, a little over 1 KiB on an ordinary path. To write each
//! chunk by itself costs a system call apiece. To join them costs a copy. Handed on together as a [`Buf`], a
//! vectored write takes them all: hyper, h2, rustls and tokio's `write_all_buf` do so.
//!
//! Bounded by whoever fills it: no more is put in once it [is full](Chunks::is_full).

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Pieces taken together: tokio and hyper give one write 64 slices.
const PIECES_MAX: usize = 64;

/// Bytes taken together. 64 pieces of an ordinary path have fewer. 64 of jumbo frames would have half a MiB,
/// which no window accounts for.
const BYTES_MAX: usize = 128 << 10;

/// Room made with the second piece: whoever has two usually has many.
const ROOM_PIECES: usize = 16;

/// Pieces of a stream, in order. None of them is empty.
#[derive(Debug, Default)]
pub struct Chunks {
    /// Here and not in the queue, so that a single piece, the usual answer, allocates nothing.
    first: Bytes,
    rest: VecDeque<Bytes>,
    size: usize,
}

impl Chunks {
    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.size += piece.len();
        if self.first.is_empty() {
            self.first = piece;
            return;
        }
        if self.rest.is_empty() {
            self.rest.reserve(ROOM_PIECES);
        }
        self.rest.push_back(piece);
    }

    /// Takes the first piece out.
    pub fn pop(&mut self) -> Option<Bytes> {
        if self.first.is_empty() {
            return None;
        }
        let next = self.rest.pop_front().unwrap_or_default();
        let piece = std::mem::replace(&mut self.first, next);
        self.size -= piece.len();
        Some(piece)
    }

    /// Keeps the first `size` bytes.
    pub fn truncate(&mut self, size: usize) {
        if size >= self.size {
            return;
        }
        self.size = size;
        self.first.truncate(size);
        let mut left = size - self.first.len();
        self.rest.retain_mut(|piece| {
            piece.truncate(left);
            left -= piece.len();
            !piece.is_empty()
        });
    }

    /// All bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether one write takes no more than this.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.size >= BYTES_MAX || self.rest.len() + 1 >= PIECES_MAX
    }
}

impl From<Bytes> for Chunks {
    fn from(piece: Bytes) -> Self {
        Self {
            size: piece.len(),
            first: piece,
            rest: VecDeque::new(),
        }
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.size
    }

    fn chunk(&self) -> &[u8] {
        &self.first
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        if self.size == 0 {
            return 0;
        }
        let pieces = std::iter::once(&self.first).chain(&self.rest);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.size, "advanced past the end");
        self.size -= count;
        while count >= self.first.len() && !self.first.is_empty() {
            count -= self.first.len();
            self.first = self.rest.pop_front().unwrap_or_default();
        }
        self.first.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(pieces: &[&'static str]) -> Chunks {
        let mut chunks = Chunks::default();
        for piece in pieces {
            chunks.push(Bytes::from_static(piece.as_bytes()));
        }
        chunks
    }

    fn text(mut chunks: Chunks) -> String {
        let bytes = chunks.copy_to_bytes(chunks.len());
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn all_pieces_go_into_one_vectored_write() {
        let chunks = chunks(&["ab", "", "cde", "f"]);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(chunks.chunks_vectored(&mut slices), 3);
        let lengths: Vec<usize> = slices.iter().map(|slice| slice.len()).collect();
        assert_eq!(lengths, [2, 3, 1, 0, 0, 0, 0, 0]);
        assert_eq!(chunks.chunks_vectored(&mut slices[..2]), 2);
        assert_eq!(Chunks::default().chunks_vectored(&mut slices), 0);
    }

    #[test]
    fn what_is_written_is_taken_off_wherever_it_ends() {
        for written in 0..=6 {
            let mut chunks = chunks(&["ab", "cde", "f"]);
            chunks.advance(written);
            assert_eq!(chunks.len(), 6 - written);
            assert_eq!(chunks.has_remaining(), written < 6);
            assert_eq!(chunks.chunk().is_empty(), written == 6);
            assert_eq!(text(chunks), "abcdef"[written..]);
        }
    }

    #[test]
    fn truncating_keeps_the_beginning() {
        for size in 0..=7 {
            let mut chunks = chunks(&["ab", "cde", "f"]);
            chunks.truncate(size);
            assert_eq!(chunks.len(), size.min(6));
            assert_eq!(text(chunks), "abcdef"[..size.min(6)]);
        }
    }

    #[test]
    fn pieces_come_out_as_they_went_in() {
        let mut chunks = chunks(&["ab", "cde"]);
        chunks.advance(1);
        assert_eq!(chunks.pop().unwrap(), "b");
        assert_eq!(chunks.pop().unwrap(), "cde");
        assert_eq!((chunks.pop(), chunks.len()), (None, 0));
        assert_eq!(text(Bytes::from_static(b"one").into()), "one");
    }

    #[test]
    fn both_pieces_and_bytes_are_bounded() {
        let mut many = Chunks::default();
        while !many.is_full() {
            many.push(Bytes::from_static(b"x"));
        }
        assert_eq!(many.len(), PIECES_MAX);
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        assert_eq!(many.chunks_vectored(&mut slices), PIECES_MAX);
        let mut large = Chunks::from(Bytes::from(vec![0; BYTES_MAX - 1]));
        assert!(!large.is_full());
        large.push(Bytes::from_static(b"x"));
        assert!(large.is_full());
    }
}
