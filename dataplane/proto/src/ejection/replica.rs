//! One replica as far as exchanges for one hostname show how its origin is.
//!
//! ```text
//!        failures in a row, or too many of a window          its time is up: one exchange tries it
//!   In ─────────────────────────────────────────────► Out ────────────────────────────────────────► Trial
//!   ▲                                                  ▲              failed: for twice as long      │ │
//!   │ a while without an ejection                      └─────────────────────────────────────────────┘ │
//!   └────────────── Back: its share of the exchanges grows ◄────────────────────── answered ───────────┘
//! ```
//! An exchange that began before the last change of sides says nothing about it and is not heard.

use std::time::{Duration, Instant};

use super::{Outcome, Reason, Settings};

/// Failures are weighed against answers within this.
pub const WINDOW: Duration = Duration::from_secs(10);

/// A window with fewer exchanges proves nothing.
pub const WINDOW_EXCHANGES_MIN: u32 = 20;

/// A trial is left to requests that may be sent twice for this long; then any will do.
pub const TRIAL_PATIENCE: Duration = Duration::from_secs(5);

/// The share that a replica gets at first when it is back, in percent; as Envoy has it.
pub const BACK_PERCENT_MIN: u32 = 10;

/// Failures in a row are forgotten when none follows for this long.
const FAILURES_KEPT: Duration = Duration::from_secs(60);

/// One that is out and is not asked for in this time is forgotten: nobody visits the hostname.
const OUT_KEPT: Duration = Duration::from_secs(600);

/// What steering does with a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is like all others.
    In,
    /// It is back, and this exchange is not of its share.
    HeldBack,
    /// It is left out while another will do.
    Out,
    /// This exchange may show whether it is well again.
    Trial,
}

/// What an exchange may be used for beside its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trier {
    /// Nothing: it has failed once.
    No,
    /// It may try a replica, as another can have it afterwards.
    Repeatable,
    /// It may try a replica if there is no better one to do it.
    Once,
}

/// The state of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    side: Side,
    /// In a row.
    failures: u32,
    failed_at: Instant,
    window: Window,
    /// Without having stayed in for long in between.
    ejections: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    In,
    Out { since: Instant, until: Instant },
    Trial { since: Instant, until: Instant },
    Back { since: Instant, trusted_at: Instant },
}

/// Begins with a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    began: Instant,
    failed: u32,
    answered: u32,
}

/// What a report has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It would go out, if it may; see [`Replica::eject`].
    Fails(Reason),
    /// It is back.
    Returned,
}

