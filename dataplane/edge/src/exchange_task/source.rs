//! The visitor's request body, with what was read of it held for a retry as long as it is small.

use std::rc::Rc;
use std::time::Duration;

use adit_driver::time::{Instant, timeout};
use adit_proto::exchange::edge::BodyLength;
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::retry::{HELD_BYTES_MAX, Held};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::record::Progress;

/// Bytes per second that a body of announced length must keep up on average while we wait for it. Far
/// below any real link, far above what it costs to hold an exchange open on purpose.
const BODY_RATE_MIN: u64 = 256;

/// Waiting that is free of the minimum rate: a visitor may be slow to start.
const BODY_GRACE: Duration = Duration::from_secs(20);

/// A request body that can be read again from its beginning while all of it is held.
pub(super) struct Source {
    body: Incoming,
    /// A body of unknown length may be a conversation and pause for as long as it likes.
    has_rate: bool,
    held: Vec<Bytes>,
    held_bytes: usize,
    is_whole: bool,
    /// Chunks of `held` given out in this reading.
    position: usize,
    waited: Duration,
    read_bytes: u64,
    progress: Rc<Progress>,
}

impl Source {
    pub(super) fn new(body: Incoming, length: BodyLength, progress: Rc<Progress>) -> Self {
        Self {
            body,
            has_rate: matches!(length, BodyLength::Known(_)),
            held: Vec::new(),
            held_bytes: 0,
            is_whole: true,
            position: 0,
            waited: Duration::ZERO,
            read_bytes: 0,
            progress,
        }
    }

    /// Whether the request can be sent again; one without a body can.
    pub(super) fn held(source: Option<&Self>) -> Held {
        match source {
            Some(source) if !source.is_whole => Held::Gone,
            Some(_) | None => Held::Whole,
        }
    }

    /// Starts over.
    pub(super) fn rewind(&mut self) {
        self.position = 0;
    }

    /// The next chunk, `None` at the end. Cancel-safe as long as the body is held.
    ///
    /// # Errors
    /// What the visitor did wrong.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ErrorCode> {
        if let Some(chunk) = self.held.get(self.position) {
            self.position += 1;
            return Ok(Some(chunk.clone()));
        }
        loop {
            let began = Instant::now();
            let frame = if self.has_rate {
                let paid = Duration::from_millis(self.read_bytes.saturating_mul(1_000) / BODY_RATE_MIN);
                let allowed = (BODY_GRACE + paid).saturating_sub(self.waited);
                timeout(allowed, self.body.frame())
                    .await
                    .map_err(|_| ErrorCode::BodyTooSlow)?
            } else {
                self.body.frame().await
            };
            self.waited += began.elapsed();
            let Some(frame) = frame else { return Ok(None) };
            // Broken chunking, a reset stream, or a visitor that left in the middle.
            let frame = frame.map_err(|_| ErrorCode::BadRequest)?;
            // Trailers of requests have no place in the tunnel's protocol.
            let Ok(chunk) = frame.into_data() else { continue };
            if !chunk.is_empty() {
                self.took(&chunk);
                return Ok(Some(chunk));
            }
        }
    }

    fn took(&mut self, chunk: &Bytes) {
        self.read_bytes += chunk.len() as u64;
        self.progress.received(chunk.len());
        if !self.is_whole {
            return;
        }
        self.held_bytes += chunk.len();
        if self.held_bytes <= HELD_BYTES_MAX {
            self.held.push(chunk.clone());
            self.position += 1;
        } else {
            self.is_whole = false;
            self.held = Vec::new();
            self.position = 0;
        }
    }
}
