//! Decides when a connector dials, where to, and when it gives up: one slot per connection of the replica.
//!
//! ```text
//!            first registration          handle_registered
//!  Parked ──────────────────► Waiting ─► Attempting ─► Serving
//!                                ▲           │            │
//!                                └───────────┴────────────┘ handle_ended
//!  any ── handle_drain ─► Draining ─► Ended
//! ```
//! Connection 0 goes first and alone; its first registration starts the others, `spacing` apart. A slot
//! has at most one attempt under way, and every failure is followed by a jittered wait ([`Backoff`]).
//! Two rules bring a replica back fast without asking a broken edge often: while nothing is connected and
//! dials fail, slot 0 keeps probing at short intervals, and any registration shortens the waits of others.
//!
//! Contract of the type: mutate once, then call [`poll_output`](Supervisor::poll_output) until it says
//! [`Output::Wait`], sleep until then or until something happens, repeat.
//!
//! Does not: dial, know what a connection is, end running exchanges (the connection drains itself).
//!
//! Source: cloudflared `supervisor/supervisor.go`, `supervisor/tunnel.go`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adit_wire::ConnIndex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::backoff::{Backoff, WAIT_MIN};
use crate::edge_addrs::EdgeAddrs;

/// No wait of slot 0 between dials is longer while nothing is connected: a path that returns is found
/// within this and one handshake.
pub const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// A registration elsewhere shortens a slot's wait to at most this.
pub const RECOVERY_WAIT_MAX: Duration = Duration::from_secs(1);

/// Most connections of one replica.
pub const SLOTS_MAX: usize = 64;

/// What the operator wants.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Edge addresses in the given order; repeated ones allow several connections to one edge.
    pub addresses: Vec<SocketAddr>,
    /// Connections wanted; there are never more than addresses, nor than [`SLOTS_MAX`].
    pub connections: usize,
    /// Time between the starts of connections 1, 2, ….
    pub spacing: Duration,
    /// Doublings of the back-off.
    pub retries: u32,
}

/// How an attempt or a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// No handshake: refused, unreachable, silent, or not trusted. Blames the address.
    DialFailed,
    /// An established connection fell silent. Blames the address.
    Silent,
    /// The edge answered and would not have us.
    Refused,
    /// The edge or we closed an established connection.
    Closed,
}

/// What the driver has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Start an attempt. Ends with `handle_registered` or `handle_ended`.
    Dial {
        /// The slot.
        index: ConnIndex,
        /// Where to.
        address: SocketAddr,
        /// Failures of this slot before this attempt.
        previous_attempts: u8,
    },
    /// Tell the operator that a slot failed and waits.
    Retry {
        /// The slot.
        index: ConnIndex,
        /// The wait is shorter than this.
        up_to: Duration,
    },
    /// Give an attempt up or unregister and drain; ends with `handle_ended`.
    Drain {
        /// The slot.
        index: ConnIndex,
    },
    /// Every slot has ended after [`Supervisor::handle_drain`]. Given once.
    Finished,
    /// Nothing to do before this time, or before the next event if there is none.
    Wait(Option<Instant>),
}

/// The slots of one connector process.
#[derive(Debug)]
pub struct Supervisor {
    slots: Vec<Slot>,
    edges: EdgeAddrs,
    spacing: Duration,
    rng: SmallRng,
    outputs: VecDeque<Output>,
    is_draining: bool,
    has_finished: bool,
}

#[derive(Debug)]
struct Slot {
    phase: Phase,
    backoff: Backoff,
    /// Another slot has registered while this one's attempt was under way.
    has_news: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the first connection to register.
    Parked,
    Waiting {
        until: Instant,
    },
    Attempting,
    Serving,
    Draining,
    Ended,
}

