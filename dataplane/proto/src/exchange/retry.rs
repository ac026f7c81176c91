//! Decides whether an exchange that failed before its answer began is sent again, and where.
//!
//! ```text
//! never opened ───────────────► any request              ─► another connection, first of another replica
//! origin not reached ─────────► any request that is held ─► another replica: its origin may be another
//! connection lost ────────────► idempotent and held      ─► the same
//! connection late ────────────► idempotent, no body      ─► a replica that is not late, at once
//! origin at its limit ────────► any request that is held ─► another replica: its limit is its own
//! failure reported, or reset ─► idempotent and held      ─► another replica: the origin is the same
//! silent, or answer begun ────► never
//! ```
//! A request is held while every byte of its body that was sent is still in memory, up to [`HELD_BYTES_MAX`].
//! To repeat what an origin may have seen costs a token of the core's [`Budget`], which exchanges slowly
//! refill. So when a whole site fails, retries stay a fraction of the load. To repeat what no origin has seen
//! adds nothing to the load of any origin, and is free.
//!
//! Does not: remember which connections were tried (see [`steering`](crate::steering)).

use std::time::Duration;

use adit_wire::connect::HeadError;

use super::edge::ResponseError;
use super::error_code::ErrorCode;
use super::reach::Reach;

/// Times one exchange is sent at most.
pub const ATTEMPTS_MAX: u32 = 3;

/// No retry starts later than this after the request came.
pub const RETRY_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of a request body kept for a retry. Covers forms and most API calls; uploads are not replayed.
pub const HELD_BYTES_MAX: usize = 64 << 10;

/// How an attempt ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No stream was opened: the origin cannot have seen the request.
    NotOpened,
    /// The connection was lost after the request was sent at least in part.
    Lost,
    /// The connection is late with an answer and may be lost; no answer has begun on it.
    Doubted,
    /// The connector says that it got no answer from the origin, or resets the stream: a reset may discard
    /// such words on their way.
    Reported,
    /// The connector says that there was no connection to the origin: it has seen nothing.
    Unreached,
    /// The same of a destination that the visitor named.
    Astray,
    /// The connector says that the origin is at its limit, and that it has not seen the request.
    Busy,
    /// The answer is not HTTP.
    Invalid,
    /// The answer's head is larger than a tunnel carries.
    TooLarge,
    /// The deadline for the response head passed.
    Silent,
}

impl Failure {
    /// What a visitor is told if this is the end.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NotOpened | Self::Lost | Self::Doubted => ErrorCode::TunnelLost,
            Self::Reported | Self::Unreached | Self::Astray => ErrorCode::OriginUnreachable,
            Self::Busy => ErrorCode::OriginBusy,
            Self::Invalid => ErrorCode::OriginBadResponse,
            Self::TooLarge => ErrorCode::OriginHeadTooLarge,
            Self::Silent => ErrorCode::OriginTimeout,
        }
    }

    /// Whether another attempt adds to the work of origins. An origin at its limit counts, because the queue
    /// of the next one is work as well.
    const fn costs(self) -> bool {
        match self {
            Self::NotOpened | Self::Unreached | Self::Astray => false,
            Self::Lost
            | Self::Doubted
            | Self::Reported
            | Self::Busy
            | Self::Invalid
            | Self::TooLarge
            | Self::Silent => true,
        }
    }
}

/// What an answer's head means that is none to pass on.
impl From<&ResponseError> for Failure {
    fn from(error: &ResponseError) -> Self {
        match error {
            ResponseError::Connector(_, Reach::Unknown) => Self::Reported,
            ResponseError::Connector(_, Reach::Nowhere) => Self::Unreached,
            ResponseError::Connector(_, Reach::Asked) => Self::Astray,
            ResponseError::Busy => Self::Busy,
            ResponseError::Unfit(ErrorCode::OriginHeadTooLarge) => Self::TooLarge,
            ResponseError::Unfit(_) | ResponseError::Invalid(_) => Self::Invalid,
        }
    }
}

/// What a data stream means that does not begin with an answer's head.
impl From<&HeadError> for Failure {
    fn from(error: &HeadError) -> Self {
        if error.is_too_large() {
            Self::TooLarge
        } else {
            Self::Invalid
        }
    }
}

