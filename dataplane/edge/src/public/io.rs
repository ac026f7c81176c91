//! A visitor's byte stream as HTTP sees it: with bytes read ahead put back, and a watch on its silence.

mod requests;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adit_driver::patience::Patience;
use adit_proto::request_head::Fault;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::{Activity, Heads};
use super::calm::{Calm, Ended, Flooded, poll_hushed};
use super::heads::Heads as HeadGate;
use crate::metrics::CoreMetrics;

/// Bytes taken from a dozing visitor's stream to wake it.
const WAKING_BYTES: usize = 64;

/// The stream, with what was read ahead.
pub(super) struct PublicIo<S> {
    stream: S,
    ahead: BytesMut,
    /// For HTTP/1.
    gate: HeadGate,
    activity: Rc<Activity>,
    patience: Patience,
    /// For HTTP/2.
    calm: Option<Box<Calm>>,
}

impl<S> PublicIo<S> {
    /// For HTTP/1. A visitor must take something of what it is sent within `send_timeout`.
    pub(super) fn http1(stream: S, ahead: BytesMut, send_timeout: Duration) -> Self {
        Self::new(stream, ahead, Heads::All, send_timeout)
    }

    /// The same for HTTP/2, whose breaks are counted in `metrics`.
    pub(super) fn http2(
        stream: S,
        ahead: BytesMut,
        send_timeout: Duration,
        metrics: Arc<CoreMetrics>,
    ) -> Self {
        let mut io = Self::new(stream, ahead, Heads::First, send_timeout);
        io.calm = Some(Box::new(Calm::new(metrics)));
        io
    }

    fn new(stream: S, ahead: BytesMut, heads: Heads, send_timeout: Duration) -> Self {
        Self {
            stream,
            ahead,
            gate: HeadGate::new(),
            activity: Rc::new(Activity::new(heads)),
            patience: Patience::new(send_timeout),
            calm: None,
        }
    }

    /// Waits for what was `taken`, but not for ever.
    fn poll_taken<T>(&mut self, cx: &mut Context<'_>, taken: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if taken.is_ready() {
            self.patience.renew();
            return taken;
        }
        let stalled = ready!(self.patience.poll_end(cx));
        self.activity.is_stalled.set(true);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, stalled)))
    }

    pub(super) fn activity(&self) -> Rc<Activity> {
        self.activity.clone()
    }

    /// A flood has ended the connection: nothing more is sent.
    fn is_hushed(&self) -> bool {
        self.calm.as_ref().is_some_and(|calm| calm.is_hushed())
    }

    fn note_sent<'a>(&mut self, offered: impl Iterator<Item = &'a [u8]>, taken: &Poll<io::Result<usize>>) {
        if let (Some(calm), Poll::Ready(Ok(count))) = (&mut self.calm, taken) {
            calm.on_sent(offered, *count);
        }
    }

    /// Tells with what error an HTTP/2 connection was ended.
    pub(super) fn ended(&self) -> Ended {
        self.calm
            .as_ref()
            .map_or_else(Ended::default, |calm| calm.ended())
    }

    /// Tells of a flood of frames.
    pub(super) fn flooded(&self) -> Flooded {
        self.calm
            .as_ref()
            .map_or_else(Flooded::default, |calm| calm.flooded())
    }

    /// Takes back what HTTP has read and not used.
    pub(super) fn put_back(&mut self, unused: Bytes) {
        if !unused.is_empty() {
            let mut all = BytesMut::from(unused);
            all.extend_from_slice(&self.ahead);
            self.ahead = all;
        }
    }

    /// Why a head was refused, and what there is of it.
    pub(super) fn refused(&self) -> Option<(Fault, &[u8])> {
        Some((self.gate.fault()?, &self.ahead))
    }

    /// A head that is not whole, if nothing that was sent before stands in the way of an answer.
    pub(super) fn unfinished_head(&self) -> Option<&[u8]> {
        let is_clear = self.gate.is_between() && self.activity.is_all_sent();
        (is_clear && !self.ahead.is_empty()).then_some(&self.ahead)
    }
}

impl<S: AsyncRead + Unpin> PublicIo<S> {
    /// Waits until there is something to read; false at the end of the stream.
    ///
    /// # Errors
    /// What the stream says.
    pub(super) async fn readable(&mut self) -> io::Result<bool> {
        poll_fn(|cx| {
            if !self.ahead.is_empty() {
                return Poll::Ready(Ok(true));
            }
            let mut memory = [0; WAKING_BYTES];
            let mut first = ReadBuf::new(&mut memory);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut first))?;
            if !first.filled().is_empty() {
                self.activity.on_bytes();
                self.ahead = BytesMut::from(first.filled());
            }
            Poll::Ready(Ok(!self.ahead.is_empty()))
        })
        .await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> PublicIo<S> {
    /// Reads what the visitor sends, as it is.
    fn poll_stream(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.activity.half_close.silent_since.get().is_some() {
            // The stream has ended, and need not say so again.
            return match self.activity.holds_end_back(cx) {
                true => Poll::Pending,
                false => Poll::Ready(Ok(())),
            };
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            self.activity.on_bytes();
            if let Some(calm) = &mut self.calm
                && calm.on_read(cx, &mut self.stream, came)
            {
                buffer.set_filled(before);
                return poll_hushed(cx, &mut self.stream);
            }
        } else if matches!(read, Poll::Ready(Ok(()))) && self.activity.holds_end_back(cx) {
            return Poll::Pending;
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PublicIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.activity.heads == Heads::All && !this.activity.is_past_http.get() {
            return this.poll_http1(cx, buffer);
        }
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buffer.remaining());
            let bytes = this.ahead.get(..count).unwrap_or_default();
            if let Some(calm) = &mut this.calm {
                // No more than the preface and what came with it: not yet a flood.
                calm.on_read(cx, &mut this.stream, bytes);
            }
            buffer.put_slice(bytes);
            this.ahead.advance(count);
            this.activity.on_bytes();
            return Poll::Ready(Ok(()));
        }
        if this.is_hushed() {
            return poll_hushed(cx, &mut this.stream);
        }
        this.poll_stream(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> PublicIo<S> {
    /// Writes an interim answer.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let taken = self.activity.interim.poll_write(cx, &mut self.stream);
        if taken.is_ready() {
            self.activity.on_sent();
        }
        self.poll_taken(cx, taken)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PublicIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.is_flushed.set(false);
        if this.is_hushed() {
            return Poll::Ready(Ok(bytes.len()));
        }
        if this.activity.interim.is_begun() {
            ready!(this.poll_interim(cx))?;
        }
        let taken = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if taken.is_ready() {
            this.activity.on_sent();
        }
        this.note_sent(std::iter::once(bytes), &taken);
        this.poll_taken(cx, taken)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.is_flushed.set(false);
        if this.is_hushed() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        if this.activity.interim.is_begun() {
            ready!(this.poll_interim(cx))?;
        }
        let taken = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        if taken.is_ready() {
            this.activity.on_sent();
        }
        this.note_sent(slices.iter().map(|slice| &**slice), &taken);
        this.poll_taken(cx, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.activity.interim.is_waiting() {
            this.activity.is_flushed.set(false);
            ready!(this.poll_interim(cx))?;
        }
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.activity
            .is_flushed
            .set(matches!(flushed, Poll::Ready(Ok(()))));
        if flushed.is_ready() {
            this.activity.tell_reader();
        }
        this.poll_taken(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let taken = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.poll_taken(cx, taken)
    }
}