impl Supervisor {
    /// Makes the slots and schedules connection 0 for `now`.
    pub fn new(plan: &Plan, now: Instant, seed: u64) -> Self {
        let edges = EdgeAddrs::new(&plan.addresses);
        let count = plan.connections.min(edges.count()).min(SLOTS_MAX);
        let slot = |at| Slot {
            phase: if at == 0 {
                Phase::Waiting { until: now }
            } else {
                Phase::Parked
            },
            backoff: Backoff::new(plan.retries),
            has_news: false,
        };
        Self {
            slots: (0..count).map(slot).collect(),
            edges,
            spacing: plan.spacing,
            rng: SmallRng::seed_from_u64(seed),
            outputs: VecDeque::new(),
            is_draining: false,
            has_finished: false,
        }
    }

    /// The edge has registered a slot's connection.
    pub fn handle_registered(&mut self, now: Instant, index: ConnIndex) {
        let at = usize::from(index.0);
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        if slot.phase != Phase::Attempting {
            return;
        }
        slot.phase = Phase::Serving;
        slot.backoff.reset();
        slot.has_news = false;
        self.start_parked(now);
        self.shorten_waits(now);
    }

    /// A slot's attempt has failed, or its connection is over.
    pub fn handle_ended(&mut self, now: Instant, index: ConnIndex, end: End) {
        let at = usize::from(index.0);
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        match slot.phase {
            Phase::Attempting | Phase::Serving => {}
            Phase::Draining => {
                self.end_slot(at);
                return;
            }
            Phase::Parked | Phase::Waiting { .. } | Phase::Ended => return,
        }
        // Only after the slot has left `Serving` does this say whether anything else is connected.
        slot.phase = Phase::Parked;
        let slot_has_news = std::mem::take(&mut slot.has_news);
        let is_probe = at == 0 && end == End::DialFailed && self.serving() == 0;
        let cap = match (is_probe, slot_has_news) {
            (true, _) => PROBE_WAIT_MAX,
            (false, true) => RECOVERY_WAIT_MAX,
            (false, false) => Duration::MAX,
        };
        match end {
            End::DialFailed | End::Silent => {
                self.edges.leave(at, &mut self.rng);
            }
            End::Refused | End::Closed => {}
        }
        if let Some(slot) = self.slots.get_mut(at) {
            let wait = slot.backoff.next_wait(cap, &mut self.rng);
            slot.phase = Phase::Waiting { until: now + wait };
            let up_to = slot.backoff.bound().min(cap);
            self.outputs.push_back(Output::Retry { index, up_to });
        }
    }

    /// Dials no more and drains what is connected.
    pub fn handle_drain(&mut self) {
        self.is_draining = true;
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(at) else {
                continue;
            };
            match slot.phase {
                Phase::Parked | Phase::Waiting { .. } => self.end_slot(at),
                Phase::Attempting | Phase::Serving => {
                    slot.phase = Phase::Draining;
                    self.outputs.push_back(Output::Drain { index: index_of(at) });
                }
                Phase::Draining | Phase::Ended => {}
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(at) else {
                continue;
            };
            let Phase::Waiting { until } = slot.phase else {
                continue;
            };
            if until > now {
                continue;
            }
            let Some(address) = self.edges.hold(at, &mut self.rng) else {
                continue;
            };
            slot.has_news = false;
            slot.phase = Phase::Attempting;
            let previous_attempts = u8::try_from(slot.backoff.failures()).unwrap_or(u8::MAX);
            self.outputs.push_back(Output::Dial {
                index: index_of(at),
                address,
                previous_attempts,
            });
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let is_over = self.slots.iter().all(|slot| slot.phase == Phase::Ended);
        if self.is_draining && is_over && !self.has_finished {
            self.has_finished = true;
            return Output::Finished;
        }
        Output::Wait(self.slots.iter().filter_map(Slot::deadline).min())
    }

    /// Slots there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Slots with a registered connection that takes new exchanges.
    pub fn serving(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.phase == Phase::Serving)
            .count()
    }

    fn start_parked(&mut self, now: Instant) {
        let mut until = now;
        for slot in &mut self.slots {
            if slot.phase == Phase::Parked {
                slot.phase = Phase::Waiting { until };
                until += self.spacing;
            }
        }
    }

