//! Bytes of one stream that wait for a busy reader, small pieces joined.
//!
//! Windows bound bytes, and very many small pieces cost far more than their bytes, so small pieces are
//! joined. Large ones stay as they arrived.
//!
//! Bounded by the window of the stream whose bytes these are: it grows only when the reader has taken some.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces below this are copied together: a piece of its own costs as much.
const SMALL_BYTES: usize = 1024;

/// A piece of joined ones is not made larger than this and one small piece.
const JOINED_BYTES_MAX: usize = 16 << 10;

/// Pieces in order. None of them is empty.
#[derive(Debug, Default)]
pub struct Gathered {
    whole: VecDeque<Bytes>,
    /// Small pieces after those.
    joined: BytesMut,
}

impl Gathered {
    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        let is_small = piece.len() < SMALL_BYTES;
        if is_small {
            self.joined.extend_from_slice(&piece);
        }
        if !self.joined.is_empty() && (!is_small || self.joined.len() >= JOINED_BYTES_MAX) {
            self.whole.push_back(self.joined.split().freeze());
        }
        if !is_small {
            self.whole.push_back(piece);
        }
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.joined.is_empty()
    }

    /// Takes the first piece out.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.whole
            .pop_front()
            .or_else(|| (!self.joined.is_empty()).then(|| self.joined.split().freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(gathered: &mut Gathered) -> Vec<usize> {
        std::iter::from_fn(|| gathered.pop())
            .map(|piece| piece.len())
            .collect()
    }

    #[test]
    fn small_pieces_are_joined_and_large_ones_stay_in_order() {
        let mut gathered = Gathered::default();
        for size in [1, 2, 0, 3, 5_000, 1_024, 1_023, 1] {
            gathered.push(Bytes::from(vec![b'x'; size]));
        }
        assert_eq!(sizes(&mut gathered), [6, 5_000, 1_024, 1_024]);
        assert_eq!(gathered.pop(), None);
    }

    #[test]
    fn joined_pieces_stay_of_a_decent_size() {
        let mut gathered = Gathered::default();
        for _ in 0..40 {
            gathered.push(Bytes::from(vec![b'x'; 1_000]));
        }
        assert_eq!(sizes(&mut gathered), [17_000, 17_000, 6_000]);
    }
}