/// How a data stream ended before the head of an answer had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// In order.
    Finished,
    /// By the connector.
    Reset,
    /// With its connection.
    Lost,
    /// It had never begun.
    NotOpened,
}

impl From<StreamEnd> for Failure {
    fn from(end: StreamEnd) -> Self {
        match end {
            StreamEnd::Finished | StreamEnd::Lost => Self::Lost,
            // A reset may discard a reported failure that was on its way (docs/protocol/data-streams.md §3).
            StreamEnd::Reset => Self::Reported,
            StreamEnd::NotOpened => Self::NotOpened,
        }
    }
}

/// What has become of the request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// All that was taken from the visitor is in memory.
    Whole,
    /// Some of it is gone.
    Gone,
}

/// Facts about an exchange after a failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempted {
    /// Whether the method that the origin sees is idempotent.
    pub is_idempotent: bool,
    /// The request body.
    pub held: Held,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Since the request came.
    pub elapsed: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try a connection not tried before, and this replica only if no other is left: its other connections
    /// may be dying as well.
    OtherConnection,
    /// Try a replica not tried before.
    OtherReplica,
    /// Answer with this.
    GiveUp(ErrorCode),
}

/// Tokens for retries of one core.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// In tenths of a retry.
    tenths: u32,
}

impl Budget {
    /// Ten exchanges pay for two retries.
    const DEPOSIT_TENTHS: u32 = 2;
    const RETRY_TENTHS: u32 = 10;
    /// A burst such as the loss of a connection with all its exchanges may be replayed at once.
    const TENTHS_MAX: u32 = 1_000 * Self::RETRY_TENTHS;

    /// Pays in for one exchange.
    pub fn deposit(&mut self) {
        self.tenths = (self.tenths + Self::DEPOSIT_TENTHS).min(Self::TENTHS_MAX);
    }

    /// Whether a retry could be paid for.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.tenths >= Self::RETRY_TENTHS
    }

    fn withdraw(&mut self) -> bool {
        match self.tenths.checked_sub(Self::RETRY_TENTHS) {
            Some(left) => {
                self.tenths = left;
                true
            }
            None => false,
        }
    }
}

impl Default for Budget {
    /// Starts full: a restart is when connections flap.
    fn default() -> Self {
        Self {
            tenths: Self::TENTHS_MAX,
        }
    }
}

