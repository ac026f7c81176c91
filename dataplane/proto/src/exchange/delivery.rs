//! One request on its way to an origin: where it is sent, whether it is sent again, and what the visitor is
//! told if nobody answers. The edge's side; pure: same events, same steps.
//!
//! ```text
//!          found                 answer
//! Choose ───────────► Send ───────────────► Answered
//!  ▲ │ ▲               │ failed
//!  │ │ └───────────────┤ decide (retry): never on the same connection
//!  │ │ none            │ not again
//!  │ ▼                 ▼
//!  │ Wait ──────────► Fail(code)
//!  └── the tunnel is back   └ it is not, and no connection that is late will do either
//! ```
//! A driver asks [`poll_step`](Delivery::poll_step), does what it says, hands in what came of it by one
//! `handle_*`, and asks again. While a request is sent, [`Watch`] has its deadlines.
//!
//! Does not: choose a connection ([`steering`](crate::steering)), know which tunnels are expected back
//! ([`absence`](crate::absence)), or hold the body ([`held_body`](super::held_body)).

mod watch;

use std::time::{Duration, Instant};

use adit_wire::{ConnectionId, ConnectorId};

use super::error_code::ErrorCode;
use super::retry::{ATTEMPTS_MAX, Attempted, Budget, Failure, Held, RETRY_DEADLINE, Verdict, decide};
use crate::ejection::{Outcome, Trier};
use crate::steering::{NoConnection, Tried};

pub use watch::{Due, LOOK_AFTER, Watch};

/// What of a tunnel is to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// A service behind a replica that serves the hostname.
    Origin,
    /// The management service of this replica, or of any.
    Management(Option<ConnectorId>),
}

/// The facts that decide whether a request may be sent twice.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What is to answer.
    pub aim: Aim,
    /// Whether the method that the origin sees is idempotent.
    pub is_idempotent: bool,
    /// Whether a body follows the head.
    pub has_body: bool,
    /// When it came.
    pub began: Instant,
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Finds a connection that serves the hostname, without those in [`tried`](Delivery::tried). Then
    /// [`handle_choice`](Delivery::handle_choice).
    Choose(Search),
    /// Finds a connection of this replica, or of any. Then [`handle_choice`](Delivery::handle_choice).
    ChooseReplica(Option<ConnectorId>),
    /// Waits for the tunnel to come back, if it is expected. Then
    /// [`handle_return`](Delivery::handle_return).
    Wait {
        /// Whether the tunnel becomes expected by this, because nobody may have noticed its loss.
        expects: bool,
    },
    /// Sends the request on the chosen connection. Then [`handle_answer`](Delivery::handle_answer) or
    /// [`handle_failure`](Delivery::handle_failure).
    Send,
    /// Passes the answer on.
    Answered,
    /// Tells the visitor this.
    Fail(ErrorCode),
}

/// Which connection will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// What to do with those that are late with an answer.
    pub doubted: Doubted,
    /// Whether the attempt may show that a replica that was left out is well again.
    pub trier: Trier,
}

/// What a choice does with connections that are late with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubted {
    /// They are none.
    Avoided,
    /// They are taken when there is no other.
    Taken,
}

/// What an attempt has shown of the chosen replica's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Whether it answers.
    pub outcome: Outcome,
    /// When the attempt began.
    pub sent: Instant,
}

/// One request until it is answered or given up.
#[derive(Debug)]
pub struct Delivery {
    request: Request,
    tried: Tried,
    attempts: u32,
    last: Option<Failure>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Choosing,
    Waiting(NoConnection),
    /// The tunnel did not come back. Where nobody waits, a connection that may be dead is better than none.
    Settling(NoConnection),
    Sent(Attempt),
    Answered,
    Failed(ErrorCode),
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    connection: ConnectionId,
    connector: ConnectorId,
    at: Instant,
}

impl Delivery {
    /// Pays into `budget` for one exchange.
    pub fn new(request: Request, budget: &mut Budget) -> Self {
        budget.deposit();
        Self {
            request,
            tried: Tried::default(),
            attempts: 0,
            last: None,
            state: State::Choosing,
        }
    }

    /// The connection that was found, with its replica, or why there is none.
    pub fn handle_choice(&mut self, now: Instant, found: Result<(ConnectionId, ConnectorId), NoConnection>) {
        let none = match found {
            Ok((connection, connector)) => {
                self.attempts += 1;
                self.state = State::Sent(Attempt {
                    connection,
                    connector,
                    at: now,
                });
                return;
            }
            Err(none) => none,
        };
        self.state = match (self.request.aim, self.state) {
            (Aim::Management(_), _) => State::Failed(ErrorCode::ManagementUnreachable),
            (Aim::Origin, State::Settling(none)) => State::Failed(self.code_without_connection(none)),
            (Aim::Origin, _) if self.may_wait(none) => State::Waiting(none),
            (Aim::Origin, _) => State::Settling(none),
        };
    }

    /// The tunnel has a connection again, or waiting for it has ended without one.
    pub fn handle_return(&mut self, is_back: bool) {
        if let State::Waiting(none) = self.state {
            self.state = if is_back {
                State::Choosing
            } else {
                State::Settling(none)
            };
        }
    }

    /// The answer has begun. Returns what this shows of the origin.
    pub fn handle_answer(&mut self) -> Option<Shown> {
        let State::Sent(attempt) = self.state else {
            return None;
        };
        self.state = State::Answered;
        self.shown(&attempt, Outcome::Answered)
    }

