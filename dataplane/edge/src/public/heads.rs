//! Hands a visitor's HTTP/1 bytes to HTTP one request head at a time, each whole and looked at first.
//!
//! ```text
//! between two requests: bytes ─► held until the one before is answered
//! head:                 bytes ─► held until whole ─► handed on │ refused: HTTP sees the end of the stream
//! body:                 bytes ─► handed on, up to where it ends; what is behind that is held
//! upgraded:             bytes ─► handed on
//! ```
//! hyper answers a bad head with a bare status and reports it nowhere. So a refused head never gets there.
//! For hyper the connection ends as if the visitor had ended it, and [`http1`](super::http1) answers and
//! counts.
//!
//! A head that comes in one read is looked at where it lies and costs no copy. At most a head, or one read
//! beyond a request, is held.

use adit_proto::request_head::{self, ChunkedBody, Fault, Framing, Head, NotChunked};
use bytes::{Buf as _, BytesMut};
use tokio::io::ReadBuf;

/// Most bytes of a head that are copied in front of the rest in hyper's buffer. What was read to tell HTTP/1
/// from HTTP/2, or to wake a dozing connection, is less.
const JOINED_BYTES_MAX: usize = 1 << 10;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Head,
    /// The body of a length, of which so much is left.
    Length(u64),
    Chunked(ChunkedBody),
}

/// What of a visitor's bytes may pass.
#[derive(Debug)]
pub(super) struct Heads {
    next: Next,
    /// Bytes of what is held that are a head that may pass.
    passed: usize,
    /// Bytes of what is held that are known to be no whole head.
    seen: usize,
    fault: Option<Fault>,
}

impl Heads {
    pub(super) fn new() -> Self {
        Self {
            next: Next::Head,
            passed: 0,
            seen: 0,
            fault: None,
        }
    }

    /// Why there will be no more requests.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// A head comes next, of which HTTP has nothing yet.
    pub(super) fn is_between(&self) -> bool {
        self.next == Next::Head && self.passed == 0
    }

    /// Hands on what it may of what is held; whether it did.
    pub(super) fn hand_on(
        &mut self,
        held: &mut BytesMut,
        buffer: &mut ReadBuf<'_>,
    ) -> Result<bool, NotChunked> {
        if self.is_between() || held.is_empty() {
            return Ok(false);
        }
        let room = held.len().min(buffer.remaining());
        let mut count = room;
        if self.passed > 0 {
            count = room.min(self.passed);
            self.passed -= count;
        } else {
            count = self.body(held.get(..room).unwrap_or_default())?.min(count);
        }
        buffer.put_slice(held.get(..count).unwrap_or_default());
        held.advance(count);
        if held.is_empty() {
            // An idle connection holds no memory for it.
            *held = BytesMut::new();
        }
        Ok(true)
    }

    /// Takes bytes of the body; how many of them are.
    pub(super) fn body(&mut self, bytes: &[u8]) -> Result<usize, NotChunked> {
        let count = match &mut self.next {
            Next::Head => 0,
            Next::Length(left) => {
                let count = (*left).min(bytes.len() as u64);
                *left -= count;
                if *left == 0 {
                    self.next = Next::Head;
                }
                usize::try_from(count).unwrap_or(bytes.len())
            }
            Next::Chunked(body) => match body.handle_bytes(bytes)? {
                Some(count) => {
                    self.next = Next::Head;
                    count
                }
                None => bytes.len(),
            },
        };
        Ok(count)
    }

    /// Looks for a head in what is held. Empty lines before it are dropped.
    pub(super) fn look(&mut self, held: &mut BytesMut) {
        let empty = request_head::empty_lines(held);
        held.advance(empty);
        self.seen = self.seen.saturating_sub(empty);
        if self.fault.is_some() || held.len() == self.seen {
            return;
        }
        match self.find(held) {
            Ok(None) => self.seen = held.len(),
            Ok(Some(head)) => self.pass(&head, held),
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// Looks for a head in what has just been read behind what is held; `all` is both. Returns the bytes of
    /// the head if it is complete and passes as it is.
    pub(super) fn look_in_place(&mut self, all: &[u8]) -> Option<usize> {
        let head = self.find(all).ok().flatten()?;
        if head.raw_target.is_some() {
            return None;
        }
        self.begin_body(&head);
        Some(head.size)
    }

    /// How much of what is held is to stand before what is read next.
    pub(super) fn joined(&self, held: &BytesMut, buffer: &ReadBuf<'_>) -> usize {
        let is_short = held.len() <= JOINED_BYTES_MAX && held.len() < buffer.remaining() / 2;
        if is_short { held.len() } else { 0 }
    }

    fn find(&self, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        // Bytes that trickle in are not read anew each time.
        let is_worth = self.seen == 0 || request_head::may_be_whole(bytes, self.seen);
        if is_worth || bytes.len() >= adit_proto::limits::HEAD_BYTES_MAX {
            request_head::read(bytes)
        } else {
            Ok(None)
        }
    }

    fn pass(&mut self, head: &Head, held: &mut BytesMut) {
        self.passed = head.size;
        if let Some(target) = &head.raw_target {
            let encoded = request_head::encoded(held.get(target.clone()).unwrap_or_default());
            self.passed += encoded.len() - target.len();
            if self.passed > adit_proto::limits::HEAD_BYTES_MAX {
                self.passed = 0;
                self.fault = Some(Fault::TooLarge);
                return;
            }
            let before = held.get(..target.start).unwrap_or_default();
            let after = held.get(target.end..).unwrap_or_default();
            *held = BytesMut::from([before, &encoded, after].concat().as_slice());
        }
        self.begin_body(head);
    }

    fn begin_body(&mut self, head: &Head) {
        self.seen = 0;
        self.next = match head.framing {
            Framing::Length(0) => Next::Head,
            Framing::Length(length) => Next::Length(length),
            Framing::Chunked => Next::Chunked(ChunkedBody::default()),
        };
    }
}
