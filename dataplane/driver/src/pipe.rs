//! Moves the bytes of one direction of an exchange from one core to another, under credit.
//!
//! ```text
//!  PipeWriter ──► chunks (at most `credit` bytes) ──► PipeReader
//!     ▲  ends: finish, abort(code), drop = abort(0)       │
//!     └────────── credit as bytes are read; stop(code), drop = stop(0) ──┘
//! ```
//! Bytes are handed over as `Bytes`, never copied. The writer waits while the credit is used up, so a slow
//! reader slows the source down and nothing else grows. No locks: a bounded queue, a few atomics, and one
//! wakeup per sleep of either side.
//!
//! An abort overtakes bytes that are not yet read, as a stream reset does (RFC 9000 §3.2).
//!
//! Cost per chunk: two compare-and-swaps and two fences; a wakeup only if the other side sleeps, and of a
//! sleeping writer only when a quarter of the credit is free.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

use crate::chunks::Chunks;
use crate::doorbell::Doorbell;
use crate::patience::{Patience, Stalled};

/// Queue places per credit byte: a chunk is usually a QUIC packet's payload, a little over 1 KiB.
const BYTES_PER_PLACE: usize = 1024;
const PLACES_MIN: usize = 16;
const PLACES_MAX: usize = 256;

/// Makes a pipe that holds at most `credit_bytes` unread bytes (at least 1).
pub fn pipe(credit_bytes: usize) -> (PipeWriter, PipeReader) {
    let credit = credit_bytes.max(1);
    let places = (credit / BYTES_PER_PLACE).clamp(PLACES_MIN, PLACES_MAX);
    let shared = Arc::new(Shared {
        chunks: ArrayQueue::new(places),
        credit,
        unread: AtomicUsize::new(0),
        end: AtomicU64::new(End::Open.encode()),
        stop: AtomicU64::new(End::Open.encode()),
        reader_bell: Doorbell::default(),
        writer_bell: Doorbell::default(),
    });
    (
        PipeWriter {
            shared: Arc::clone(&shared),
            is_ended: false,
        },
        PipeReader {
            shared,
            is_ended: false,
        },
    )
}

struct Shared {
    chunks: ArrayQueue<Bytes>,
    credit: usize,
    /// Bytes in `chunks`; raised by the writer before it pushes, lowered by the reader after it pops.
    unread: AtomicUsize,
    /// How the writer ended, an [`End`]; set once.
    end: AtomicU64,
    /// Whether the reader stopped, as [`End::Aborted`]; set once.
    stop: AtomicU64,
    reader_bell: Doorbell,
    writer_bell: Doorbell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Finished,
    Aborted(u32),
}

impl End {
    const FINISHED: u64 = 1 << 32;
    const ABORTED: u64 = 1 << 33;

    fn encode(self) -> u64 {
        match self {
            Self::Open => 0,
            Self::Finished => Self::FINISHED,
            Self::Aborted(code) => Self::ABORTED | u64::from(code),
        }
    }

    fn decode(word: u64) -> Self {
        if word & Self::ABORTED != 0 {
            Self::Aborted(word as u32)
        } else if word & Self::FINISHED != 0 {
            Self::Finished
        } else {
            Self::Open
        }
    }
}

impl Shared {
    /// The free credit that wakes a sleeping writer, and that lets it send a part of a larger chunk.
    /// Keeps a writer from cutting chunks into crumbs and from being woken for each of them.
    fn quarter(&self) -> usize {
        (self.credit / 4).max(1)
    }

    fn end(&self) -> End {
        End::decode(self.end.load(Ordering::Acquire))
    }

    fn stopped(&self) -> Option<u32> {
        match End::decode(self.stop.load(Ordering::Acquire)) {
            End::Aborted(code) => Some(code),
            End::Open | End::Finished => None,
        }
    }

    /// Room for a sleeping writer. Always reached when everything is read, so no writer sleeps for ever.
    fn is_worth_waking_for(&self, unread: usize) -> bool {
        let free_places = self.chunks.capacity() - self.chunks.len().min(self.chunks.capacity());
        self.credit - unread.min(self.credit) >= self.quarter() && free_places >= self.chunks.capacity() / 4
    }
}

/// The reader asked to stop, or is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader stopped the pipe with code {code}")]
pub struct PipeClosed {
    /// The reader's code; 0 if it was dropped.
    pub code: u32,
}

/// The writer gave up before the end of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the writer aborted the pipe with code {code}")]
pub struct PipeAborted {
    /// The writer's code; 0 if it was dropped without finishing.
    pub code: u32,
}

/// The end that bytes go in. Dropping it before [`finish`](Self::finish) aborts with code 0.
pub struct PipeWriter {
    shared: Arc<Shared>,
    is_ended: bool,
}