impl Replica {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            side: Side::In,
            failures: 0,
            failed_at: now,
            window: Window::new(now),
            ejections: 0,
        }
    }

    /// What came of an exchange that was sent at `sent`.
    pub(super) fn report(
        &mut self,
        settings: &Settings,
        outcome: Outcome,
        sent: Instant,
        now: Instant,
    ) -> Option<Change> {
        match (self.side, outcome) {
            (Side::Out { since, .. } | Side::Trial { since, .. } | Side::Back { since, .. }, _)
                if sent < since =>
            {
                None
            }
            (Side::In | Side::Back { .. }, Outcome::Failed) => {
                self.failures = self.failures.saturating_add(1);
                self.failed_at = now;
                self.window.roll(now);
                self.window.failed = self.window.failed.saturating_add(1);
                self.is_to_go(settings).map(Change::Fails)
            }
            (Side::In | Side::Back { .. }, Outcome::Answered) => {
                self.failures = 0;
                self.window.answered = self.window.answered.saturating_add(1);
                self.settle(now);
                None
            }
            // It was asked because nothing else was left.
            (Side::Out { until, .. }, Outcome::Failed) if until > now => None,
            (Side::Out { .. } | Side::Trial { .. }, Outcome::Failed) => Some(Change::Fails(Reason::Trial)),
            (Side::Out { .. } | Side::Trial { .. }, Outcome::Answered) => {
                self.bring_back(settings, now);
                Some(Change::Returned)
            }
        }
    }

    fn is_to_go(&self, settings: &Settings) -> Option<Reason> {
        let Window { failed, answered, .. } = self.window;
        let all = failed.saturating_add(answered);
        let percent = u64::from(failed) * 100;
        if settings.failures_in_a_row > 0 && self.failures >= settings.failures_in_a_row {
            Some(Reason::InARow)
        } else if settings.failure_percent > 0
            && all >= WINDOW_EXCHANGES_MIN
            && percent >= u64::from(settings.failure_percent) * u64::from(all)
        {
            Some(Reason::Rate)
        } else {
            None
        }
    }

    /// Leaves it out; for how long.
    pub(super) fn eject(&mut self, settings: &Settings, now: Instant) -> Instant {
        self.ejections = self.ejections.saturating_add(1);
        let until = now + self.length(settings);
        self.go_out(until, self.ejections, now);
        until
    }

    /// Follows another core, which has left it out for the `ejections`th time.
    pub(super) fn go_out(&mut self, until: Instant, ejections: u32, now: Instant) {
        self.ejections = ejections;
        self.failures = 0;
        self.window = Window::new(now);
        self.side = Side::Out { since: now, until };
    }

    /// Follows another core, to which it answered at `at`.
    pub(super) fn follow_back(&mut self, settings: &Settings, at: Instant) -> bool {
        match self.side {
            Side::Out { since, .. } | Side::Trial { since, .. } if since <= at => {
                self.bring_back(settings, at);
                true
            }
            Side::Out { .. } | Side::Trial { .. } | Side::In | Side::Back { .. } => false,
        }
    }

    fn bring_back(&mut self, settings: &Settings, now: Instant) {
        self.failures = 0;
        self.window = Window::new(now);
        let trusted_at = now + self.length(settings).max(settings.slow_start);
        self.side = Side::Back {
            since: now,
            trusted_at,
        };
    }

    /// How often it has gone out.
    pub(super) fn ejections(&self) -> u32 {
        self.ejections
    }

    /// The exchange that tries the replica is on its way. The next may follow after a while, since nothing
    /// may be heard of this one again.
    pub(super) fn begin_trial(&mut self, settings: &Settings, now: Instant) {
        let until = now + settings.time;
        self.side = Side::Trial { since: now, until };
    }

    /// What to do with it. `dice` is below 100 and the same for one exchange.
    pub(super) fn standing(&self, settings: &Settings, dice: u32, trier: Trier, now: Instant) -> Standing {
        match self.side {
            Side::In => Standing::In,
            Side::Out { until, .. } | Side::Trial { until, .. } => {
                let is_due = match trier {
                    Trier::No => false,
                    Trier::Repeatable => until <= now,
                    Trier::Once => until + TRIAL_PATIENCE <= now,
                };
                if is_due { Standing::Trial } else { Standing::Out }
            }
            Side::Back { since, .. } => {
                let passed = now.saturating_duration_since(since).as_millis();
                let whole = settings.slow_start.as_millis().max(1);
                let percent = (passed * 100 / whole).max(BACK_PERCENT_MIN.into());
                if u128::from(dice) < percent {
                    Standing::In
                } else {
                    Standing::HeldBack
                }
            }
        }
    }

    /// Whether it is left out.
    pub(super) fn is_out(&self) -> bool {
        match self.side {
            Side::Out { .. } | Side::Trial { .. } => true,
            Side::In | Side::Back { .. } => false,
        }
    }

    /// Whether it is worth being kept in mind.
    pub(super) fn is_kept(&mut self, now: Instant) -> bool {
        self.settle(now);
        match self.side {
            Side::In if self.failures > 0 => now < self.failed_at + FAILURES_KEPT,
            Side::In => now < self.window.began + WINDOW,
            Side::Out { until, .. } | Side::Trial { until, .. } => now < until + OUT_KEPT,
            Side::Back { .. } => true,
        }
    }

    /// One that has been back for long enough is like all others.
    fn settle(&mut self, now: Instant) {
        if let Side::Back { trusted_at, .. } = self.side
            && trusted_at <= now
        {
            self.side = Side::In;
            self.ejections = 0;
        }
    }

    /// How long the last ejection is.
    fn length(&self, settings: &Settings) -> Duration {
        let doublings = self.ejections.saturating_sub(1).min(31);
        let length = settings.time.saturating_mul(1 << doublings);
        length.min(settings.time_max.max(settings.time))
    }
}

impl Window {
    fn new(began: Instant) -> Self {
        Self {
            began,
            failed: 0,
            answered: 0,
        }
    }

    fn roll(&mut self, now: Instant) {
        if self.failed == 0 || now >= self.began + WINDOW {
            *self = Self::new(now);
        }
    }
}
