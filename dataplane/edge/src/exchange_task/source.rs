//! The visitor's request body, with what was read of it held for a retry as long as it is small.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use adit_driver::time::{Instant, timeout};
use adit_proto::exchange::edge::{BodyLength, is_grpc};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::held_body::{HeldBody, Kept};
use adit_proto::exchange::retry::Held;
use adit_proto::shares::Scarcity;
use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Frame;

use super::record::{Progress, Record};
use crate::public::VisitorBody;
use crate::shares::Account;

/// Bytes per second that a body must keep up on average while we wait for it, if it is held to a rate. Far
/// below any real link, far above what it costs to hold an exchange open on purpose.
const BODY_RATE_MIN: u64 = 256;

/// Waiting that is free of the minimum rate: a visitor may be slow to start.
const BODY_GRACE: Duration = if cfg!(test) {
    Duration::from_millis(100)
} else {
    Duration::from_secs(20)
};

/// Interval of looks at a late body that is not ended yet. On an idle conversation each look costs a wakeup.
const LATE_INTERVAL: Duration = if cfg!(test) {
    Duration::from_millis(20)
} else {
    Duration::from_secs(5)
};

/// From when on a body is held to the minimum rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Always: its length was announced, so there is nothing to wait for.
    Steady,
    /// When room is tight: it may pause, but nobody has answered.
    Unhurried,
    /// When room is scarce: a conversation, in which either side may be silent for as long as it likes.
    Conversation,
}

impl Pace {
    pub(super) fn of(length: BodyLength, parts: &Parts) -> Self {
        match length {
            BodyLength::Known(_) | BodyLength::Empty => Self::Steady,
            BodyLength::Unknown if is_grpc(&parts.headers) => Self::Conversation,
            BodyLength::Unknown => Self::Unhurried,
        }
    }

    fn is_held_to(self, scarcity: Scarcity) -> bool {
        match self {
            Self::Steady => true,
            Self::Unhurried => scarcity >= Scarcity::Tight,
            Self::Conversation => scarcity >= Scarcity::Scarce,
        }
    }
}

/// A request body that can be read again from its beginning while all of it is held.
pub(super) struct Source {
    body: VisitorBody,
    pace: Pace,
    held: HeldBody,
    waited: Duration,
    read_bytes: u64,
    progress: Rc<Progress>,
    account: Rc<Account>,
}

impl Source {
    pub(super) fn new(body: VisitorBody, pace: Pace, record: &Record, account: &Rc<Account>) -> Self {
        Self {
            body,
            pace,
            held: HeldBody::default(),
            waited: Duration::ZERO,
            read_bytes: 0,
            progress: record.progress().clone(),
            account: account.clone(),
        }
    }

    /// Whether the request can be sent again; one without a body can.
    pub(super) fn held(source: Option<&Self>) -> Held {
        source.map_or(Held::Whole, |source| source.held.held())
    }

    /// Starts over.
    pub(super) fn rewind(&mut self) {
        self.held.rewind();
    }

    /// The next chunk, `None` at the end. Cancel-safe as long as the body is held.
    ///
    /// # Errors
    /// What the visitor did wrong.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ErrorCode> {
        if let Some(chunk) = self.held.next_chunk() {
            return Ok(Some(chunk));
        }
        loop {
            let frame = self.frame().await;
            let frame = frame.inspect_err(|code| self.progress.fail_body(*code))?;
            let Some(frame) = frame else { return Ok(None) };
            // Trailers of requests have no place in the tunnel's protocol.
            let Ok(chunk) = frame.into_data() else { continue };
            if !chunk.is_empty() {
                self.took(&chunk);
                return Ok(Some(chunk));
            }
        }
    }

    /// Waits for what the visitor sends next, as long as it may.
    async fn frame(&mut self) -> Result<Option<Frame<Bytes>>, ErrorCode> {
        let began = Instant::now();
        let paid = Duration::from_millis(self.read_bytes.saturating_mul(1_000) / BODY_RATE_MIN);
        let allowed = (BODY_GRACE + paid).saturating_sub(self.waited);
        let frame = loop {
            let mut limit = allowed.saturating_sub(began.elapsed());
            if limit.is_zero() {
                if self.pace().is_held_to(self.account.scarcity()) {
                    self.account.give_way();
                    return Err(ErrorCode::BodyTooSlow);
                }
                limit = LATE_INTERVAL;
            }
            if let Ok(frame) = timeout(limit, self.body.frame()).await {
                break frame;
            }
        };
        self.waited += began.elapsed();
        frame.transpose().map_err(|error| break_of(&error))
    }

    /// An answer that has begun makes a conversation of any body that may go on for ever.
    fn pace(&self) -> Pace {
        match self.pace {
            Pace::Unhurried if self.progress.is_answered() => Pace::Conversation,
            pace @ (Pace::Steady | Pace::Unhurried | Pace::Conversation) => pace,
        }
    }

    fn took(&mut self, chunk: &Bytes) {
        self.read_bytes += chunk.len() as u64;
        self.progress.received(chunk.len());
        match self.held.keep(chunk, self.progress.is_answered()) {
            Kept::Yes => self.account.hold(chunk.len() as u64),
            Kept::No(0) => {}
            Kept::No(released) => self.account.release(released as u64),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.account.release(self.held.let_go() as u64);
    }
}

/// Why a body broke off: the visitor left, or sent what is no body.
fn break_of(error: &hyper::Error) -> ErrorCode {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            // Found by us: a length that does not hold, frames out of place.
            return if error.is_library() {
                ErrorCode::BadRequest
            } else {
                ErrorCode::VisitorGone
            };
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            // What is wrong with chunks; anything else is the end of the connection.
            let is_malformed = matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData);
            return if is_malformed {
                ErrorCode::BadRequest
            } else {
                ErrorCode::VisitorGone
            };
        }
        cause = error.source();
    }
    ErrorCode::VisitorGone
}
