//! Carries a response body out of the tunnel, chunk by chunk, no faster than the visitor takes it.

use std::rc::Rc;
use std::time::Duration;

use adit_driver::time::timeout;
use adit_proto::exchange::error_code::ErrorCode;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use tokio::task::spawn_local;

use super::body::Slot;
use super::record::Record;
use super::upload::Upload;
use crate::tunnels::stream::{InFlight, RecvError, RecvHalf};

/// Time for the end of a stream whose response is complete. Stopping it at once would look to the connector
/// like a visitor that left.
const FINISH_TIME: Duration = Duration::from_secs(1);

/// Bytes of chunks put together for HTTP/2, which pays per frame: one full frame. A chunk is what one QUIC
/// packet carried. Copying them costs less than the frames; HTTP/1 writes them as they are in one call.
const GATHER_BYTES_MAX: usize = 16 << 10;

/// A response broke off after its head; the visitor's connection or stream is aborted for all to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the tunnel broke the response off")]
    Aborted,
    #[error("the response is shorter than announced")]
    Short,
}

/// What a read of the stream gives.
pub(super) type Received = Result<Option<Bytes>, RecvError>;

/// A response body on its way.
pub(super) struct Download {
    pub(super) recv: RecvHalf,
    /// Came with the head, or was read too far by gathering.
    pub(super) next: Option<Received>,
    /// Bytes still to come, if their number was announced.
    pub(super) left: Option<u64>,
    /// Puts small chunks together.
    pub(super) gathers: bool,
    pub(super) record: Record,
    /// Goes on beside the response and ends with it.
    pub(super) upload: Option<Upload>,
    pub(super) guard: InFlight,
}

impl Download {
    /// Gives every chunk to `slot`.
    pub(super) async fn run(mut self, slot: Rc<Slot>) -> Result<(), BodyError> {
        loop {
            let received = match self.next.take() {
                Some(received) => received,
                None => self.recv.read_chunk().await,
            };
            let mut chunk = match received {
                Ok(Some(chunk)) if self.gathers => self.gather(chunk),
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.left.is_none() => {
                    // A connector that has answered in full reads no more of the request.
                    drop(self.upload.take());
                    self.record.complete();
                    return Ok(());
                }
                Ok(None) => return Err(self.broken(BodyError::Short)),
                Err(_) => return Err(self.broken(BodyError::Aborted)),
            };
            if let Some(left) = &mut self.left {
                // More than announced is not the visitor's: it would be read as the next response.
                chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= chunk.len() as u64;
            }
            self.record.progress().sent(chunk.len());
            if self.left == Some(0) {
                // The visitor's side may not ask for more once the announced bytes are there.
                self.record.complete();
                finish_quietly(self.recv, self.guard);
                slot.put(chunk).await;
                return Ok(());
            }
            slot.put(chunk).await;
        }
    }

    /// Adds what has already arrived; waits for nothing.
    fn gather(&mut self, first: Bytes) -> Bytes {
        let mut gathered = BytesMut::new();
        let mut size = first.len();
        while size < GATHER_BYTES_MAX && self.next.is_none() {
            match self.recv.read_chunk().now_or_never() {
                Some(Ok(Some(chunk))) if size + chunk.len() <= GATHER_BYTES_MAX => {
                    if gathered.is_empty() {
                        gathered.reserve(GATHER_BYTES_MAX);
                        gathered.extend_from_slice(&first);
                    }
                    gathered.extend_from_slice(&chunk);
                    size += chunk.len();
                }
                Some(other) => self.next = Some(other),
                None => break,
            }
        }
        if gathered.is_empty() {
            first
        } else {
            gathered.freeze()
        }
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
