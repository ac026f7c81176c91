//! Heads of data streams: the request that the edge writes and the response that the connector gives.
//!
//! ```text
//! 0            6         8                                     end of the message
//! | signature  | version | framed capnp message: ConnectRequest | bytes of the exchange … FIN
//! | 0A36CD12A13E | "01"  | or ConnectResponse                   |
//! ```
//! Decoding reads the message where it lies: the head is split off the receive buffer and every text
//! is a place in it, so a head costs one list of places and no copy. A message as writers lay it out is
//! read word by word (`flat`), any other by the general reader. Encoding counts first and then writes
//! once into one buffer of the right size (`encode`).
//!
//! Text fields are read as raw bytes, since header values are not always valid UTF-8.
//!
//! Source: cloudflared `tunnelrpc/quic/protocol.go`, `tunnelrpc/proto/quic_metadata_protocol.capnp`.

use bytes::Bytes;
use capnp::message::{Reader, ReaderOptions};
use capnp::serialize::{NoAllocSliceSegments, read_message_from_flat_slice_no_alloc};
use capnp::struct_list;

use crate::framing::{FrameError, WORD_SIZE, message_size};
use crate::quic_metadata_protocol_capnp as schema;
use crate::signature::{DATA_STREAM, SIGNATURE_SIZE, VERSION};

mod encode;
mod flat;
mod metadata;

pub use encode::{Entry, encode_request, encode_request_for_interim, encode_response, without_interim};
pub use metadata::Metadata;

use flat::Flat;
use metadata::{Pair, Span};

/// Largest message in a head. Visitors' heads end at 32 KiB, and each pair costs up to 30 bytes more.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most pairs in a head. Visitors send at most 100 headers; origins may answer with more.
pub const METADATA_ENTRIES_MAX: usize = 512;

/// Bytes before the message.
pub const PREAMBLE_SIZE: usize = SIGNATURE_SIZE + VERSION.len();

/// A root, a list and its texts are three deep; a peer with a newer schema may add a few.
const HEAD_NESTING_MAX: i32 = 8;

/// Twice the largest head: enough to visit each part once with the list counted as well, too little
/// for pairs that all point at one large text.
const HEAD_READER_OPTIONS: ReaderOptions = ReaderOptions {
    traversal_limit_in_words: Some(2 * HEAD_BYTES_MAX / WORD_SIZE),
    nesting_limit: HEAD_NESTING_MAX,
};

/// Why bytes are no head, or a head cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// The stream does not start with the data signature.
    #[error("stream does not start with the signature of a data stream")]
    Signature,
    /// The message is larger than [`HEAD_BYTES_MAX`] or in too many segments.
    #[error("head of a data stream is too large")]
    TooLarge(#[source] FrameError),
    /// More than [`METADATA_ENTRIES_MAX`] pairs.
    #[error("head has {count} metadata entries, more than {METADATA_ENTRIES_MAX}")]
    TooManyEntries {
        /// Pairs announced.
        count: usize,
    },
    /// The message breaks the rules of Cap'n Proto.
    #[error("head is not a valid message")]
    Message(#[from] capnp::Error),
    /// The kind of exchange is none we know.
    #[error("unknown connection type {0}")]
    ConnectionType(u16),
    /// The destination is not UTF-8.
    #[error("destination is not valid UTF-8")]
    Destination(#[source] std::str::Utf8Error),
}

impl HeadError {
    /// Whether there is too much of it, which says nothing against its form.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge(_) | Self::TooManyEntries { .. })
    }
}

/// What an exchange carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionType {
    /// One HTTP request and its response.
    Http,
    /// An HTTP upgrade, then frames as they come.
    WebSocket,
    /// A TCP flow.
    Tcp,
}

/// First words of the edge on a data stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Full URL or path for HTTP, `ip:port` for TCP. UTF-8, which decoding has checked.
    pub dest: Bytes,
    /// What the exchange carries.
    pub kind: ConnectionType,
    /// Keys of [`crate::metadata`].
    pub metadata: Metadata,
    /// The edge takes interim answers ahead of the answer: heads of their own. Only an edge of ours is
    /// believed.
    pub takes_interim: bool,
}

/// First words of the connector on a data stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectResponse {
    /// Empty for success, else the reason in human words.
    pub error: Bytes,
    /// Keys of [`crate::metadata`]; empty on failure.
    pub metadata: Metadata,
}

impl ConnectRequest {
    /// Writes the head; see [`encode_request`].
    ///
    /// # Errors
    /// As [`encode_request`].
    pub fn encode(&self) -> Result<Bytes, HeadError> {
        let entries = self.metadata.entries();
        if self.takes_interim {
            encode_request_for_interim(&self.dest, self.kind, &entries)
        } else {
            encode_request(&self.dest, self.kind, &entries)
        }
    }
}

