//! Which transport a slot dials with, and when QUIC is tried again.
//!
//! ```text
//!            dials fail                  dial fails
//!  QUIC ───────────────────► HTTP/2 ◄──────────────► QUIC
//!    ▲                          │ registered
//!    └── probe registers ◄──────┘ a probe after 30 s, 1 min, 2 min … 10 min
//! ```
//! Many networks let TCP pass and nothing else, so a slot whose dials over QUIC fail falls back to HTTP/2.
//! From then on it tries both in turn until one registers. QUIC does better on bad networks, and what blocked
//! it may be over soon. So while slots are connected over HTTP/2, they probe QUIC one after the other beside
//! their connections.
//!
//! Source: cloudflared `connection/protocol.go`, `supervisor/tunnel.go`, which never goes back.

use std::fmt;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

use super::End;

/// First and longest time between probes. A probe costs an edge a handshake at most, and a visitor nothing.
pub const PROBE_INTERVAL_MIN: Duration = Duration::from_secs(30);
/// See [`PROBE_INTERVAL_MIN`].
pub const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(600);

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// UDP.
    Quic,
    /// TCP.
    Http2,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Http2 => "http2",
        })
    }
}

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// This one only.
    Only(Protocol),
    /// QUIC if it gets through, else HTTP/2.
    Auto,
}

impl Transport {
    /// What is tried first.
    #[must_use]
    pub fn initial(self) -> Protocol {
        match self {
            Self::Only(protocol) => protocol,
            Self::Auto => Protocol::Quic,
        }
    }
}

/// The transport of one slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Track {
    pub(super) protocol: Protocol,
    /// Attempts in a row that did not reach an edge over `protocol`.
    failures: u32,
    /// Whether both take turns.
    is_alternating: bool,
}

impl Track {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            failures: 0,
            is_alternating: false,
        }
    }

    /// An attempt has come to `end` without a registration. Returns the transport that is tried next, if it
    /// is another one.
    ///
    /// An edge that answers and refuses is reached, and would refuse over anything.
    pub(super) fn on_failure(&mut self, end: End, failures_max: u32) -> Option<Protocol> {
        match end {
            End::DialFailed | End::Silent => self.failures += 1,
            End::Refused | End::Closed | End::Forgotten => return None,
        }
        let limit = if self.is_alternating {
            1
        } else {
            failures_max.max(1)
        };
        if self.failures < limit {
            return None;
        }
        let other = match self.protocol {
            Protocol::Quic => Protocol::Http2,
            Protocol::Http2 => Protocol::Quic,
        };
        *self = Self {
            protocol: other,
            failures: 0,
            is_alternating: true,
        };
        Some(other)
    }
}

/// When QUIC is probed.
#[derive(Debug)]
pub(super) struct Probes {
    at: Option<Instant>,
    interval: Duration,
    /// The slot that probed last.
    last: usize,
}

impl Probes {
    pub(super) fn new() -> Self {
        Self {
            at: None,
            interval: PROBE_INTERVAL_MIN,
            last: 0,
        }
    }

    /// A slot is connected over HTTP/2.
    pub(super) fn expect(&mut self, now: Instant, rng: &mut impl Rng) {
        if self.at.is_none() {
            self.schedule(now, rng);
        }
    }

    /// A probe has failed.
    pub(super) fn on_failed(&mut self, now: Instant, rng: &mut impl Rng) {
        self.interval = (self.interval * 2).min(PROBE_INTERVAL_MAX);
        self.schedule(now, rng);
    }

    /// A probe has registered: the other slots follow, `spacing` apart.
    pub(super) fn on_moved(&mut self, now: Instant, spacing: Duration) {
        self.interval = PROBE_INTERVAL_MIN;
        self.at = Some(now + spacing);
    }

    /// No more of them.
    pub(super) fn stop(&mut self) {
        self.at = None;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.at
    }

    /// The slot to probe with if it is time for that: those that `can_probe` take turns.
    pub(super) fn due(
        &mut self,
        now: Instant,
        count: usize,
        can_probe: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if self.at.is_none_or(|at| at > now) {
            return None;
        }
        self.at = None;
        let mut turns = (1..=count).map(|step| (self.last + step) % count);
        let slot = turns.find(|slot| can_probe(*slot))?;
        self.last = slot;
        Some(slot)
    }

    /// Replicas that a blocked network has stopped at the same moment come back at different ones.
    fn schedule(&mut self, now: Instant, rng: &mut impl Rng) {
        self.at = Some(now + rng.random_range(self.interval / 2..self.interval));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_falls_back_after_its_failures_and_then_takes_turns() {
        let mut track = Track::new(Protocol::Quic);
        assert_eq!(track.on_failure(End::DialFailed, 2), None);
        assert_eq!(track.on_failure(End::Refused, 2), None);
        assert_eq!(track.on_failure(End::Silent, 2), Some(Protocol::Http2));
        assert_eq!(track.on_failure(End::Closed, 2), None);
        assert_eq!(track.on_failure(End::DialFailed, 2), Some(Protocol::Quic));
        assert_eq!(track.on_failure(End::DialFailed, 2), Some(Protocol::Http2));
        let mut at_once = Track::new(Protocol::Quic);
        assert_eq!(at_once.on_failure(End::DialFailed, 0), Some(Protocol::Http2));
    }
}
