//! What was read of a request's body, held for a retry while it is small and nobody has answered.
//!
//! ```text
//! read ─► kept ─► sent ─┬─► answered: nothing more is kept
//!           ▲           └─► failed: rewind, and sent again
//!           └─ too much: all of it is let go, and the request is never sent again
//! ```
//! Bounded by [`HELD_BYTES_MAX`]. Chunks are shared, not copied.

use bytes::Bytes;

use super::retry::{HELD_BYTES_MAX, Held};

/// The beginning of a body, or all of it.
#[derive(Debug)]
pub struct HeldBody {
    chunks: Vec<Bytes>,
    bytes: usize,
    is_whole: bool,
    /// Chunks given out in this reading.
    position: usize,
}

/// What has become of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is held.
    Yes,
    /// It is not, and so many bytes that were held are not any more.
    No(usize),
}

impl Default for HeldBody {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            bytes: 0,
            is_whole: true,
            position: 0,
        }
    }
}

impl HeldBody {
    /// A chunk was read of the visitor and is given out. An answer that has begun ends what is kept: the
    /// request is never sent again.
    pub fn keep(&mut self, chunk: &Bytes, is_answered: bool) -> Kept {
        if self.is_whole && !is_answered && self.bytes + chunk.len() <= HELD_BYTES_MAX {
            self.bytes += chunk.len();
            self.chunks.push(chunk.clone());
            self.position += 1;
            return Kept::Yes;
        }
        self.is_whole = false;
        Kept::No(self.let_go())
    }

    /// The next chunk of this reading, if it is held.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.get(self.position)?;
        self.position += 1;
        Some(chunk.clone())
    }

    /// Starts over.
    pub fn rewind(&mut self) {
        self.position = 0;
    }

    /// Whether all that was read is here.
    #[must_use]
    pub fn held(&self) -> Held {
        if self.is_whole { Held::Whole } else { Held::Gone }
    }

    /// Drops what is held, and returns how many bytes that were.
    pub fn let_go(&mut self) -> usize {
        self.chunks = Vec::new();
        self.position = 0;
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_body_is_read_again_from_its_beginning() {
        let mut body = HeldBody::default();
        for chunk in [&b"one"[..], b"two"] {
            assert_eq!(body.keep(&Bytes::from_static(chunk), false), Kept::Yes);
        }
        assert_eq!(body.next_chunk(), None, "given out when it was read");
        body.rewind();
        assert_eq!(body.next_chunk().as_deref(), Some(&b"one"[..]));
        assert_eq!(body.next_chunk().as_deref(), Some(&b"two"[..]));
        assert_eq!(body.next_chunk(), None);
        assert_eq!((body.held(), body.let_go()), (Held::Whole, 6));
    }

    #[test]
    fn a_body_above_the_limit_is_let_go_whole_and_for_good() {
        let mut body = HeldBody::default();
        let full = Bytes::from(vec![0; HELD_BYTES_MAX]);
        assert_eq!(body.keep(&full, false), Kept::Yes);
        assert_eq!(
            body.keep(&Bytes::from_static(b"x"), false),
            Kept::No(HELD_BYTES_MAX)
        );
        assert_eq!(body.held(), Held::Gone);
        assert_eq!(body.keep(&Bytes::from_static(b"x"), false), Kept::No(0));
        body.rewind();
        assert_eq!((body.next_chunk(), body.let_go()), (None, 0));
    }

    #[test]
    fn nothing_is_kept_once_an_answer_has_begun() {
        let mut body = HeldBody::default();
        assert_eq!(body.keep(&Bytes::from_static(b"abc"), false), Kept::Yes);
        assert_eq!(body.keep(&Bytes::from_static(b"d"), true), Kept::No(3));
        assert_eq!(body.held(), Held::Gone);
    }
}