impl ConnectResponse {
    /// Writes the head; see [`encode_response`].
    ///
    /// # Errors
    /// As [`encode_response`].
    pub fn encode(&self) -> Result<Bytes, HeadError> {
        encode_response(&self.error, &self.metadata.entries())
    }
}

/// What either head has, as places in it.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// Number of the connection type; 0 in a response.
    kind: u16,
    text: Span,
    pairs: Vec<Pair>,
}

/// Decodes the head of a data stream opened by the edge.
///
/// Returns `Ok(None)` until `buffer` holds the whole head; takes nothing from it in that case. Else
/// takes exactly the head and leaves the first bytes of the exchange.
///
/// # Errors
/// [`HeadError`]; the stream is then of no use, whatever is left in the buffer.
pub fn decode_request(buffer: &mut Bytes) -> Result<Option<ConnectRequest>, HeadError> {
    let Some(head) = take_head(buffer)? else {
        return Ok(None);
    };
    let parts = match Flat::open(&head).and_then(Flat::request) {
        Some(parts) => parts,
        None => request_parts(&head)?,
    };
    let kind = match parts.kind {
        0 => ConnectionType::Http,
        1 => ConnectionType::WebSocket,
        2 => ConnectionType::Tcp,
        number => return Err(HeadError::ConnectionType(number)),
    };
    let takes_interim = Flat::open(&head).is_some_and(Flat::takes_interim);
    let dest = parts.text.of(&head);
    std::str::from_utf8(dest).map_err(HeadError::Destination)?;
    Ok(Some(ConnectRequest {
        dest: head.slice_ref(dest),
        kind,
        metadata: Metadata::new(head, parts.pairs),
        takes_interim,
    }))
}

/// Decodes the head of a connector's answer on a data stream; as [`decode_request`].
///
/// # Errors
/// As [`decode_request`].
pub fn decode_response(buffer: &mut Bytes) -> Result<Option<ConnectResponse>, HeadError> {
    let Some(head) = take_head(buffer)? else {
        return Ok(None);
    };
    let parts = match Flat::open(&head).and_then(Flat::response) {
        Some(parts) => parts,
        None => response_parts(&head)?,
    };
    Ok(Some(ConnectResponse {
        error: head.slice_ref(parts.text.of(&head)),
        metadata: Metadata::new(head, parts.pairs),
    }))
}

/// Splits a whole head off the buffer, preamble included.
fn take_head(buffer: &mut Bytes) -> Result<Option<Bytes>, HeadError> {
    // Judged byte by byte as they come, so that a stray stream is not waited for.
    let seen = buffer.len().min(SIGNATURE_SIZE);
    if buffer[..seen] != DATA_STREAM[..seen] {
        return Err(HeadError::Signature);
    }
    let Some(framed) = buffer.get(PREAMBLE_SIZE..) else {
        return Ok(None);
    };
    match message_size(framed, HEAD_BYTES_MAX).map_err(HeadError::TooLarge)? {
        Some(size) if size <= framed.len() => Ok(Some(buffer.split_to(PREAMBLE_SIZE + size))),
        _ => Ok(None),
    }
}

/// Reads a request of any layout.
fn request_parts(head: &Bytes) -> Result<Parts, HeadError> {
    let message = open(head)?;
    let root: schema::connect_request::Reader<'_> = message.get_root()?;
    let kind = match root.get_type() {
        Ok(kind) => kind as u16,
        Err(capnp::NotInSchema(number)) => number,
    };
    Ok(Parts {
        kind,
        text: Span::within(head, root.get_dest()?.as_bytes()),
        pairs: pairs(head, root.get_metadata()?)?,
    })
}

/// Reads a response of any layout.
fn response_parts(head: &Bytes) -> Result<Parts, HeadError> {
    let message = open(head)?;
    let root: schema::connect_response::Reader<'_> = message.get_root()?;
    Ok(Parts {
        kind: 0,
        text: Span::within(head, root.get_error()?.as_bytes()),
        pairs: pairs(head, root.get_metadata()?)?,
    })
}

fn open(head: &Bytes) -> Result<Reader<NoAllocSliceSegments<'_>>, HeadError> {
    Ok(read_message_from_flat_slice_no_alloc(
        &mut &head[PREAMBLE_SIZE..],
        HEAD_READER_OPTIONS,
    )?)
}

fn pairs(
    head: &Bytes,
    list: struct_list::Reader<'_, schema::metadata::Owned>,
) -> Result<Vec<Pair>, HeadError> {
    let count = list.len() as usize;
    if count > METADATA_ENTRIES_MAX {
        return Err(HeadError::TooManyEntries { count });
    }
    list.iter()
        .map(|pair| {
            let key = Span::within(head, pair.get_key()?.as_bytes());
            let value = Span::within(head, pair.get_val()?.as_bytes());
            Ok(Pair { key, value })
        })
        .collect()
}

#[cfg(test)]
mod tests;
