//! The body of one request over HTTP/2.
//!
//! What is read is credited to the edge at once: whoever reads has handed on what came before.
//!
//! The library bounds how many small frames may lie unread on a connection, and closes the connection with
//! all its exchanges when there are more. An origin that does not read a visitor's small pieces must not cost
//! the others that. So whoever serves the connection [gathers](Bodies::gather) now and then what lies there
//! for busy readers. The bytes are credited only when their readers take them, so the stream's window bounds
//! them.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use adit_driver::chunks::Chunks;
use adit_driver::gathered::Gathered;
use bytes::Bytes;
use h2::RecvStream;

use crate::edge_stream::{FromEdge, ReadError};
use crate::origin::body::{RequestBody, StreamBody};

/// The body.
pub(crate) struct Http2Body(Rc<RefCell<Arriving>>);

/// The bodies of one connection.
#[derive(Clone, Default)]
pub(crate) struct Bodies(Rc<RefCell<Vec<Weak<RefCell<Arriving>>>>>);

struct Arriving {
    stream: RecvStream,
    gathered: Gathered,
    /// How the body ended, after what is gathered.
    end: Option<Result<(), h2::Error>>,
    /// The reader waits, and will be woken by the next frame.
    is_awaited: bool,
}

impl Bodies {
    /// A body of this connection.
    pub(crate) fn arriving(&self, stream: RecvStream) -> Http2Body {
        let is_empty = stream.is_end_stream();
        let body = Http2Body::new(stream);
        if !is_empty {
            self.0.borrow_mut().push(Rc::downgrade(&body.0));
        }
        body
    }

    /// Takes what has arrived for readers that are busy, and forgets bodies that are gone.
    pub(crate) fn gather(&self, cx: &mut Context<'_>) {
        self.0.borrow_mut().retain(|body| {
            let body = body.upgrade();
            if let Some(body) = &body {
                body.borrow_mut().gather(cx);
            }
            body.is_some()
        });
    }
}

impl Http2Body {
    /// A body that is always read.
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self(Rc::new(RefCell::new(Arriving {
            stream,
            gathered: Gathered::default(),
            end: None,
            is_awaited: false,
        })))
    }

    /// Whether the request came without any.
    pub(crate) fn is_end_stream(&self) -> bool {
        let arriving = self.0.borrow();
        arriving.gathered.is_empty() && arriving.stream.is_end_stream()
    }

    /// The next bytes, none of them empty; `None` at the end.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, h2::Error>> {
        let mut arriving = self.0.borrow_mut();
        let chunk = arriving.poll_next(cx);
        arriving.is_awaited = chunk.is_pending();
        let chunk = ready!(chunk)?;
        if let Some(chunk) = &chunk {
            arriving.stream.flow_control().release_capacity(chunk.len())?;
        }
        Poll::Ready(Ok(chunk))
    }
}

impl Arriving {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, h2::Error>> {
        if let Some(bytes) = self.gathered.pop() {
            return Poll::Ready(Ok(Some(bytes)));
        }
        if let Some(end) = self.end.take() {
            return Poll::Ready(end.map(|()| None));
        }
        loop {
            match ready!(self.stream.poll_data(cx)).transpose()? {
                Some(chunk) if chunk.is_empty() => {}
                chunk => return Poll::Ready(Ok(chunk)),
            }
        }
    }

    fn gather(&mut self, cx: &mut Context<'_>) {
        // The reader's waker must stay the one that is known.
        while !self.is_awaited && self.end.is_none() {
            match self.stream.poll_data(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(chunk))) => self.gathered.push(chunk),
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
                Poll::Ready(None) => self.end = Some(Ok(())),
            }
        }
    }
}

impl FromEdge for Http2Body {
    fn poll_read_chunks(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunks>, ReadError>> {
        let chunk = ready!(self.poll_chunk(cx))?;
        Poll::Ready(Ok(chunk.map(Chunks::from)))
    }

    async fn read_chunk(&mut self) -> Result<Option<Bytes>, ReadError> {
        Ok(poll_fn(|cx| self.poll_chunk(cx)).await?)
    }

    fn into_request(body: StreamBody<Self>) -> RequestBody {
        RequestBody::Http2(body)
    }
}
