//! Bounds what an origin may send before its answer. Interim answers (1xx) have no end of their own
//! (RFC 9110 §15.2), so an origin could go on with them for as long as the answer may take.
//!
//! ```text
//! request sent ─► limit() ─► 1xx, 1xx, …, head ─► lift() ─► body, without a limit
//!                              └ more than HEADS_BYTES_MAX: the connection breaks with `TooMuch`
//! ```

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of interim answers and of the head of the answer, and what of the body comes along with them.
const HEADS_BYTES_MAX: u64 = 1 << 20;

/// An origin has sent more than [`HEADS_BYTES_MAX`], and no answer yet.
#[derive(Debug, thiserror::Error)]
#[error("the origin has sent {HEADS_BYTES_MAX} bytes of interim answers and no answer")]
pub(crate) struct TooMuch;

impl TooMuch {
    /// Whether it is what `error` comes from.
    pub(crate) fn is_cause_of(error: &hyper::Error) -> bool {
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return error.get_ref().is_some_and(|error| error.is::<Self>());
            }
            cause = error.source();
        }
        false
    }
}

/// How much more may be read of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Allowance(Rc<Cell<u64>>);

impl Allowance {
    /// An answer is waited for.
    pub(crate) fn limit(&self) {
        self.0.set(HEADS_BYTES_MAX);
    }

    /// The head of an answer is there.
    pub(crate) fn lift(&self) {
        self.0.set(u64::MAX);
    }
}

/// The stream to an origin.
pub(crate) struct HeadLimited<S> {
    stream: S,
    allowance: Allowance,
}

impl<S> HeadLimited<S> {
    /// Without a limit until one is set.
    pub(crate) fn new(stream: S) -> (Self, Allowance) {
        let allowance = Allowance(Rc::new(Cell::new(u64::MAX)));
        let limited = Self {
            stream,
            allowance: allowance.clone(),
        };
        (limited, allowance)
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadLimited<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let allowed = &this.allowance.0;
        if allowed.get() == 0 {
            return Poll::Ready(Err(io::Error::other(TooMuch)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        if allowed.get() != u64::MAX {
            allowed.set(allowed.get().saturating_sub(read as u64));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadLimited<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn an_answer_is_read_on_and_interim_ones_without_an_end_are_not() {
        let (mut stream, allowance) = HeadLimited::new(tokio::io::repeat(b'1'));
        let mut chunk = vec![0; 64 << 10];
        allowance.limit();
        let mut read = 0;
        let error = loop {
            match stream.read(&mut chunk).await {
                Ok(count) => read += count as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(read, HEADS_BYTES_MAX);
        assert!(error.get_ref().is_some_and(|error| error.is::<TooMuch>()));
        allowance.lift();
        stream.read_exact(&mut chunk).await.unwrap();
        allowance.limit();
        stream.read_exact(&mut chunk).await.unwrap();
    }
}
