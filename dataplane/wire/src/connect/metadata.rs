//! The pairs of a decoded head, as places in its bytes.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::encode::Entry;

/// Pairs of key and value as raw bytes, in the order of the wire; keys may repeat.
///
/// They lie in the head's own bytes, which live as long as any part of them.
#[derive(Clone, Default)]
pub struct Metadata {
    head: Bytes,
    pairs: Vec<Pair>,
}

/// Where a pair lies in its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: Span,
    pub(super) value: Span,
}

/// Where a text lies in its head. A head is far shorter than 4 GiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    size: u32,
}

impl Metadata {
    pub(super) fn new(head: Bytes, pairs: Vec<Pair>) -> Self {
        Self { head, pairs }
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs
            .iter()
            .map(|pair| (pair.key.of(&self.head), pair.value.of(&self.head)))
    }

    /// A key or a value, or a part of one, without a copy.
    ///
    /// # Panics
    /// If `part` is not from this metadata.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.head.slice_ref(part)
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(super) fn entries(&self) -> Vec<Entry<'_>> {
        self.iter().map(|(key, value)| Entry::new(key, value)).collect()
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Metadata {}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_list()
            .entries(self.iter().map(|(key, value)| (shown(key), shown(value))))
            .finish()
    }
}

/// Makes pairs that no head has brought.
impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut head = BytesMut::new();
        let mut put = |text: &[u8]| {
            let span = Span::new(head.len(), text.len());
            head.extend_from_slice(text);
            span
        };
        let pairs = pairs.into_iter().map(|(key, value)| Pair {
            key: put(key.as_ref()),
            value: put(value.as_ref()),
        });
        let pairs = pairs.collect();
        Self::new(head.freeze(), pairs)
    }
}

impl Span {
    pub(super) fn new(start: usize, size: usize) -> Self {
        let is_short = start <= u32::MAX as usize && size <= u32::MAX as usize;
        debug_assert!(is_short, "metadata is far smaller than 4 GiB");
        Self {
            start: start as u32,
            size: size as u32,
        }
    }

    /// The place of `part`, which is a slice of `head` or empty.
    pub(super) fn within(head: &[u8], part: &[u8]) -> Self {
        if part.is_empty() {
            // The general reader gives an empty text from elsewhere.
            return Self::default();
        }
        Self::new(part.as_ptr() as usize - head.as_ptr() as usize, part.len())
    }

    /// The text.
    pub(super) fn of(self, head: &[u8]) -> &[u8] {
        let (start, size) = (self.start as usize, self.size as usize);
        head.get(start..start + size).unwrap_or_default()
    }
}
