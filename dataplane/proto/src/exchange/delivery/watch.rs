//! The deadlines of one attempt: when the answer must have begun, and when to look whether the connector is
//! late.

use std::time::{Duration, Instant};

/// An attempt without an answer after this long checks whether its connector is late. Most attempts have an
/// answer by then.
pub const LOOK_AFTER: Duration = Duration::from_millis(100);

/// Runs from when the request's head was sent. Its limit counts from the last byte of the body, as nobody
/// answers before.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    limit: Duration,
    /// `None` when that time has come, or never comes.
    look_at: Option<Instant>,
}

/// What it is time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// To look whether the connector is late ([`Delivery::look`](super::Delivery::look)).
    Look,
    /// To give the attempt up: [`Failure::Silent`](crate::exchange::retry::Failure::Silent).
    Silence,
}

impl Watch {
    pub(super) fn new(now: Instant, limit: Duration, may_move: bool) -> Self {
        Self {
            limit,
            look_at: may_move.then(|| now + LOOK_AFTER),
        }
    }

    /// How long the answer may take to begin.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// When to ask again, if the request last moved at `active_at`.
    #[must_use]
    pub fn poll_timeout(&self, active_at: Instant) -> Instant {
        let silent_at = active_at + self.limit;
        self.look_at.map_or(silent_at, |look_at| look_at.min(silent_at))
    }

    /// What is due; to look is so once.
    pub fn handle_timeout(&mut self, now: Instant, active_at: Instant) -> Option<Due> {
        if self.look_at.take_if(|at| *at <= now).is_some() {
            return Some(Due::Look);
        }
        (active_at + self.limit <= now).then_some(Due::Silence)
    }
}
