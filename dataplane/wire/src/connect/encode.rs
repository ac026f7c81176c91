//! Writes heads of data streams straight into their one output buffer.
//!
//! Both heads are a root struct with one text and one list of pairs of texts. Knowing that, the
//! message can be counted and then written front to back without an arena: root, first text, list,
//! then the texts of the pairs in order. This is the layout that the stock connector's library
//! gives, in one segment; unit tests hold it to captures and read it back with the generated code.
//!
//! ```text
//! pointer to a struct  | offset in words << 2      | data words : u16 | pointers : u16 |
//! pointer to a list    | offset in words << 2 | 1  | size << 3 | element kind          |
//! list of structs      | count << 2                | data words : u16 | pointers : u16 | elements …
//! ```
//! Offsets count from the end of the pointer. An empty text is a null pointer.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{ConnectionType, HEAD_BYTES_MAX, HeadError, METADATA_ENTRIES_MAX, PREAMBLE_SIZE};
use crate::framing::{FrameError, WORD_SIZE};
use crate::metadata::HTTP_HEADER;
use crate::signature::{DATA_STREAM, VERSION};

/// One segment: its table is one word.
const TABLE_SIZE: usize = WORD_SIZE;

/// Pointers of every struct here: text and list in the roots, key and value in a pair.
const STRUCT_POINTERS: usize = 2;

/// Kind of a list of bytes, which a text is.
const LIST_OF_BYTES: usize = 2;

/// Kind of a list of structs that starts with a tag word.
const LIST_OF_STRUCTS: usize = 7;

/// In the data word of a request, above the kind: the edge takes interim answers. No field of cloudflared's
/// is there. Only peers of ours set it for each other.
pub(super) const INTERIM: u32 = 1 << 16;

/// Where flags lie: behind the table, the pointer to the root, and the kind.
const FLAGS: Range<usize> = {
    let kind = PREAMBLE_SIZE + TABLE_SIZE + WORD_SIZE;
    kind + 2..kind + 4
};

/// Bytes of the two pointers of a pair.
const PAIR_SIZE: usize = STRUCT_POINTERS * WORD_SIZE;

/// A pair of metadata to write. A header's name needs no joining with its prefix first, and no copy to
/// get the case that HTTP/1 knows it in.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    name: &'a [u8],
    value: &'a [u8],
    form: Form,
}

/// How the key is made of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// It is the name.
    Plain,
    /// With the prefix of headers.
    Header,
    /// The same, and `content-type` becomes `Content-Type`.
    TitleCase,
}

impl<'a> Entry<'a> {
    /// A pair as it stands.
    pub fn new(key: &'a (impl AsRef<[u8]> + ?Sized), value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            name: key.as_ref(),
            value: value.as_ref(),
            form: Form::Plain,
        }
    }

    /// A header: its key is `HttpHeader:<name>`.
    pub fn header(name: &'a (impl AsRef<[u8]> + ?Sized), value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            form: Form::Header,
            ..Self::new(name, value)
        }
    }

    /// A header whose name is given in lower case and written in title case.
    pub fn title_case(name: &'a (impl AsRef<[u8]> + ?Sized), value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            form: Form::TitleCase,
            ..Self::new(name, value)
        }
    }

    fn key_size(&self) -> usize {
        match self.form {
            Form::Plain => self.name.len(),
            Form::Header | Form::TitleCase => HTTP_HEADER.len() + self.name.len(),
        }
    }
}