    /// The attempt has failed before its answer began. Returns what this shows of the origin. Takes a token
    /// from `budget` if the request is to be sent again and an origin may have seen it.
    pub fn handle_failure(
        &mut self,
        now: Instant,
        failure: Failure,
        held: Held,
        budget: &mut Budget,
    ) -> Option<Shown> {
        let State::Sent(attempt) = self.state else {
            return None;
        };
        let attempted = Attempted {
            is_idempotent: self.request.is_idempotent,
            held,
            attempts: self.attempts,
            elapsed: now.saturating_duration_since(self.request.began),
        };
        self.state = match decide(failure, &attempted, budget) {
            Verdict::GiveUp(code) => State::Failed(code),
            Verdict::OtherConnection => {
                self.tried.avoided.push(attempt.connector);
                State::Choosing
            }
            Verdict::OtherReplica => {
                self.tried.barred.push(attempt.connector);
                State::Choosing
            }
        };
        self.tried.connections.push(attempt.connection);
        self.last = Some(failure);
        self.shown(&attempt, Outcome::of(failure)?)
    }

    /// The visitor is at fault, or nobody takes its body: there is nothing to send again.
    pub fn handle_visitor_failure(&mut self, code: ErrorCode) {
        self.state = State::Failed(code);
    }

    /// What to do now. The same until something is handed in.
    #[must_use]
    pub fn poll_step(&self) -> Step {
        match (self.state, self.request.aim) {
            (State::Choosing, Aim::Management(connector)) => Step::ChooseReplica(connector),
            (State::Choosing, Aim::Origin) => Step::Choose(self.search(Doubted::Avoided)),
            (State::Settling(_), _) => Step::Choose(self.search(Doubted::Taken)),
            (State::Waiting(none), _) => Step::Wait {
                expects: match none {
                    // Those of other hostnames may be well, or the loss is not known everywhere yet.
                    NoConnection::Doubted | NoConnection::AllTried => true,
                    NoConnection::Down
                    | NoConnection::NotServed
                    | NoConnection::NoTrailers
                    | NoConnection::Full => false,
                },
            },
            (State::Sent(_), _) => Step::Send,
            (State::Answered, _) => Step::Answered,
            (State::Failed(code), _) => Step::Fail(code),
        }
    }

    /// What was tried in vain.
    #[must_use]
    pub fn tried(&self) -> &Tried {
        &self.tried
    }

    /// Times the request was sent.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The deadlines of an attempt whose head is sent, if its answer may take as long as `limit` to begin.
    #[must_use]
    pub fn watch(&self, now: Instant, limit: Duration) -> Watch {
        Watch::new(now, limit, self.may_move())
    }

    /// Asked when the watch is [`Due::Look`], and then at each news of a late connector, this one's among
    /// them. Returns what to leave out of a search, without doubted connections and with [`Trier::No`]. If
    /// that finds a connection, the attempt has failed with [`Failure::Doubted`].
    #[must_use]
    pub fn look(&self, now: Instant, is_doubted: bool, budget: &Budget) -> Option<Tried> {
        let State::Sent(attempt) = self.state else {
            return None;
        };
        let has_time = now.saturating_duration_since(self.request.began) < RETRY_DEADLINE;
        if !(is_doubted && has_time && budget.has_token() && self.may_move()) {
            return None;
        }
        let mut tried = self.tried.clone();
        tried.barred.push(attempt.connector);
        Some(tried)
    }

    /// Whether the request may be asked elsewhere before its connection is known to be lost.
    fn may_move(&self) -> bool {
        let Request {
            aim,
            is_idempotent,
            has_body,
            ..
        } = self.request;
        aim == Aim::Origin && is_idempotent && !has_body && self.attempts < ATTEMPTS_MAX
    }

    fn search(&self, doubted: Doubted) -> Search {
        let trier = match (self.last, self.request.is_idempotent) {
            (Some(_), _) => Trier::No,
            // Nothing of the body was sent, so all of it is there.
            (None, true) => Trier::Repeatable,
            (None, false) => Trier::Once,
        };
        Search { doubted, trier }
    }

    /// Whether the tunnel is away rather than of no use for this request.
    fn may_wait(&self, none: NoConnection) -> bool {
        match none {
            NoConnection::Down | NoConnection::Doubted => true,
            NoConnection::AllTried => matches!(self.last, Some(Failure::Lost | Failure::Doubted)),
            NoConnection::NotServed | NoConnection::NoTrailers | NoConnection::Full => false,
        }
    }

    fn code_without_connection(&self, none: NoConnection) -> ErrorCode {
        self.last.map_or_else(|| none.code(), Failure::code)
    }

    fn shown(&self, attempt: &Attempt, outcome: Outcome) -> Option<Shown> {
        let sent = attempt.at;
        (self.request.aim == Aim::Origin).then_some(Shown { outcome, sent })
    }
}

impl NoConnection {
    /// What a visitor is told whose request was sent nowhere.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Down | Self::NotServed | Self::AllTried | Self::Doubted => ErrorCode::TunnelNoConnection,
            Self::NoTrailers => ErrorCode::TrailersNotCarried,
            Self::Full => ErrorCode::TunnelSaturated,
        }
    }
}

#[cfg(test)]
mod tests;
