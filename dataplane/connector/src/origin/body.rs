//! The visitor's body on its way from a data stream into an origin request.
//!
//! What has arrived is handed on at once, as it arrived; the stream's flow control is the only buffer. Dropping the body
//! before its end tells the edge to stop (STOP_SENDING 0), and a reset by the edge fails the origin request.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use adit_driver::chunks::Chunks;
use adit_driver::quic::{ReadError, RecvStream};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Body of an origin request.
pub(crate) enum RequestBody {
    /// The request has none.
    Empty,
    /// What the edge sends.
    Stream(StreamBody),
    /// What the edge has sent; empty once it was handed on.
    Collected(Bytes),
}

/// Reads a data stream after its head.
pub(crate) struct StreamBody {
    /// Arrived together with the head.
    first: Bytes,
    recv: RecvStream,
    /// Bytes still to come, if the visitor said how many.
    left: Option<u64>,
    progress: Progress,
}

/// Shared with the exchange, which may reuse the origin connection only after the body was read whole.
#[derive(Clone)]
pub(crate) struct Progress(Rc<Cell<Phase>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reading,
    Done,
    Failed,
}

impl Progress {
    /// A request without a body is whole at once.
    pub(crate) fn done() -> Self {
        Self::at(Phase::Done)
    }

    /// Whether the body was read to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.0.get() == Phase::Done
    }

    /// Whether the visitor's side gave the body up.
    pub(crate) fn is_failed(&self) -> bool {
        self.0.get() == Phase::Failed
    }

    fn at(phase: Phase) -> Self {
        Self(Rc::new(Cell::new(phase)))
    }
}

impl StreamBody {
    pub(crate) fn new(first: Bytes, recv: RecvStream, length: Option<u64>) -> (Self, Progress) {
        let progress = Progress::at(Phase::Reading);
        let body = Self {
            first,
            recv,
            left: length,
            progress: progress.clone(),
        };
        (body, progress)
    }

    fn poll_chunks(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunks>, ReadError>> {
        if self.left == Some(0) {
            return Poll::Ready(Ok(None));
        }
        if !self.first.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.first).into())));
        }
        self.recv.poll_read_chunks(cx)
    }

    /// Counts what was read and cuts what exceeds the announced length.
    fn count(&mut self, mut chunks: Chunks) -> Chunks {
        if let Some(left) = &mut self.left {
            chunks.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= chunks.len() as u64;
        }
        chunks
    }
}

impl Body for RequestBody {
    type Data = Chunks;
    type Error = ReadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunks>, ReadError>>> {
        let body = match self.get_mut() {
            Self::Empty => return Poll::Ready(None),
            Self::Stream(body) => body,
            Self::Collected(bytes) => {
                let rest = std::mem::take(bytes);
                let frame = (!rest.is_empty()).then(|| Ok(Frame::data(rest.into())));
                return Poll::Ready(frame);
            }
        };
        let chunks = ready!(body.poll_chunks(cx));
        Poll::Ready(match chunks {
            Ok(Some(chunks)) => {
                let chunks = body.count(chunks);
                if body.left == Some(0) {
                    body.progress.0.set(Phase::Done);
                }
                Some(Ok(Frame::data(chunks)))
            }
            Ok(None) => {
                body.progress.0.set(Phase::Done);
                None
            }
            Err(error) => {
                body.progress.0.set(Phase::Failed);
                Some(Err(error))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(body) => body.left == Some(0),
            Self::Collected(rest) => rest.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Collected(rest) => SizeHint::with_exact(rest.len() as u64),
            Self::Stream(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