/// Writes signature, version and a framed `ConnectRequest`.
///
/// # Errors
/// [`HeadError::TooLarge`] and [`HeadError::TooManyEntries`]: the limits that decoding has.
pub fn encode_request(
    dest: &(impl AsRef<[u8]> + ?Sized),
    kind: ConnectionType,
    metadata: &[Entry<'_>],
) -> Result<Bytes, HeadError> {
    encode(Some(number(kind)), dest.as_ref(), metadata)
}

/// The same for a connector of ours, which may send interim answers.
///
/// # Errors
/// As [`encode_request`].
pub fn encode_request_for_interim(
    dest: &(impl AsRef<[u8]> + ?Sized),
    kind: ConnectionType,
    metadata: &[Entry<'_>],
) -> Result<Bytes, HeadError> {
    encode(Some(number(kind) | INTERIM as usize), dest.as_ref(), metadata)
}

/// What [`encode_request_for_interim`] has written, as [`encode_request`] would have.
pub fn without_interim(head: &Bytes) -> Bytes {
    let mut head = BytesMut::from(&head[..]);
    if let Some(flags) = head.get_mut(FLAGS) {
        flags.copy_from_slice(&[0; 2]);
    }
    head.freeze()
}

const fn number(kind: ConnectionType) -> usize {
    match kind {
        ConnectionType::Http => 0,
        ConnectionType::WebSocket => 1,
        ConnectionType::Tcp => 2,
    }
}

/// Writes signature, version and a framed `ConnectResponse`; an empty `error` means success.
///
/// # Errors
/// As [`encode_request`].
pub fn encode_response(error: &[u8], metadata: &[Entry<'_>]) -> Result<Bytes, HeadError> {
    encode(None, error, metadata)
}

/// Writes a root with `data` as its only data field, if any, then `text` and the pairs.
fn encode(data: Option<usize>, text: &[u8], metadata: &[Entry<'_>]) -> Result<Bytes, HeadError> {
    let count = metadata.len();
    if count > METADATA_ENTRIES_MAX {
        return Err(HeadError::TooManyEntries { count });
    }
    let data_words = usize::from(data.is_some());
    let list_words = if count == 0 {
        0
    } else {
        1 + STRUCT_POINTERS * count
    };
    let texts_words: usize = metadata
        .iter()
        .map(|entry| text_words(entry.key_size()) + text_words(entry.value.len()))
        .sum();
    let words = 1 + data_words + STRUCT_POINTERS + text_words(text.len()) + list_words + texts_words;
    let size = TABLE_SIZE + words * WORD_SIZE;
    if size > HEAD_BYTES_MAX {
        let too_large = FrameError::TooLarge {
            size: size as u64,
            limit: HEAD_BYTES_MAX,
        };
        return Err(HeadError::TooLarge(too_large));
    }

    // Zeroed, so that nothing need be written where a text is padded or a pointer is null.
    let mut head = vec![0; PREAMBLE_SIZE + size];
    let mut out = Out { rest: &mut head };
    out.put(&DATA_STREAM);
    out.put(&VERSION);
    // One segment: its number less one, and its words.
    out.put_word(0, words);
    out.put_word(0, struct_size(data_words));
    if let Some(data) = data {
        out.put_word(data, 0);
    }
    // The text follows the second pointer, the list follows the text.
    out.put(&text_pointer(1, text.len()));
    let text_size = text_words(text.len()) * WORD_SIZE;
    if count == 0 {
        out.skip(WORD_SIZE);
    } else {
        out.put_word(
            text_words(text.len()) << 2 | 1,
            (STRUCT_POINTERS * count) << 3 | LIST_OF_STRUCTS,
        );
    }
    Out {
        rest: out.skip(text_size),
    }
    .put(text);
    if count > 0 {
        out.put_word(count << 2, struct_size(0));
        put_pairs(out, metadata);
    }
    Ok(head.into())
}

/// Writes the pointers of the list's elements and the texts they point at, which follow all of them.
fn put_pairs(mut out: Out<'_>, metadata: &[Entry<'_>]) {
    let pointers = out.skip(PAIR_SIZE * metadata.len()).as_chunks_mut().0;
    // Words from a pointer's end to the next free text.
    let mut offset = STRUCT_POINTERS * metadata.len();
    for (entry, place) in metadata.iter().zip(pointers.as_chunks_mut().0) {
        let (key_size, value_size) = (entry.key_size(), entry.value.len());
        let [key, value]: &mut [[u8; WORD_SIZE]; STRUCT_POINTERS] = place;
        *key = text_pointer(offset - 1, key_size);
        offset += text_words(key_size);
        *value = text_pointer(offset - 2, value_size);
        offset += text_words(value_size);
        offset -= STRUCT_POINTERS;
        put_key(out.skip(text_words(key_size) * WORD_SIZE), entry);
        let value = out.skip(text_words(value_size) * WORD_SIZE);
        Out { rest: value }.put(entry.value);
    }
    debug_assert!(out.rest.is_empty(), "counted and written size are equal");
}

fn put_key(place: &mut [u8], entry: &Entry<'_>) {
    let mut place = Out { rest: place };
    if entry.form != Form::Plain {
        place.put(HTTP_HEADER.as_bytes());
    }
    let name = place.skip(entry.name.len());
    name.copy_from_slice(entry.name);
    if entry.form == Form::TitleCase {
        let mut is_start = true;
        for byte in name {
            if is_start {
                byte.make_ascii_uppercase();
            }
            is_start = *byte == b'-';
        }
    }
}

/// Words that a text of that many bytes takes with its terminating zero; none if it is empty.
const fn text_words(size: usize) -> usize {
    if size == 0 { 0 } else { size / WORD_SIZE + 1 }
}

const fn struct_size(data_words: usize) -> usize {
    data_words | STRUCT_POINTERS << 16
}

/// What is left of the zeroed buffer. Its size was counted, so that nothing is ever too large for it.
struct Out<'a> {
    rest: &'a mut [u8],
}

impl<'a> Out<'a> {
    /// Gives out the next bytes.
    fn skip(&mut self, size: usize) -> &'a mut [u8] {
        let (skipped, rest) = std::mem::take(&mut self.rest).split_at_mut(size);
        self.rest = rest;
        skipped
    }

    fn put(&mut self, bytes: &[u8]) {
        self.skip(bytes.len()).copy_from_slice(bytes);
    }

    fn put_word(&mut self, low: usize, high: usize) {
        self.put(&word(low, high));
    }
}

/// A word of its two halves. Every number in a head is below [`HEAD_BYTES_MAX`] times eight.
fn word(low: usize, high: usize) -> [u8; WORD_SIZE] {
    let is_small = |half: usize| half <= 8 * HEAD_BYTES_MAX + 7;
    debug_assert!(is_small(low) && is_small(high), "the head is within its limit");
    (low as u64 | (high as u64) << 32).to_le_bytes()
}

fn text_pointer(offset: usize, size: usize) -> [u8; WORD_SIZE] {
    if size == 0 {
        [0; WORD_SIZE]
    } else {
        word(offset << 2 | 1, (size + 1) << 3 | LIST_OF_BYTES)
    }
}
