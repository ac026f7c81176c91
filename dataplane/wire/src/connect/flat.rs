//! Reads heads that are laid out as writers lay them out: one segment, a root, a text, a list of pairs.
//!
//! Knows of the encoding only what such a head needs, and says `None` to all else, malice and mistakes
//! included: the general reader then decides, slowly and with the right error. What this accepts, the
//! general reader reads alike; unit tests hold them to each other under mutation.
//!
//! ```text
//! pointer to a struct  | offset in words << 2     | data words : u16 | pointers : u16 |
//! pointer to a list    | offset in words << 2 | 1 | size << 3 | element kind          |
//! tag of a list        | count << 2               | data words : u16 | pointers : u16 | elements …
//! ```
//! Offsets are signed and count from the end of the pointer. A null pointer is an empty text or list.

use super::encode::INTERIM;
use super::metadata::{Pair, Span};
use super::{HEAD_BYTES_MAX, METADATA_ENTRIES_MAX, PREAMBLE_SIZE, Parts};
use crate::framing::WORD_SIZE;

/// Low bits of a pointer to a struct, and of one to a list.
const STRUCT: u64 = 0;
const LIST: u64 = 1;

/// Kinds of list: of bytes, and of structs that starts with a tag.
const OF_BYTES: u64 = 2;
const OF_STRUCTS: u64 = 7;

/// A message of one segment.
pub(super) struct Flat<'a> {
    words: &'a [[u8; WORD_SIZE]],
    /// Where the segment starts in the head.
    start: usize,
    /// Words visited so far.
    visited: usize,
}

/// A struct: where its parts start, and how large they are in words.
#[derive(Clone, Copy)]
struct Struct {
    data: usize,
    data_words: usize,
    pointers: usize,
    pointer_words: usize,
}

impl<'a> Flat<'a> {
    /// Takes a whole head with its preamble.
    pub(super) fn open(head: &'a [u8]) -> Option<Self> {
        let (table, segment) = head.get(PREAMBLE_SIZE..)?.split_first_chunk::<WORD_SIZE>()?;
        let is_one_segment = table.first_chunk() == Some(&[0; 4]);
        is_one_segment.then_some(Self {
            words: segment.as_chunks().0,
            start: PREAMBLE_SIZE + WORD_SIZE,
            visited: 0,
        })
    }

    /// Reads the message as a request.
    pub(super) fn request(mut self) -> Option<Parts> {
        let root = self.root()?;
        // A struct without this field is of the first kind.
        let kind = match root.data_words {
            0 => 0,
            _ => self.word(root.data)? as u16,
        };
        self.parts(root, kind)
    }

    /// Whether the writer of a request takes interim answers. Writers who are not ours say nothing of it.
    pub(super) fn takes_interim(mut self) -> bool {
        let root = self.root().filter(|root| root.data_words > 0);
        root.and_then(|root| self.word(root.data))
            .is_some_and(|word| word & u64::from(INTERIM) != 0)
    }

    /// Reads the message as a response.
    pub(super) fn response(mut self) -> Option<Parts> {
        let root = self.root()?;
        self.parts(root, 0)
    }

    /// Both roots have the text first and the list second.
    fn parts(&mut self, root: Struct, kind: u16) -> Option<Parts> {
        if root.pointer_words < 2 {
            return None;
        }
        let text = self.text(root.pointers)?;
        let pairs = self.pairs(root.pointers + 1)?;
        // Most parts of a head in which no two parts overlap. The general reader allows twice as many.
        let is_plain = self.visited <= HEAD_BYTES_MAX / WORD_SIZE;
        is_plain.then_some(Parts { kind, text, pairs })
    }

    fn root(&mut self) -> Option<Struct> {
        let pointer = self.word(0)?;
        let is_struct = pointer != 0 && pointer & 3 == STRUCT;
        let root = Struct::sized(pointer, target(0, pointer).filter(|_| is_struct)?);
        let size = root.data_words + root.pointer_words;
        self.words.get(root.data..root.data + size)?;
        self.visited += size;
        Some(root)
    }

    fn text(&mut self, at: usize) -> Option<Span> {
        let pointer = self.word(at)?;
        if pointer == 0 {
            return Some(Span::default());
        }
        if pointer & 3 != LIST || pointer >> 32 & 7 != OF_BYTES {
            return None;
        }
        let (start, size) = (target(at, pointer)? * WORD_SIZE, (pointer >> 35) as usize);
        let with_zero = self.words.as_flattened().get(start..start + size)?;
        self.visited += size.div_ceil(WORD_SIZE);
        (with_zero.last() == Some(&0)).then(|| Span::new(self.start + start, size - 1))
    }

    fn pairs(&mut self, at: usize) -> Option<Vec<Pair>> {
        let pointer = self.word(at)?;
        if pointer == 0 {
            return Some(Vec::new());
        }
        if pointer & 3 != LIST || pointer >> 32 & 7 != OF_STRUCTS {
            return None;
        }
        let (at, size) = (target(at, pointer)?, (pointer >> 35) as usize);
        let tag = self.word(at)?;
        let count = (tag as u32 >> 2) as usize;
        let element = Struct::sized(tag, at + 1);
        let stride = element.data_words + element.pointer_words;
        let is_sound = tag & 3 == STRUCT
            && element.pointer_words >= 2
            && count <= METADATA_ENTRIES_MAX
            && count * stride <= size;
        self.words.get(at + 1..at + 1 + size).filter(|_| is_sound)?;
        self.visited += size + 1;
        let mut pairs = Vec::with_capacity(count);
        for number in 0..count {
            let key = element.pointers + number * stride;
            pairs.push(Pair {
                key: self.text(key)?,
                value: self.text(key + 1)?,
            });
        }
        Some(pairs)
    }

    fn word(&self, at: usize) -> Option<u64> {
        self.words.get(at).map(|word| u64::from_le_bytes(*word))
    }
}

impl Struct {
    /// Of the sizes in a pointer or a tag, from the word `data` on.
    fn sized(pointer: u64, data: usize) -> Self {
        let data_words = usize::from((pointer >> 32) as u16);
        Self {
            data,
            data_words,
            pointers: data + data_words,
            pointer_words: usize::from((pointer >> 48) as u16),
        }
    }
}

/// The word that the pointer at the word `at` points to.
fn target(at: usize, pointer: u64) -> Option<usize> {
    let offset = pointer as u32 as i32 >> 2;
    (at + 1).checked_add_signed(offset as isize)
}