    /// A registration proves that edges can be reached; whoever failed before need not wait out the rest.
    /// An attempt under way may have begun before that, so its failure brings a short wait too, once.
    fn shorten_waits(&mut self, now: Instant) {
        for slot in &mut self.slots {
            match slot.phase {
                Phase::Waiting { until } if slot.backoff.failures() > 0 => {
                    let soon = now + self.rng.random_range(WAIT_MIN..RECOVERY_WAIT_MAX);
                    slot.phase = Phase::Waiting {
                        until: until.min(soon),
                    };
                }
                Phase::Attempting => slot.has_news = true,
                Phase::Parked | Phase::Waiting { .. } | Phase::Serving | Phase::Draining | Phase::Ended => {}
            }
        }
    }

    fn end_slot(&mut self, at: usize) {
        self.edges.release(at);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.phase = Phase::Ended;
        }
    }
}

impl Slot {
    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Parked | Phase::Attempting | Phase::Serving | Phase::Draining | Phase::Ended => None,
        }
    }
}

fn index_of(at: usize) -> ConnIndex {
    ConnIndex(u8::try_from(at).expect("there are at most SLOTS_MAX slots"))
}

const _: () = assert!(SLOTS_MAX <= u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "an instant can be made in no other way; any will do"
    )]
    fn some_time() -> Instant {
        Instant::now()
    }

    fn plan(addresses: usize, connections: usize) -> Plan {
        let port = |at| u16::try_from(at).unwrap() + 1;
        Plan {
            addresses: (0..addresses)
                .map(|at| ([127, 0, 0, 1], port(at)).into())
                .collect(),
            connections,
            spacing: Duration::from_secs(1),
            retries: 5,
        }
    }

    fn dials(supervisor: &mut Supervisor) -> Vec<u8> {
        let mut indices = Vec::new();
        loop {
            match supervisor.poll_output() {
                Output::Dial { index, .. } => indices.push(index.0),
                Output::Retry { .. } => {}
                Output::Drain { .. } | Output::Finished | Output::Wait(_) => return indices,
            }
        }
    }

    #[test]
    fn connection_zero_goes_alone_and_starts_the_others_one_by_one() {
        let start = some_time();
        let mut supervisor = Supervisor::new(&plan(4, 4), start, 1);
        supervisor.handle_timeout(start);
        assert_eq!(dials(&mut supervisor), [0]);
        supervisor.handle_timeout(start + Duration::from_secs(60));
        assert_eq!(dials(&mut supervisor), [0; 0]);
        supervisor.handle_registered(start, ConnIndex(0));
        for second in 0..3 {
            supervisor.handle_timeout(start + Duration::from_secs(second));
            assert_eq!(dials(&mut supervisor), [u8::try_from(second).unwrap() + 1]);
        }
    }

    #[test]
    fn there_are_no_more_slots_than_addresses() {
        let start = some_time();
        assert_eq!(Supervisor::new(&plan(2, 4), start, 1).count(), 2);
        assert_eq!(Supervisor::new(&plan(8, 4), start, 1).count(), 4);
    }

    #[test]
    fn draining_ends_waiting_slots_at_once_and_waits_for_the_rest() {
        let start = some_time();
        let mut supervisor = Supervisor::new(&plan(4, 4), start, 1);
        supervisor.handle_timeout(start);
        assert_eq!(dials(&mut supervisor), [0]);
        supervisor.handle_registered(start, ConnIndex(0));
        supervisor.handle_drain();
        assert_eq!(supervisor.poll_output(), Output::Drain { index: ConnIndex(0) });
        assert_eq!(supervisor.poll_output(), Output::Wait(None));
        supervisor.handle_ended(start, ConnIndex(0), End::Closed);
        assert_eq!(supervisor.poll_output(), Output::Finished);
        assert_eq!(supervisor.poll_output(), Output::Wait(None));
    }
}
