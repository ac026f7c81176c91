//! Carries a response body out of the tunnel, no faster than the visitor takes it.
//!
//! All that has arrived goes on at once, as the chunks of the QUIC packets. HTTP/1 writes them in one call,
//! HTTP/2 fills its frames with them, TLS its records. None of them needs them copied together before.

use std::rc::Rc;
use std::time::Duration;

use adit_driver::chunks::Chunks;
use adit_driver::time::timeout;
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::framed_body::{FramedBody, FramedBodyError};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::HeaderMap;
use tokio::task::spawn_local;

use super::body::Handoff;
use super::record::Record;
use super::upload::Upload;
use crate::open::stream::{InFlight, RecvHalf};
use crate::shares::Account;

/// Time for the end of a stream whose response is complete. Stopping it at once would look to the connector
/// like a visitor that left.
const FINISH_TIME: Duration = Duration::from_secs(1);

/// A response broke off after its head; the visitor's connection or stream is aborted for all to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the tunnel broke the response off")]
    Aborted,
    #[error("the response is shorter than announced")]
    Short,
}

/// A response body on its way.
pub(super) struct Download {
    pub(super) recv: RecvHalf,
    /// Came with the head.
    pub(super) first: Bytes,
    /// Bytes still to come, if their number was announced.
    pub(super) left: Option<u64>,
    /// Reads a body that comes in frames.
    pub(super) frames: Option<FramedBody>,
    /// The visitor's protocol has a place for what comes after a body of announced length.
    pub(super) has_place_for_trailers: bool,
    pub(super) record: Record,
    pub(super) account: Rc<Account>,
    /// Goes on beside the response and ends with it.
    pub(super) upload: Option<Upload>,
    pub(super) guard: InFlight,
}

impl Download {
    /// Whether the end of the announced bytes is not the end: trailers may follow.
    pub(super) fn goes_beyond_length(&self) -> bool {
        self.frames.is_some() && self.has_place_for_trailers
    }

    /// Gives all that arrives to `handoff`; returns what comes after it.
    pub(super) async fn run(mut self, handoff: Rc<Handoff>) -> Result<Option<HeaderMap>, BodyError> {
        if let Some(frames) = self.frames.take() {
            // Boxed, so that the others do not hold room for it.
            return Box::pin(self.run_framed(frames, &handoff)).await;
        }
        loop {
            let received = if self.first.is_empty() {
                self.recv.read_chunks().await
            } else {
                Ok(Some(std::mem::take(&mut self.first).into()))
            };
            let mut chunks = match received {
                Ok(Some(chunks)) => chunks,
                Ok(None) if self.left.is_none() => {
                    // A connector that has answered in full reads no more of the request.
                    drop(self.upload.take());
                    self.record.complete();
                    return Ok(None);
                }
                Ok(None) => return Err(self.broken(BodyError::Short)),
                Err(_) => return Err(self.broken(BodyError::Aborted)),
            };
            if let Some(left) = &mut self.left {
                // More than announced is not the visitor's: it would be read as the next response.
                chunks.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= chunks.len() as u64;
            }
            self.record.progress().sent(chunks.len());
            if self.left == Some(0) {
                // The visitor's side may not ask for more once the announced bytes are there.
                self.record.complete();
                finish_quietly(self.recv, self.guard);
                handoff.put(chunks).await;
                return Ok(None);
            }
            handoff.put(chunks).await;
        }
    }

    /// The same of a body in frames, up to the trailers behind it.
    async fn run_framed(
        mut self,
        mut frames: FramedBody,
        handoff: &Handoff,
    ) -> Result<Option<HeaderMap>, BodyError> {
        let mut received = Chunks::from(std::mem::take(&mut self.first));
        let mut data = Chunks::default();
        loop {
            while let Some(mut piece) = received.pop() {
                loop {
                    match frames.handle_bytes(&mut piece) {
                        Ok(Some(part)) => data.push(part),
                        Ok(None) => break,
                        Err(error) => return Err(self.malformed(&error)),
                    }
                    // One byte per frame would make any read of the tunnel many pieces.
                    if data.is_full() {
                        if self.ends_with(&data) {
                            return Ok(self.end(data, handoff).await);
                        }
                        self.pass(&mut data, handoff).await;
                    }
                }
            }
            if self.ends_with(&data) {
                return Ok(self.end(data, handoff).await);
            }
            self.pass(&mut data, handoff).await;
            received = match self.recv.read_chunks().await {
                Ok(Some(chunks)) => chunks,
                Ok(None) if self.left.is_some_and(|left| left > 0) => {
                    return Err(self.broken(BodyError::Short));
                }
                Ok(None) => break,
                Err(_) => return Err(self.broken(BodyError::Aborted)),
            };
        }
        let trailers = frames.finish().map_err(|error| self.malformed(&error))?;
        // As after a plain body.
        drop(self.upload.take());
        self.record.complete();
        Ok(trailers)
    }

    /// Whether these are the last announced bytes, for a visitor who does not ask for more.
    fn ends_with(&self, data: &Chunks) -> bool {
        let is_last = |left: u64| left <= data.len() as u64;
        !self.has_place_for_trailers && self.left.is_some_and(is_last)
    }

    /// Passes them on. What may follow them has no place.
    async fn end(mut self, mut data: Chunks, handoff: &Handoff) -> Option<HeaderMap> {
        let left = self.left.unwrap_or_default();
        data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.record.progress().sent(data.len());
        self.record.complete();
        finish_quietly(self.recv, self.guard);
        handoff.put(data).await;
        None
    }

    async fn pass(&mut self, data: &mut Chunks, handoff: &Handoff) {
        if let Some(left) = &mut self.left {
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
        }
        if !data.is_empty() {
            self.record.progress().sent(data.len());
            handoff.put(std::mem::take(data)).await;
        }
    }

    fn malformed(&mut self, error: &FramedBodyError) -> BodyError {
        tracing::debug!(request_id = %self.record.id(), %error, "answer broken off");
        self.broken(BodyError::Aborted)
    }

    fn broken(&mut self, error: BodyError) -> BodyError {
        self.record.fail(ErrorCode::ResponseAborted);
        error
    }
}

/// Lets a stream end by itself, for a while.
pub(super) fn finish_quietly(mut recv: RecvHalf, guard: InFlight) {
    if recv.read_chunk().now_or_never().is_none() {
        // Ends with the stream or after FINISH_TIME.
        spawn_local(async move {
            // Whether it ends in time makes no difference: dropping the stream stops it.
            let _ = timeout(FINISH_TIME, recv.read_chunk()).await;
            drop(guard);
        });
    }
}