/// Decides after a failed attempt. Takes a token from `budget` if the answer is to repeat what an origin may
/// have seen.
pub fn decide(failure: Failure, attempted: &Attempted, budget: &mut Budget) -> Verdict {
    let give_up = Verdict::GiveUp(failure.code());
    let is_replayable = attempted.held == Held::Whole && attempted.is_idempotent;
    let verdict = match failure {
        Failure::NotOpened if attempted.held == Held::Whole => Verdict::OtherConnection,
        Failure::Lost | Failure::Doubted if is_replayable => Verdict::OtherConnection,
        Failure::Reported if is_replayable => Verdict::OtherReplica,
        Failure::Unreached | Failure::Astray | Failure::Busy if attempted.held == Held::Whole => {
            Verdict::OtherReplica
        }
        Failure::NotOpened
        | Failure::Lost
        | Failure::Doubted
        | Failure::Reported
        | Failure::Unreached
        | Failure::Astray
        | Failure::Busy
        | Failure::Invalid
        | Failure::TooLarge
        | Failure::Silent => {
            return give_up;
        }
    };
    let is_late = attempted.attempts >= ATTEMPTS_MAX || attempted.elapsed >= RETRY_DEADLINE;
    if is_late || (failure.costs() && !budget.withdraw()) {
        give_up
    } else {
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Failure::{Busy, Doubted, Invalid, Lost, NotOpened, Reported, Silent, Unreached};
    use Held::{Gone, Whole};
    use Verdict::{GiveUp, OtherConnection, OtherReplica};
    use http::Method;

    fn after(failure: Failure, method: &Method, held: Held, attempts: u32, seconds: u64) -> Verdict {
        let attempted = Attempted {
            is_idempotent: method.is_idempotent(),
            held,
            attempts,
            elapsed: Duration::from_secs(seconds),
        };
        decide(failure, &attempted, &mut Budget::default())
    }

    #[test]
    fn only_what_cannot_do_harm_twice_is_sent_twice() {
        let cases = [
            (NotOpened, Method::GET, Whole, OtherConnection),
            (NotOpened, Method::POST, Whole, OtherConnection),
            (NotOpened, Method::POST, Gone, GiveUp(ErrorCode::TunnelLost)),
            (Lost, Method::GET, Whole, OtherConnection),
            (Lost, Method::PUT, Whole, OtherConnection),
            (Lost, Method::PUT, Gone, GiveUp(ErrorCode::TunnelLost)),
            (Lost, Method::POST, Whole, GiveUp(ErrorCode::TunnelLost)),
            (Lost, Method::PATCH, Whole, GiveUp(ErrorCode::TunnelLost)),
            (Doubted, Method::GET, Whole, OtherConnection),
            (Doubted, Method::POST, Whole, GiveUp(ErrorCode::TunnelLost)),
            (Reported, Method::GET, Whole, OtherReplica),
            (
                Reported,
                Method::POST,
                Whole,
                GiveUp(ErrorCode::OriginUnreachable),
            ),
            (Unreached, Method::GET, Whole, OtherReplica),
            (Unreached, Method::POST, Whole, OtherReplica),
            (
                Unreached,
                Method::POST,
                Gone,
                GiveUp(ErrorCode::OriginUnreachable),
            ),
            (Busy, Method::POST, Whole, OtherReplica),
            (Busy, Method::POST, Gone, GiveUp(ErrorCode::OriginBusy)),
            (Invalid, Method::GET, Whole, GiveUp(ErrorCode::OriginBadResponse)),
            (Silent, Method::GET, Whole, GiveUp(ErrorCode::OriginTimeout)),
        ];
        for (failure, method, held, wanted) in cases {
            assert_eq!(
                after(failure, &method, held, 1, 0),
                wanted,
                "{failure:?} {method} {held:?}"
            );
        }
    }

    #[test]
    fn attempts_and_time_are_limited() {
        let gave_up = GiveUp(ErrorCode::TunnelLost);
        assert_eq!(after(Lost, &Method::GET, Whole, 2, 9), OtherConnection);
        assert_eq!(after(Lost, &Method::GET, Whole, ATTEMPTS_MAX, 0), gave_up);
        assert_eq!(after(Lost, &Method::GET, Whole, 1, 10), gave_up);
    }

    #[test]
    fn what_no_origin_has_seen_costs_nothing() {
        for (failure, is_free) in [
            (NotOpened, true),
            (Unreached, true),
            (Failure::Astray, true),
            (Busy, false),
            (Lost, false),
        ] {
            let mut empty = Budget { tenths: 0 };
            let attempted = Attempted {
                is_idempotent: true,
                held: Whole,
                attempts: 1,
                elapsed: Duration::ZERO,
            };
            let is_tried = !matches!(decide(failure, &attempted, &mut empty), GiveUp(_));
            assert_eq!(is_tried, is_free, "{failure:?}");
        }
        let gave_up = GiveUp(ErrorCode::OriginUnreachable);
        assert_eq!(after(Unreached, &Method::GET, Whole, ATTEMPTS_MAX, 0), gave_up);
        assert_eq!(after(Unreached, &Method::GET, Whole, 1, 10), gave_up);
    }

    #[test]
    fn an_empty_budget_stops_retries_until_exchanges_refill_it() {
        let mut budget = Budget { tenths: 0 };
        let attempted = Attempted {
            is_idempotent: true,
            held: Whole,
            attempts: 1,
            elapsed: Duration::ZERO,
        };
        assert_eq!(
            decide(Lost, &attempted, &mut budget),
            GiveUp(ErrorCode::TunnelLost)
        );
        for _ in 0..5 {
            budget.deposit();
        }
        assert!(budget.has_token());
        assert_eq!(decide(Lost, &attempted, &mut budget), OtherConnection);
        assert!(!budget.has_token());
        assert_eq!(
            decide(Lost, &attempted, &mut budget),
            GiveUp(ErrorCode::TunnelLost)
        );
    }
}
