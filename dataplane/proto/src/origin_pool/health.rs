//! Whether one address of an origin seems to work.
//!
//! ```text
//!        maxFails failures in a row          its time is up, one exchange tries it
//!   In ─────────────────────────────► Out ──────────────────────────────────────► Trial
//!   ▲                                  ▲                failed: for twice as long   │ │
//!   │                                  └────────────────────────────────────────────┘ │
//!   └─────────────────────────────────── answered ────────────────────────────────────┘
//! ```
//! Checks may also find an address down and up again ([`Health::checked`]). An address is available while it
//! is in and not down.
//!
//! The names are those of nginx (`max_fails`, `fail_timeout`); the growing time is that of Envoy's outlier
//! detection.

use std::time::{Duration, Instant};

use super::settings::{FailOn, PoolSettings};

/// Checks in a row that must fail before an address is down: one may be an accident.
pub const CHECKS_DOWN: u32 = 2;

/// Checks in a row that must succeed before it is up again.
pub const CHECKS_UP: u32 = 2;

/// An address is never out for longer than so many times `failTimeout`.
pub const OUT_FACTOR_MAX: u32 = 16;

/// What came of an exchange, as far as health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no connection: refused, timed out, name not found, TLS failed.
    Unconnected,
    /// The connection ended without an answer.
    Unanswered,
    /// An answer with a status of 500 or above.
    Failed,
    /// Any other answer, or a connection where nothing is answered.
    Answered,
}

/// What has become of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Exchanges have failed; it is out for so long.
    Ejected(Duration),
    /// It has answered and is in again.
    Returned,
    /// Checks have failed.
    Down,
    /// Checks succeed again.
    Up,
}

/// The state of one address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    state: State,
    /// Failures in a row.
    fails: u32,
    /// Times it went out without having stayed in for as long as it was out.
    ejections: u32,
    is_down: bool,
    /// Checks in a row that speak against `is_down`.
    checks: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    In,
    /// In again, and not yet for long.
    Back {
        trusted_at: Instant,
    },
    Out {
        until: Instant,
    },
    /// Out, but for one exchange.
    Trial,
}

impl Health {
    /// Whether exchanges should be sent to it.
    pub fn is_available(&self, now: Instant) -> bool {
        !self.is_down
            && match self.state {
                State::In | State::Back { .. } => true,
                State::Out { until } => until <= now,
                State::Trial => false,
            }
    }

    /// Whether checks have found it down.
    pub fn is_down(&self) -> bool {
        self.is_down
    }

    /// When it becomes available by itself.
    pub fn returns_at(&self) -> Option<Instant> {
        match self.state {
            State::Out { until } if !self.is_down => Some(until),
            State::Out { .. } | State::In | State::Back { .. } | State::Trial => None,
        }
    }

    /// An exchange is sent to it; whether that is a trial.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        match self.state {
            State::In | State::Back { .. } => self.is_down,
            State::Out { until } if until <= now => {
                self.state = State::Trial;
                true
            }
            // Nothing else is left.
            State::Out { .. } | State::Trial => true,
        }
    }

    /// A trial is over; unless it has shown anything, the next exchange is one.
    pub(super) fn end_trial(&mut self, now: Instant) {
        if self.state == State::Trial {
            self.state = State::Out { until: now };
        }
    }

    /// What an exchange has shown.
    pub(super) fn report(
        &mut self,
        settings: &PoolSettings,
        outcome: Outcome,
        is_trial: bool,
        now: Instant,
    ) -> Option<Verdict> {
        let is_failure = match outcome {
            Outcome::Unconnected => true,
            Outcome::Unanswered => settings.fail_on >= FailOn::NoAnswer,
            Outcome::Failed => settings.fail_on >= FailOn::ServerError,
            Outcome::Answered => false,
        };
        if is_failure {
            self.fail(settings, now)
        } else {
            self.succeed(settings, is_trial, now)
        }
    }

    fn fail(&mut self, settings: &PoolSettings, now: Instant) -> Option<Verdict> {
        self.fails = self.fails.saturating_add(1);
        match self.state {
            State::In | State::Back { .. } if self.fails < settings.fails_max => return None,
            // What began before it went out, or because nothing else was left, says nothing new.
            State::Out { until } if until > now => return None,
            State::In | State::Back { .. } | State::Out { .. } | State::Trial => {}
        }
        self.fails = 0;
        self.ejections = self.ejections.saturating_add(1);
        let length = self.length(settings);
        self.state = State::Out { until: now + length };
        Some(Verdict::Ejected(length))
    }

    fn succeed(&mut self, settings: &PoolSettings, is_trial: bool, now: Instant) -> Option<Verdict> {
        match self.state {
            State::In => {}
            State::Back { trusted_at } => {
                if trusted_at <= now {
                    self.state = State::In;
                    self.ejections = 0;
                }
            }
            State::Out { .. } | State::Trial if is_trial => {
                self.fails = 0;
                let trusted_at = now + self.length(settings);
                self.state = State::Back { trusted_at };
                return Some(Verdict::Returned);
            }
            // An exchange that began before it went out.
            State::Out { .. } | State::Trial => return None,
        }
        self.fails = 0;
        None
    }

    /// What a check has found.
    pub(super) fn checked(&mut self, is_well: bool) -> Option<Verdict> {
        if is_well != self.is_down {
            self.checks = 0;
            return None;
        }
        self.checks += 1;
        let needed = if is_well { CHECKS_UP } else { CHECKS_DOWN };
        if self.checks < needed {
            return None;
        }
        self.checks = 0;
        self.is_down = !is_well;
        if !is_well {
            return Some(Verdict::Down);
        }
        self.state = State::In;
        self.fails = 0;
        self.ejections = 0;
        Some(Verdict::Up)
    }

    /// How long the last ejection is.
    fn length(&self, settings: &PoolSettings) -> Duration {
        let doublings = self.ejections.saturating_sub(1).min(OUT_FACTOR_MAX.ilog2());
        settings.fail_timeout * 2_u32.pow(doublings).min(OUT_FACTOR_MAX)
    }
}