impl PipeWriter {
    /// Hands `bytes` over, in parts if they exceed the credit, waiting for credit as needed.
    ///
    /// Dropping the future loses what is not yet handed over. After `finish` or `abort` nothing is written.
    ///
    /// # Errors
    /// [`PipeClosed`] if the reader has stopped or is gone before all is handed over.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), PipeClosed> {
        debug_assert!(!self.is_ended, "nothing is written after the end");
        while !bytes.is_empty() {
            poll_fn(|cx| self.poll_push(cx, &mut bytes)).await?;
        }
        Ok(())
    }

    /// The same, but gives up when nothing was handed over for as long as `patience` lasts.
    ///
    /// # Errors
    /// As [`write`](Self::write); the inner one for a reader that takes nothing.
    pub async fn write_within(
        &mut self,
        mut bytes: Bytes,
        patience: &mut Patience,
    ) -> Result<Result<(), Stalled>, PipeClosed> {
        while !bytes.is_empty() {
            let pushed = poll_fn(|cx| match self.poll_push(cx, &mut bytes) {
                Poll::Ready(pushed) => Poll::Ready(Ok(pushed)),
                Poll::Pending => patience.poll_end(cx).map(Err),
            });
            match pushed.await {
                Ok(pushed) => pushed?,
                Err(stalled) => return Ok(Err(stalled)),
            }
            patience.renew();
        }
        Ok(Ok(()))
    }

    /// Marks the end of the bytes; the reader still gets all of them.
    pub fn finish(&mut self) {
        self.end(End::Finished);
    }

    /// Ends the pipe with an error; bytes not yet read are dropped.
    pub fn abort(&mut self, code: u32) {
        self.end(End::Aborted(code));
    }

    /// Waits until the reader stops or is gone, and returns its code. Cancel-safe.
    pub async fn closed(&mut self) -> u32 {
        poll_fn(|cx| {
            if let Some(code) = self.shared.stopped() {
                return Poll::Ready(code);
            }
            self.shared.writer_bell.arm(cx);
            match self.shared.stopped() {
                Some(code) => Poll::Ready(code),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn poll_push(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<Result<(), PipeClosed>> {
        if let ready @ Poll::Ready(_) = self.try_push(bytes) {
            return ready;
        }
        self.shared.writer_bell.arm(cx);
        let second = self.try_push(bytes);
        if second.is_ready() {
            self.shared.writer_bell.disarm();
        }
        second
    }

    fn try_push(&mut self, bytes: &mut Bytes) -> Poll<Result<(), PipeClosed>> {
        let shared = &*self.shared;
        if let Some(code) = shared.stopped() {
            return Poll::Ready(Err(PipeClosed { code }));
        }
        if self.is_ended {
            return Poll::Ready(Err(PipeClosed { code: 0 }));
        }
        // Only this side raises the count and only the other lowers it, so `free` is at least what it says.
        let free = shared.credit - shared.unread.load(Ordering::Acquire);
        if free < bytes.len().min(shared.quarter()) || shared.chunks.is_full() {
            return Poll::Pending;
        }
        let part = bytes.split_to(free.min(bytes.len()));
        shared.unread.fetch_add(part.len(), Ordering::AcqRel);
        let pushed = shared.chunks.push(part);
        assert!(pushed.is_ok(), "only the writer fills places, and one was free");
        shared.reader_bell.ring();
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, end: End) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        // Release: whoever sees the end also sees every chunk pushed before it.
        self.shared.end.store(end.encode(), Ordering::Release);
        self.shared.reader_bell.ring();
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.abort(0);
    }
}

/// The end that bytes come out of. Dropping it stops the pipe with code 0.
pub struct PipeReader {
    shared: Arc<Shared>,
    is_ended: bool,
}

impl PipeReader {
    /// The next bytes; `None` after the writer's [`finish`](PipeWriter::finish). Cancel-safe.
    ///
    /// # Errors
    /// [`PipeAborted`] as soon as the writer aborts or is dropped unfinished, also if bytes were left.
    pub async fn read(&mut self) -> Result<Option<Bytes>, PipeAborted> {
        poll_fn(|cx| {
            if let ready @ Poll::Ready(_) = self.try_pop() {
                return ready;
            }
            self.shared.reader_bell.arm(cx);
            let second = self.try_pop();
            if second.is_ready() {
                self.shared.reader_bell.disarm();
            }
            second
        })
        .await
    }

    /// Like [`read`](Self::read), but takes all that is there, up to what one write takes. Cancel-safe.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_chunks(&mut self) -> Result<Option<Chunks>, PipeAborted> {
        let Some(first) = self.read().await? else {
            return Ok(None);
        };
        let mut chunks = Chunks::from(first);
        // An end or an abort is found again by the next read.
        while !chunks.is_full()
            && let Poll::Ready(Ok(Some(chunk))) = self.try_pop()
        {
            chunks.push(chunk);
        }
        Ok(Some(chunks))
    }

    /// Tells the writer to stop, and drops what is unread. Later reads find the end.
    pub fn stop(&mut self, code: u32) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        self.shared
            .stop
            .store(End::Aborted(code).encode(), Ordering::Release);
        // Bounded: a push that races with the stop can add at most what the queue holds.
        for _ in 0..self.shared.chunks.capacity() {
            if self.shared.chunks.pop().is_none() {
                break;
            }
        }
        self.shared.writer_bell.ring();
    }

    fn try_pop(&mut self) -> Poll<Result<Option<Bytes>, PipeAborted>> {
        if self.is_ended {
            return Poll::Ready(Ok(None));
        }
        let shared = &*self.shared;
        // Read before the queue: once it says finished, an empty queue stays empty.
        let end = shared.end();
        if let End::Aborted(code) = end {
            return Poll::Ready(Err(PipeAborted { code }));
        }
        match shared.chunks.pop() {
            Some(chunk) => {
                let unread = shared.unread.fetch_sub(chunk.len(), Ordering::AcqRel) - chunk.len();
                if shared.is_worth_waking_for(unread) {
                    shared.writer_bell.ring();
                }
                Poll::Ready(Ok(Some(chunk)))
            }
            None if end == End::Finished => Poll::Ready(Ok(None)),
            None => Poll::Pending,
        }
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.stop(0);
    }
}

impl fmt::Debug for PipeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt_as("PipeWriter", f)
    }
}

impl fmt::Debug for PipeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt_as("PipeReader", f)
    }
}

impl Shared {
    fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unread = self.unread.load(Ordering::Relaxed);
        f.debug_struct(name)
            .field("unread", &unread)
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
