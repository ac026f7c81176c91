//! Decides when a connector dials, where to, and when it gives up: one slot per connection of the replica.
//!
//! ```text
//!            first registration          handle_registered
//!  Parked ──────────────────► Waiting ─► Attempting ─► Serving
//!                                ▲           │            │
//!                                └───────────┴────────────┘ handle_ended
//!  Serving ── handle_restart ─► Restarting ─► Resting ─► Attempting
//!  any ── handle_drain ─► Draining ─► Ended
//! ```
//! Connection 0 goes first and alone. Its first registration starts the others, `spacing` apart. A slot has
//! at most one attempt under way, and a jittered wait ([`Backoff`]) follows every failure.
//!
//! With [`Transport::Auto`] a slot falls back to HTTP/2 and later moves back (see [`transport`]): a second
//! attempt over QUIC runs beside its connection, and takes the slot over when it has registered.
//!
//! Two rules bring a replica back fast without asking a broken edge often. While nothing is connected and
//! dials fail, slot 0 keeps probing at short intervals. Any registration shortens the waits of the others.
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
use slot::{Phase, SlotState, index_of, slot_of};
use transport::{Probes, Track};

mod slot;
pub mod transport;

pub use transport::{Protocol, Transport};

/// No wait of slot 0 between dials is longer while nothing is connected: a path that returns is found
/// within this and one handshake.
pub const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// A registration elsewhere shortens a slot's wait to at most this.
pub const RECOVERY_WAIT_MAX: Duration = Duration::from_secs(1);

/// An edge that was started anew is dialled within this.
pub const FORGOTTEN_WAIT_MAX: Duration = Duration::from_millis(400);

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
    /// How edges may be reached.
    pub transport: Transport,
    /// Dials over QUIC that fail in a row before a slot tries HTTP/2; at least 1.
    pub dial_failures_max: u32,
}

/// One attempt of a slot and the connection that may come of it; no other one has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId(pub u64);

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
    /// The edge was started anew and has forgotten an established connection.
    Forgotten,
}

