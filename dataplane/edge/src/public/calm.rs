//! Ends an HTTP/2 connection whose visitor floods it with frames.
//!
//! ```text
//! watching ─flood─► GOAWAY(ENHANCE_YOUR_CALM) ─► hushed: what comes is thrown away, what goes is not sent
//! ```
//! The bytes of both directions pass through here in clear, below hyper, which has no hook for it. GOAWAY is
//! written between two of hyper's writes, which end with a frame unless the visitor does not read. GOAWAY
//! would not reach such a visitor either, so it is left out. To read and drop what still comes keeps the
//! kernel from resetting the connection before GOAWAY is read. The caller bounds the time of it.
//!
//! Counts as well what hyper breaks off by itself, which it tells nobody else.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use adit_driver::time::now;
use adit_proto::frame_watch::{Flood, FrameWatch};
use adit_proto::sent_frames::{Broken, Code, SentFrames};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::metrics::CoreMetrics;

/// Bytes thrown away in one turn of the core.
const HUSHED_BYTES_PER_TURN: usize = 64 << 10;

/// Tells whoever serves the connection.
pub(super) type Flooded = Rc<Cell<Option<Flood>>>;

/// With which error code the visitor was told that the connection ends.
pub(super) type Ended = Rc<Cell<Option<Code>>>;

/// The watch over one visitor's connection.
#[derive(Debug)]
pub(super) struct Calm {
    frames: FrameWatch,
    sent: SentFrames,
    metrics: Arc<CoreMetrics>,
    ended: Ended,
    flooded: Flooded,
    /// hyper's last write was taken whole.
    is_between_frames: bool,
}

impl Calm {
    pub(super) fn new(metrics: Arc<CoreMetrics>) -> Self {
        Self {
            frames: FrameWatch::new(now()),
            sent: SentFrames::default(),
            metrics,
            ended: Ended::default(),
            flooded: Flooded::default(),
            is_between_frames: true,
        }
    }

    pub(super) fn flooded(&self) -> Flooded {
        self.flooded.clone()
    }

    pub(super) fn ended(&self) -> Ended {
        self.ended.clone()
    }

    pub(super) fn is_hushed(&self) -> bool {
        self.flooded.get().is_some()
    }

    /// Notes that the stream took `taken` bytes of these.
    pub(super) fn on_sent<'a>(&mut self, offered: impl Iterator<Item = &'a [u8]>, taken: usize) {
        self.frames.handle_sent(taken);
        self.is_between_frames = true;
        let mut left = taken;
        for slice in offered {
            let count = left.min(slice.len());
            self.is_between_frames &= count == slice.len();
            left -= count;
            let sent = slice.get(..count).unwrap_or_default();
            self.sent
                .handle_bytes(sent, |broken| count_broken(&self.metrics, &self.ended, broken));
        }
    }

    /// Looks at what was read; true when it is the beginning of the end.
    pub(super) fn on_read<S>(&mut self, cx: &mut Context<'_>, stream: &mut S, read: &[u8]) -> bool
    where
        S: AsyncWrite + Unpin,
    {
        let Err(flood) = self.frames.handle_bytes(now(), read) else {
            return false;
        };
        self.flooded.set(Some(flood));
        if self.is_between_frames {
            let goaway = goaway(self.frames.last_stream());
            self.sent
                .handle_bytes(&goaway, |broken| count_broken(&self.metrics, &self.ended, broken));
            // A socket that takes nothing has a visitor that reads nothing.
            if let Poll::Ready(Ok(_)) = Pin::new(&mut *stream).poll_write(cx, &goaway) {
                let _ = Pin::new(stream).poll_flush(cx);
            }
        }
        true
    }
}

fn count_broken(metrics: &CoreMetrics, ended: &Ended, broken: Broken) {
    let (counters, code) = match broken {
        Broken::Stream { stream, code } => {
            tracing::debug!(stream, code = code.as_str(), "visitor's stream reset");
            (&metrics.http2_resets_sent, code)
        }
        Broken::Connection { code } => {
            tracing::debug!(code = code.as_str(), "visitor's HTTP/2 connection told to end");
            ended.set(Some(code));
            (&metrics.http2_goaways_sent, code)
        }
    };
    if let Some(counter) = counters.get(code.index()) {
        counter.add(1);
    }
}

/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 §6.8, §7).
fn goaway(last_stream: u32) -> [u8; 17] {
    const ENHANCE_YOUR_CALM: u32 = 0xb;
    let mut frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    frame[9..13].copy_from_slice(&last_stream.to_be_bytes());
    frame[13..].copy_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
    frame
}

/// Throws away what comes; ready at the end of the stream.
pub(super) fn poll_hushed<S: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    stream: &mut S,
) -> Poll<io::Result<()>> {
    let mut memory = [0; 4_096];
    for _ in 0..HUSHED_BYTES_PER_TURN / memory.len() {
        let mut scratch = ReadBuf::new(&mut memory);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut scratch))?;
        if scratch.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}
