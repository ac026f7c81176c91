//! One connection of a replica: what it is doing and over what.

use std::time::{Duration, Instant};

use adit_wire::ConnIndex;

use super::AttemptId;
use super::transport::{Protocol, Track};
use crate::backoff::Backoff;

#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) phase: Phase,
    /// What `phase` is about; the last one, if nothing is under way.
    pub(super) attempt: AttemptId,
    /// Over QUIC, beside a connection over HTTP/2.
    pub(super) probe: Option<AttemptId>,
    pub(super) track: Track,
    pub(super) backoff: Backoff,
    /// Another slot has registered while this one's attempt was under way.
    pub(super) has_news: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for the first connection to register.
    Parked,
    Waiting {
        until: Instant,
    },
    Attempting,
    Serving,
    /// Told to leave, to be dialled anew this long after it has.
    Restarting {
        rest: Duration,
    },
    /// Has left on request. Unlike a wait after a failure, nothing shortens this one.
    Resting {
        until: Instant,
    },
    Draining,
    Ended,
}

impl SlotState {
    /// Whether it is connected over HTTP/2.
    pub(super) fn is_fallen_back(&self) -> bool {
        self.phase == Phase::Serving && self.track.protocol == Protocol::Http2
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } | Phase::Resting { until } => Some(until),
            Phase::Parked
            | Phase::Attempting
            | Phase::Serving
            | Phase::Restarting { .. }
            | Phase::Draining
            | Phase::Ended => None,
        }
    }
}

/// The slot that an attempt belongs to.
pub(super) fn slot_of(slots: &mut [SlotState], id: AttemptId) -> Option<(usize, &mut SlotState)> {
    let mut slots = slots.iter_mut().enumerate();
    slots.find(|(_, slot)| slot.attempt == id || slot.probe == Some(id))
}

pub(super) fn index_of(at: usize) -> ConnIndex {
    ConnIndex(u8::try_from(at).expect("there are at most SLOTS_MAX slots"))
}
