//! The visitor's body on its way from the edge into an origin request.
//!
//! Bytes are handed on at once, as they arrive. The stream's flow control is the only buffer. Dropping the
//! body before its end tells the edge to stop, and a reset by the edge fails the origin request.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use adit_driver::chunks::Chunks;
use adit_driver::quic::RecvStream;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::edge_stream::http2::Http2Body;
use crate::edge_stream::{FromEdge, ReadError};

/// Body of an origin request.
pub(crate) enum RequestBody {
    /// The request has none.
    Empty,
    /// What the edge sends on a data stream.
    Quic(StreamBody<RecvStream>),
    /// What the edge sends over HTTP/2.
    Http2(StreamBody<Http2Body>),
    /// What the edge has sent; empty once it was handed on.
    Collected(Bytes),
}

/// Reads what follows the head.
pub(crate) struct StreamBody<R> {
    /// Arrived together with the head.
    first: Bytes,
    recv: R,
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

impl<R: FromEdge> StreamBody<R> {
    pub(crate) fn new(first: Bytes, recv: R, length: Option<u64>) -> (Self, Progress) {
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

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunks>, ReadError>>> {
        let chunks = ready!(self.poll_chunks(cx));
        Poll::Ready(match chunks {
            Ok(Some(chunks)) => {
                let chunks = self.count(chunks);
                if self.left == Some(0) {
                    self.progress.0.set(Phase::Done);
                }
                Some(Ok(Frame::data(chunks)))
            }
            Ok(None) => {
                self.progress.0.set(Phase::Done);
                None
            }
            Err(error) => {
                self.progress.0.set(Phase::Failed);
                Some(Err(error))
            }
        })
    }
}

impl Body for RequestBody {
    type Data = Chunks;
    type Error = ReadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunks>, ReadError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Quic(body) => body.poll_frame(cx),
            Self::Http2(body) => body.poll_frame(cx),
            Self::Collected(bytes) => {
                let rest = std::mem::take(bytes);
                Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Quic(body) => body.left == Some(0),
            Self::Http2(body) => body.left == Some(0),
            Self::Collected(rest) => rest.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let left = match self {
            Self::Empty => Some(0),
            Self::Quic(body) => body.left,
            Self::Http2(body) => body.left,
            Self::Collected(rest) => Some(rest.len() as u64),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
