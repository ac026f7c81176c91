//! What HTTP/1 reads of a visitor's stream: one request after the other, each head when it is whole.
//!
//! See [`heads`](crate::public::heads) for what passes.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PublicIo;

impl<S: AsyncRead + AsyncWrite + Unpin> PublicIo<S> {
    /// Reads what HTTP/1 may have now.
    pub(super) fn poll_http1(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let broken = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            if self.gate.hand_on(&mut self.ahead, buffer).map_err(broken)? {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            if !self.gate.is_between() {
                ready!(self.poll_stream(cx, buffer))?;
                let came = buffer.filled().get(before..).unwrap_or_default();
                let count = self.gate.body(came).map_err(broken)?;
                self.hold_behind(buffer, before + count);
                return Poll::Ready(Ok(()));
            }
            if self.activity.in_flight.get() > 0 {
                return self.poll_between(cx, buffer);
            }
            if !self.ahead.is_empty() {
                self.activity.on_bytes();
                self.gate.look(&mut self.ahead);
                if self.ahead.is_empty() {
                    self.activity.forget_head();
                }
            }
            if self.gate.fault().is_some() {
                // What was answered before goes out first.
                if self.activity.is_all_sent() {
                    return Poll::Ready(Ok(()));
                }
                self.activity.wait_for_answer(cx);
                return Poll::Pending;
            }
            if self.gate.is_between() && ready!(self.poll_head(cx, buffer))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads behind a request that is not answered yet: only to see whether the visitor leaves.
    fn poll_between(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(self.poll_stream(cx, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            self.hold_behind(buffer, before);
        }
        self.activity.wait_for_answer(cx);
        Poll::Pending
    }

    /// Reads more of a head; whether there is something for HTTP, or the end.
    fn poll_head(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        let joined = self.gate.joined(&self.ahead, buffer);
        buffer.put_slice(self.ahead.get(..joined).unwrap_or_default());
        let held = buffer.filled().len();
        let read = self.poll_stream(cx, buffer);
        let has_ended = buffer.filled().len() == held;
        if !matches!(read, Poll::Ready(Ok(()))) || has_ended {
            buffer.set_filled(before);
            return read.map_ok(|()| true);
        }
        if joined == self.ahead.len() {
            let all = buffer.filled().get(before..).unwrap_or_default();
            if let Some(size) = self.gate.look_in_place(all) {
                self.ahead = BytesMut::new();
                self.hold_behind(buffer, before + size);
                return Poll::Ready(Ok(true));
            }
        }
        let came = buffer.filled().get(held..).unwrap_or_default();
        self.ahead.extend_from_slice(came);
        buffer.set_filled(before);
        Poll::Ready(Ok(false))
    }

    /// Holds what is in the buffer behind its first `count` bytes.
    fn hold_behind(&mut self, buffer: &mut ReadBuf<'_>, count: usize) {
        let behind = buffer.filled().get(count..).unwrap_or_default();
        if !behind.is_empty() {
            self.ahead.extend_from_slice(behind);
            buffer.set_filled(count);
        }
    }
}
