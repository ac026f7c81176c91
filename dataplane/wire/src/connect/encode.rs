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

use bytes::{BufMut, Bytes, BytesMut};

use super::{ConnectionType, HEAD_BYTES_MAX, HeadError, METADATA_ENTRIES_MAX, PREAMBLE_SIZE};
use crate::framing::{FrameError, WORD_SIZE};
use crate::signature::{DATA_STREAM, VERSION};

/// One segment: its table is one word.
const TABLE_SIZE: usize = WORD_SIZE;

/// Pointers of every struct here: text and list in the roots, key and value in a pair.
const STRUCT_POINTERS: usize = 2;

/// Kind of a list of bytes, which a text is.
const LIST_OF_BYTES: u32 = 2;

/// Kind of a list of structs that starts with a tag word.
const LIST_OF_STRUCTS: u32 = 7;

/// A pair of metadata to write. The key is given in two parts so that the name of a header needs no
/// joining with its prefix first.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    prefix: &'static str,
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// A pair as it stands.
    pub fn new(key: &'a (impl AsRef<[u8]> + ?Sized), value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            prefix: "",
            name: key.as_ref(),
            value: value.as_ref(),
        }
    }

    /// A header: its key is `HttpHeader:<name>`.
    pub fn header(name: &'a (impl AsRef<[u8]> + ?Sized), value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            prefix: crate::metadata::HTTP_HEADER,
            name: name.as_ref(),
            value: value.as_ref(),
        }
    }

    fn key_size(&self) -> usize {
        self.prefix.len() + self.name.len()
    }
}

/// Writes signature, version and a framed `ConnectRequest`.
///
/// # Errors
/// [`HeadError::TooLarge`] and [`HeadError::TooManyEntries`]: the limits that decoding has.
pub fn encode_request(dest: &str, kind: ConnectionType, metadata: &[Entry<'_>]) -> Result<Bytes, HeadError> {
    let kind = match kind {
        ConnectionType::Http => 0,
        ConnectionType::WebSocket => 1,
        ConnectionType::Tcp => 2,
    };
    encode(Some(kind), dest.as_bytes(), metadata)
}

/// Writes signature, version and a framed `ConnectResponse`; an empty `error` means success.
///
/// # Errors
/// As [`encode_request`].
pub fn encode_response(error: &[u8], metadata: &[Entry<'_>]) -> Result<Bytes, HeadError> {
    encode(None, error, metadata)
}

/// Writes a root with `data` as its only data field, if any, then `text` and the pairs.
fn encode(data: Option<u16>, text: &[u8], metadata: &[Entry<'_>]) -> Result<Bytes, HeadError> {
    if metadata.len() > METADATA_ENTRIES_MAX {
        return Err(HeadError::TooManyEntries {
            count: metadata.len(),
        });
    }
    let data_words = usize::from(data.is_some());
    let list_words = if metadata.is_empty() {
        0
    } else {
        1 + STRUCT_POINTERS * metadata.len()
    };
    let pairs_words: usize = metadata
        .iter()
        .map(|entry| text_words(entry.key_size()) + text_words(entry.value.len()))
        .sum();
    let words = 1 + data_words + STRUCT_POINTERS + text_words(text.len()) + list_words + pairs_words;
    let size = TABLE_SIZE + words * WORD_SIZE;
    if size > HEAD_BYTES_MAX {
        let too_large = FrameError::TooLarge {
            size: size as u64,
            limit: HEAD_BYTES_MAX,
        };
        return Err(HeadError::TooLarge(too_large));
    }

    let mut out = BytesMut::with_capacity(PREAMBLE_SIZE + size);
    out.put_slice(&DATA_STREAM);
    out.put_slice(&VERSION);
    out.put_u32_le(0);
    put_u32(&mut out, words);

    put_struct_pointer(&mut out, data_words);
    if let Some(data) = data {
        out.put_u64_le(u64::from(data));
    }
    // The text follows the second pointer, the list follows the text.
    put_text_pointer(&mut out, 1, text.len());
    put_list_pointer(&mut out, text_words(text.len()), metadata.len());
    put_text(&mut out, &[text]);
    put_pairs(&mut out, metadata);
    debug_assert_eq!(
        out.len(),
        PREAMBLE_SIZE + size,
        "counted and written size are equal"
    );
    Ok(out.freeze())
}

/// Writes the list's tag, its elements' pointers, and the texts they point at.
fn put_pairs(out: &mut BytesMut, metadata: &[Entry<'_>]) {
    if metadata.is_empty() {
        return;
    }
    put_u32(out, metadata.len() << 2);
    put_struct_size(out, 0);
    let pointers = STRUCT_POINTERS * metadata.len();
    // Words from the start of the elements: of the pointer being written, and of the next free text.
    let mut free = pointers;
    let sizes = metadata
        .iter()
        .flat_map(|entry| [entry.key_size(), entry.value.len()]);
    for (at, size) in sizes.enumerate() {
        put_text_pointer(out, free - (at + 1), size);
        free += text_words(size);
    }
    for entry in metadata {
        put_text(out, &[entry.prefix.as_bytes(), entry.name]);
        put_text(out, &[entry.value]);
    }
}

/// Words that a text of that many bytes takes with its terminating zero; none if it is empty.
const fn text_words(size: usize) -> usize {
    if size == 0 {
        0
    } else {
        (size + 1).div_ceil(WORD_SIZE)
    }
}

/// Writes the pointer to the root struct, which follows it.
fn put_struct_pointer(out: &mut BytesMut, data_words: usize) {
    out.put_u32_le(0);
    put_struct_size(out, data_words);
}

fn put_struct_size(out: &mut BytesMut, data_words: usize) {
    put_u32(out, data_words | (STRUCT_POINTERS << 16));
}

fn put_text_pointer(out: &mut BytesMut, offset: usize, size: usize) {
    if size == 0 {
        out.put_u64_le(0);
    } else {
        put_u32(out, offset << 2 | 1);
        put_u32(out, (size + 1) << 3 | LIST_OF_BYTES as usize);
    }
}

fn put_list_pointer(out: &mut BytesMut, offset: usize, count: usize) {
    if count == 0 {
        out.put_u64_le(0);
    } else {
        put_u32(out, offset << 2 | 1);
        put_u32(out, (STRUCT_POINTERS * count) << 3 | LIST_OF_STRUCTS as usize);
    }
}

fn put_text(out: &mut BytesMut, parts: &[&[u8]]) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    parts.iter().for_each(|part| out.put_slice(part));
    out.put_bytes(0, text_words(size) * WORD_SIZE - size);
}

/// Every number in a head is below [`HEAD_BYTES_MAX`] times eight, which the caller has checked.
fn put_u32(out: &mut BytesMut, number: usize) {
    debug_assert!(number <= 8 * HEAD_BYTES_MAX + 7, "the head is within its limit");
    out.put_u32_le(number as u32);
}