/// What the driver has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Start an attempt. Ends with `handle_registered` or `handle_ended`.
    Dial {
        /// The attempt.
        id: AttemptId,
        /// The slot.
        index: ConnIndex,
        /// Where to.
        address: SocketAddr,
        /// Over what.
        protocol: Protocol,
        /// The connection that must leave before this one registers in its place.
        replaces: Option<AttemptId>,
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
    /// Tell the operator that a slot's next attempt is over another protocol.
    Switch {
        /// The slot.
        index: ConnIndex,
        /// What is tried.
        to: Protocol,
    },
    /// Give an attempt up or unregister and drain; ends with `handle_ended`.
    Drain {
        /// The attempt.
        id: AttemptId,
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
    slots: Vec<SlotState>,
    edges: EdgeAddrs,
    spacing: Duration,
    transport: Transport,
    dial_failures_max: u32,
    probes: Probes,
    attempts: u64,
    rng: SmallRng,
    outputs: VecDeque<Output>,
    is_draining: bool,
    has_finished: bool,
}

impl Supervisor {
    /// Makes the slots and schedules connection 0 for `now`.
    pub fn new(plan: &Plan, now: Instant, seed: u64) -> Self {
        let edges = EdgeAddrs::new(&plan.addresses);
        let count = plan.connections.min(edges.count()).min(SLOTS_MAX);
        let slot = |at| SlotState {
            phase: if at == 0 {
                Phase::Waiting { until: now }
            } else {
                Phase::Parked
            },
            attempt: AttemptId(0),
            probe: None,
            track: Track::new(plan.transport.initial()),
            backoff: Backoff::new(plan.retries),
            has_news: false,
        };
        Self {
            slots: (0..count).map(slot).collect(),
            edges,
            spacing: plan.spacing,
            transport: plan.transport,
            dial_failures_max: plan.dial_failures_max,
            probes: Probes::new(),
            attempts: 0,
            rng: SmallRng::seed_from_u64(seed),
            outputs: VecDeque::new(),
            is_draining: false,
            has_finished: false,
        }
    }

    /// The edge has registered the connection of an attempt.
    pub fn handle_registered(&mut self, now: Instant, id: AttemptId) {
        let Some((at, slot)) = slot_of(&mut self.slots, id) else {
            return;
        };
        let is_probe = slot.probe == Some(id);
        if is_probe && slot.phase == Phase::Serving {
            // The connection that was there has left, or is about to.
            slot.attempt = id;
            slot.probe = None;
            slot.track = Track::new(Protocol::Quic);
        } else if !is_probe && slot.phase == Phase::Attempting {
            slot.phase = Phase::Serving;
            slot.backoff.reset();
            slot.has_news = false;
            // It is not in doubt any more what gets through.
            slot.track = Track::new(slot.track.protocol);
        } else {
            return;
        }
        let protocol = slot.track.protocol;
        self.follow(at, now, protocol);
        self.start_parked(now, protocol);
        self.shorten_waits(now);
    }

    /// An attempt has failed, or its connection is over.
    pub fn handle_ended(&mut self, now: Instant, id: AttemptId, end: End) {
        let Some((at, slot)) = slot_of(&mut self.slots, id) else {
            return;
        };
        if slot.probe == Some(id) {
            slot.probe = None;
            self.probes.on_failed(now, &mut self.rng);
            self.end_drained(at);
            return;
        }
        let was_serving = match slot.phase {
            Phase::Attempting => false,
            Phase::Serving => true,
            Phase::Draining => {
                slot.attempt = AttemptId(0);
                self.end_drained(at);
                return;
            }
            Phase::Restarting { rest } => {
                slot.phase = Phase::Resting { until: now + rest };
                return;
            }
            Phase::Parked | Phase::Waiting { .. } | Phase::Resting { .. } | Phase::Ended => return,
        };
        if let Some(probe) = slot.probe.take() {
            // What was a probe is all that the slot has.
            slot.attempt = probe;
            slot.track = Track::new(Protocol::Quic);
            slot.phase = Phase::Attempting;
            self.probes.on_failed(now, &mut self.rng);
            return;
        }
        self.retry(now, at, end, was_serving);
    }

    /// Lets one serving connection leave in order and dials it anew `rest` later. `None` if there is none to
    /// spare: nothing serves, or a change of transport is under way.
    pub fn handle_restart(&mut self, rest: Duration) -> Option<ConnIndex> {
        let fit = |slot: &SlotState| slot.phase == Phase::Serving && slot.probe.is_none();
        let count = self.slots.iter().filter(|slot| fit(slot)).count();
        if self.is_draining || count == 0 {
            return None;
        }
        let chosen = self.rng.random_range(0..count);
        let mut fitting = self.slots.iter_mut().enumerate().filter(|(_, slot)| fit(slot));
        let (at, slot) = fitting.nth(chosen)?;
        slot.phase = Phase::Restarting { rest };
        let (id, index) = (slot.attempt, index_of(at));
        self.outputs.push_back(Output::Drain { id, index });
        Some(index)
    }

    /// Dials no more and drains what is connected.
    pub fn handle_drain(&mut self) {
        self.is_draining = true;
        self.probes.stop();
        for at in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(at) else {
                continue;
            };
            match slot.phase {
                Phase::Parked | Phase::Waiting { .. } | Phase::Resting { .. } => self.end_slot(at),
                // It is leaving already.
                Phase::Restarting { .. } => slot.phase = Phase::Draining,
                Phase::Attempting | Phase::Serving => {
                    slot.phase = Phase::Draining;
                    let index = index_of(at);
                    for id in [Some(slot.attempt), slot.probe].into_iter().flatten() {
                        self.outputs.push_back(Output::Drain { id, index });
                    }
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
            let (Phase::Waiting { until } | Phase::Resting { until }) = slot.phase else {
                continue;
            };
            if until > now {
                continue;
            }
            let Some(address) = self.edges.hold(at, &mut self.rng) else {
                continue;
            };
            self.attempts += 1;
            slot.has_news = false;
            slot.phase = Phase::Attempting;
            slot.attempt = AttemptId(self.attempts);
            let previous_attempts = u8::try_from(slot.backoff.failures()).unwrap_or(u8::MAX);
            self.outputs.push_back(Output::Dial {
                id: slot.attempt,
                index: index_of(at),
                address,
                protocol: slot.track.protocol,
                replaces: None,
                previous_attempts,
            });
        }
        self.probe(now);
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
        let deadlines = self.slots.iter().filter_map(SlotState::deadline);
        Output::Wait(deadlines.chain(self.probes.deadline()).min())
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

    /// Schedules the next attempt of a slot that has nothing.
    fn retry(&mut self, now: Instant, at: usize, end: End, was_serving: bool) {
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        // Only after the slot has left `Serving` does this say whether anything else is connected.
        slot.phase = Phase::Parked;
        let has_news = std::mem::take(&mut slot.has_news);
        let switched = match self.transport {
            Transport::Auto if !was_serving => slot.track.on_failure(end, self.dial_failures_max),
            Transport::Auto | Transport::Only(_) => None,
        };
        let is_reconnaissance = at == 0 && end == End::DialFailed && self.serving() == 0;
        let cap = if end == End::Forgotten {
            // The edge is there and takes us. The wait only keeps its connectors from coming all in one
            // moment.
            FORGOTTEN_WAIT_MAX
        } else if has_news || switched.is_some() {
            RECOVERY_WAIT_MAX
        } else if is_reconnaissance {
            PROBE_WAIT_MAX
        } else {
            Duration::MAX
        };
        match end {
            End::DialFailed | End::Silent => {
                self.edges.leave(at, &mut self.rng);
            }
            End::Refused | End::Closed | End::Forgotten => {}
        }
        let index = index_of(at);
        if let Some(slot) = self.slots.get_mut(at) {
            let wait = slot.backoff.next_wait(cap, &mut self.rng);
            slot.phase = Phase::Waiting { until: now + wait };
            let up_to = slot.backoff.bound().min(cap);
            self.outputs.push_back(Output::Retry { index, up_to });
        }
        if let Some(to) = switched {
            self.outputs.push_back(Output::Switch { index, to });
        }
    }

    /// What a registration over `protocol` means for what is tried next.
    fn follow(&mut self, at: usize, now: Instant, protocol: Protocol) {
        if self.transport != Transport::Auto {
            return;
        }
        match protocol {
            Protocol::Http2 => self.probes.expect(now, &mut self.rng),
            Protocol::Quic => {
                let is_alone = !self.slots.iter().any(SlotState::is_fallen_back);
                if is_alone {
                    self.probes = Probes::new();
                } else if !self.is_probing() {
                    self.probes.on_moved(now, self.spacing);
                }
                // Whoever waits fell back, if it did, when QUIC did not get through.
                for (other, slot) in self.slots.iter_mut().enumerate() {
                    if other != at && matches!(slot.phase, Phase::Waiting { .. }) {
                        slot.track = Track::new(Protocol::Quic);
                    }
                }
            }
        }
    }

    /// Starts an attempt over QUIC beside a connection over HTTP/2 if it is time for that.
    fn probe(&mut self, now: Instant) {
        if self.is_draining || self.is_probing() {
            return;
        }
        let slots = &self.slots;
        let can_probe = |at: usize| slots.get(at).is_some_and(SlotState::is_fallen_back);
        let Some(at) = self.probes.due(now, slots.len(), can_probe) else {
            return;
        };
        let address = self.edges.hold(at, &mut self.rng);
        if let (Some(slot), Some(address)) = (self.slots.get_mut(at), address) {
            self.attempts += 1;
            let id = AttemptId(self.attempts);
            slot.probe = Some(id);
            self.outputs.push_back(Output::Dial {
                id,
                index: index_of(at),
                address,
                protocol: Protocol::Quic,
                replaces: Some(slot.attempt),
                previous_attempts: 0,
            });
        }
    }

    fn is_probing(&self) -> bool {
        self.slots.iter().any(|slot| slot.probe.is_some())
    }

    /// The others go where the first one got through.
    fn start_parked(&mut self, now: Instant, protocol: Protocol) {
        let mut until = now;
        for slot in &mut self.slots {
            if slot.phase == Phase::Parked {
                slot.track = Track::new(protocol);
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
                Phase::Parked
                | Phase::Waiting { .. }
                | Phase::Serving
                | Phase::Restarting { .. }
                | Phase::Resting { .. }
                | Phase::Draining
                | Phase::Ended => {}
            }
        }
    }

    /// Ends a draining slot that has nothing left.
    fn end_drained(&mut self, at: usize) {
        let is_over = |slot: &SlotState| {
            slot.phase == Phase::Draining && slot.attempt == AttemptId(0) && slot.probe.is_none()
        };
        if self.slots.get(at).is_some_and(is_over) {
            self.end_slot(at);
        }
    }

    fn end_slot(&mut self, at: usize) {
        self.edges.release(at);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.phase = Phase::Ended;
        }
    }
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
            transport: Transport::Only(Protocol::Quic),
            dial_failures_max: 2,
        }
    }

    /// Attempts that are started, with their slots.
    fn dials(supervisor: &mut Supervisor) -> Vec<(u8, AttemptId, Protocol)> {
        let mut dials = Vec::new();
        loop {
            match supervisor.poll_output() {
                Output::Dial {
                    id, index, protocol, ..
                } => dials.push((index.0, id, protocol)),
                Output::Retry { .. } | Output::Switch { .. } => {}
                Output::Drain { .. } | Output::Finished | Output::Wait(_) => return dials,
            }
        }
    }

    fn slots(dials: &[(u8, AttemptId, Protocol)]) -> Vec<u8> {
        dials.iter().map(|(index, ..)| *index).collect()
    }

    #[test]
    fn connection_zero_goes_alone_and_starts_the_others_one_by_one() {
        let start = some_time();
        let mut supervisor = Supervisor::new(&plan(4, 4), start, 1);
        supervisor.handle_timeout(start);
        let first = dials(&mut supervisor);
        assert_eq!(slots(&first), [0]);
        supervisor.handle_timeout(start + Duration::from_secs(60));
        assert_eq!(dials(&mut supervisor), []);
        supervisor.handle_registered(start, first[0].1);
        for second in 0..3 {
            supervisor.handle_timeout(start + Duration::from_secs(second));
            let next = dials(&mut supervisor);
            assert_eq!(slots(&next), [u8::try_from(second).unwrap() + 1]);
        }
    }

    #[test]
    fn a_restarted_connection_leaves_in_order_and_rests_as_long_as_it_is_told() {
        let start = some_time();
        let mut supervisor = Supervisor::new(&plan(2, 2), start, 1);
        assert_eq!(supervisor.handle_restart(Duration::ZERO), None, "nothing serves");
        supervisor.handle_timeout(start);
        let first = dials(&mut supervisor);
        supervisor.handle_registered(start, first[0].1);
        let rest = Duration::from_secs(30);
        assert_eq!(supervisor.handle_restart(rest), Some(ConnIndex(0)));
        let Output::Drain { id, .. } = supervisor.poll_output() else {
            panic!("nothing drains");
        };
        assert_eq!((id, supervisor.serving()), (first[0].1, 0));
        supervisor.handle_ended(start, id, End::Closed);
        // The other one registers meanwhile, which shortens waits after failures only.
        supervisor.handle_timeout(start);
        let other = dials(&mut supervisor);
        assert_eq!(slots(&other), [1]);
        supervisor.handle_registered(start, other[0].1);
        assert_eq!(supervisor.poll_output(), Output::Wait(Some(start + rest)));
        supervisor.handle_timeout(start + rest);
        assert_eq!(slots(&dials(&mut supervisor)), [0]);
        // One that is told to leave for good meanwhile does so.
        assert_eq!(supervisor.handle_restart(rest), Some(ConnIndex(1)));
        supervisor.handle_drain();
        assert_eq!(supervisor.handle_restart(rest), None);
        assert!(matches!(supervisor.poll_output(), Output::Drain { id, .. } if id == other[0].1));
        assert!(matches!(
            supervisor.poll_output(),
            Output::Drain {
                index: ConnIndex(0),
                ..
            }
        ));
        supervisor.handle_ended(start + rest, other[0].1, End::Closed);
        assert_eq!(
            supervisor.poll_output(),
            Output::Wait(None),
            "the dial is still under way"
        );
    }

    /// Fails attempts until one is over HTTP/2, and registers that.
    fn fall_back(supervisor: &mut Supervisor, start: Instant) -> (Instant, AttemptId) {
        let mut now = start;
        for _ in 0..3 {
            supervisor.handle_timeout(now);
            let (index, id, protocol) = dials(supervisor)[0];
            assert_eq!(index, 0);
            if protocol == Protocol::Http2 {
                supervisor.handle_registered(now, id);
                return (now, id);
            }
            now += Duration::from_secs(5);
            supervisor.handle_ended(now, id, End::DialFailed);
            now += PROBE_WAIT_MAX;
        }
        panic!("no attempt over HTTP/2");
    }

    #[test]
    fn slots_move_back_to_quic_one_by_one_when_a_probe_gets_through() {
        let start = some_time();
        let plan = Plan {
            transport: Transport::Auto,
            ..plan(2, 2)
        };
        let mut supervisor = Supervisor::new(&plan, start, 1);
        let (now, old) = fall_back(&mut supervisor, start);
        supervisor.handle_timeout(now);
        let (_, other, protocol) = dials(&mut supervisor)[0];
        assert_eq!(protocol, Protocol::Http2, "slot 1 follows slot 0");
        supervisor.handle_registered(now, other);
        assert_eq!(supervisor.serving(), 2);

        let now = now + transport::PROBE_INTERVAL_MIN;
        supervisor.handle_timeout(now);
        let Output::Dial {
            id: probe,
            index: ConnIndex(1),
            protocol: Protocol::Quic,
            replaces: Some(replaced),
            ..
        } = supervisor.poll_output()
        else {
            panic!("no probe");
        };
        assert_eq!(replaced, other);
        supervisor.handle_ended(now, other, End::Closed);
        supervisor.handle_registered(now, probe);
        let now = now + Duration::from_secs(1);
        supervisor.handle_timeout(now);
        let Output::Dial {
            id: probe,
            replaces: Some(replaced),
            ..
        } = supervisor.poll_output()
        else {
            panic!("the other slot does not follow");
        };
        assert_eq!(replaced, old);
        supervisor.handle_registered(now, probe);
        // It had been told to leave, and says so late.
        supervisor.handle_ended(now, old, End::Closed);
        assert_eq!(supervisor.serving(), 2);
        assert_eq!(supervisor.poll_output(), Output::Wait(None));
    }

    #[test]
    fn a_probe_that_fails_leaves_the_connection_alone() {
        let start = some_time();
        let plan = Plan {
            transport: Transport::Auto,
            ..plan(1, 1)
        };
        let mut supervisor = Supervisor::new(&plan, start, 1);
        let (mut now, old) = fall_back(&mut supervisor, start);
        for _ in 0..10 {
            let Output::Wait(Some(due)) = supervisor.poll_output() else {
                panic!("no probe is due");
            };
            assert!(due > now && due <= now + transport::PROBE_INTERVAL_MAX);
            now = due;
            supervisor.handle_timeout(now);
            let (_, probe, _) = dials(&mut supervisor)[0];
            supervisor.handle_ended(now, probe, End::DialFailed);
            assert_eq!(supervisor.serving(), 1);
        }
        supervisor.handle_drain();
        assert_eq!(
            supervisor.poll_output(),
            Output::Drain {
                id: old,
                index: ConnIndex(0)
            }
        );
        supervisor.handle_ended(now, old, End::Closed);
        assert_eq!(supervisor.poll_output(), Output::Finished);
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
        let (_, id, _) = dials(&mut supervisor)[0];
        supervisor.handle_registered(start, id);
        supervisor.handle_drain();
        let index = ConnIndex(0);
        assert_eq!(supervisor.poll_output(), Output::Drain { id, index });
        assert_eq!(supervisor.poll_output(), Output::Wait(None));
        supervisor.handle_ended(start, id, End::Closed);
        assert_eq!(supervisor.poll_output(), Output::Finished);
        assert_eq!(supervisor.poll_output(), Output::Wait(None));
    }
}
