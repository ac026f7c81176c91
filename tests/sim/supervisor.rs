//! A connector's supervisor against edges that refuse, keep silent, flap and restart.
//!
//! The world is a list of pending answers with due times on a virtual clock. Each edge has a mood that
//! changes at random; after a while all edges are well, and the replica must be whole soon after.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adit_proto::backoff::WAIT_MIN;
use adit_proto::supervisor::{End, Output, Plan, Supervisor};
use adit_wire::ConnIndex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::seeds::for_seeds;

/// Seeds of one run.
const SEEDS: u64 = 2_000;

/// How long edges are moody.
const TROUBLE: Duration = Duration::from_secs(300);

/// By when a replica is whole again: two of the longest waits and handshakes, and the spacing of starts.
const RECOVERY: Duration = Duration::from_secs(120);

/// How an edge treats connectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// Handshakes fail at once.
    Refusing,
    /// Handshakes never end; the dialler gives up after 5 s.
    Silent,
    /// Registrations fail.
    Rejecting,
    /// Registers and closes soon after.
    Flapping,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Registered,
    Ended(End),
}

/// What the simulation knows of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Idle,
    Dialing,
    Serving,
}

struct World {
    start: Instant,
    now: Instant,
    rng: SmallRng,
    supervisor: Supervisor,
    moods: BTreeMap<SocketAddr, Mood>,
    slots: Vec<Slot>,
    addresses: BTreeMap<u8, SocketAddr>,
    /// Due time, order of making, slot, answer.
    pending: BTreeMap<(Instant, u64), (ConnIndex, Answer)>,
    made: u64,
    has_registered: bool,
    is_draining: bool,
    is_finished: bool,
    /// When each slot last failed, to see that it waits.
    failed_at: BTreeMap<u8, Instant>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let edges: u16 = rng.random_range(1..=8);
        let connections = rng.random_range(1..=6);
        let addresses: Vec<SocketAddr> = (1..=edges).map(|port| ([10, 0, 0, 1], port).into()).collect();
        let plan = Plan {
            addresses: addresses.clone(),
            connections,
            spacing: Duration::from_secs(1),
            retries: 5,
        };
        let start = an_instant();
        let supervisor = Supervisor::new(&plan, start, seed);
        let count = supervisor.count();
        assert_eq!(count, connections.min(usize::from(edges)));
        Self {
            start,
            now: start,
            supervisor,
            moods: addresses
                .iter()
                .map(|&address| (address, mood(&mut rng)))
                .collect(),
            rng,
            slots: vec![Slot::Idle; count],
            addresses: BTreeMap::new(),
            pending: BTreeMap::new(),
            made: 0,
            has_registered: false,
            is_draining: false,
            is_finished: false,
            failed_at: BTreeMap::new(),
        }
    }

    /// Runs until `until` of virtual time, or until nothing can happen any more.
    fn run(&mut self, until: Instant) {
        loop {
            self.supervisor.handle_timeout(self.now);
            let wake = self.drain_outputs();
            let next_answer = self.pending.keys().next().map(|key| key.0);
            let next = [wake, next_answer].into_iter().flatten().min();
            let Some(next) = next.filter(|&next| next <= until) else {
                self.now = until.max(self.now);
                return;
            };
            assert!(
                next >= self.now || wake.is_none_or(|wake| wake <= self.now),
                "time runs back"
            );
            self.now = next.max(self.now);
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.pending.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let (index, answer) = entry.remove();
            let at = usize::from(index.0);
            match answer {
                Answer::Registered if self.slots[at] == Slot::Dialing => {
                    self.slots[at] = Slot::Serving;
                    self.has_registered = true;
                    self.supervisor.handle_registered(self.now, index);
                }
                Answer::Ended(end) if self.slots[at] != Slot::Idle => {
                    self.slots[at] = Slot::Idle;
                    self.failed_at.insert(index.0, self.now);
                    self.supervisor.handle_ended(self.now, index, end);
                }
                Answer::Registered | Answer::Ended(_) => {}
            }
            // The contract: drained after each change.
            self.drain_outputs();
        }
    }

    fn drain_outputs(&mut self) -> Option<Instant> {
        loop {
            match self.supervisor.poll_output() {
                Output::Dial { index, address, .. } => self.on_dial(index, address),
                Output::Drain { index } => {
                    self.pending.retain(|_, (of, _)| *of != index);
                    self.answer(index, Duration::from_millis(50), Answer::Ended(End::Closed));
                }
                Output::Retry { .. } => {}
                Output::Finished => {
                    assert!(!self.is_finished, "finished twice");
                    self.is_finished = true;
                }
                Output::Wait(until) => return until,
            }
        }
    }

    fn on_dial(&mut self, index: ConnIndex, address: SocketAddr) {
        let at = usize::from(index.0);
        assert!(!self.is_draining, "a dial while draining");
        assert_eq!(self.slots[at], Slot::Idle, "slot {at} dials twice at once");
        assert!(
            self.has_registered || at == 0,
            "slot {at} dials before slot 0 was registered"
        );
        if let Some(failed_at) = self.failed_at.get(&index.0) {
            assert!(
                self.now >= *failed_at + WAIT_MIN,
                "slot {at} does not wait after a failure"
            );
        }
        self.slots[at] = Slot::Dialing;
        self.addresses.insert(index.0, address);
        self.check_addresses_differ();
        let mood = self.moods[&address];
        let trip = Duration::from_millis(self.rng.random_range(1..200));
        match mood {
            Mood::Well => self.answer(index, trip, Answer::Registered),
            Mood::Refusing => self.answer(index, trip, Answer::Ended(End::DialFailed)),
            Mood::Silent => self.answer(index, Duration::from_secs(5), Answer::Ended(End::DialFailed)),
            Mood::Rejecting => self.answer(index, trip, Answer::Ended(End::Refused)),
            Mood::Flapping => {
                self.answer(index, trip, Answer::Registered);
                let end = if self.rng.random_bool(0.5) {
                    End::Closed
                } else {
                    End::Silent
                };
                self.answer(index, trip + Duration::from_secs(3), Answer::Ended(end));
            }
        }
    }

    /// All addresses are different here, so no two slots may share one.
    fn check_addresses_differ(&self) {
        let active = self
            .addresses
            .iter()
            .filter(|(at, _)| self.slots[usize::from(**at)] != Slot::Idle);
        let mut seen = BTreeSet::new();
        for (_, address) in active {
            assert!(seen.insert(address), "two slots at {address}");
        }
    }

    fn answer(&mut self, index: ConnIndex, after: Duration, answer: Answer) {
        self.made += 1;
        self.pending
            .insert((self.now + after, self.made), (index, answer));
    }

    /// An edge changes its mood; one that gets worse closes or forgets what it has.
    fn change_mood(&mut self) {
        let chosen = self.rng.random_range(0..self.moods.len());
        let Some(address) = self.moods.keys().nth(chosen).copied() else {
            return;
        };
        let new = mood(&mut self.rng);
        self.moods.insert(address, new);
        let held: Vec<u8> = self
            .addresses
            .iter()
            .filter(|(_, at)| **at == address)
            .map(|(i, _)| *i)
            .collect();
        for index in held {
            if new != Mood::Well && self.slots[usize::from(index)] == Slot::Serving {
                self.answer(
                    ConnIndex(index),
                    Duration::from_millis(10),
                    Answer::Ended(End::Silent),
                );
            }
        }
    }

    fn trouble(&mut self) {
        while self.now < self.start + TROUBLE {
            let pause = Duration::from_millis(self.rng.random_range(10..20_000));
            self.run(self.now + pause);
            self.change_mood();
        }
    }

    fn serving(&self) -> usize {
        self.slots.iter().filter(|slot| **slot == Slot::Serving).count()
    }
}

fn mood(rng: &mut SmallRng) -> Mood {
    match rng.random_range(0..6) {
        0 => Mood::Refusing,
        1 => Mood::Silent,
        2 => Mood::Rejecting,
        3 => Mood::Flapping,
        _ => Mood::Well,
    }
}

/// Any instant: the simulation only adds to it.
fn an_instant() -> Instant {
    Instant::now()
}

#[test]
fn a_replica_is_whole_again_after_any_trouble() {
    for_seeds(SEEDS, |seed| {
        let mut world = World::new(seed);
        world.trouble();
        for mood in world.moods.values_mut() {
            *mood = Mood::Well;
        }
        world.run(world.now + RECOVERY);
        assert_eq!(world.serving(), world.slots.len());
        assert_eq!(world.supervisor.serving(), world.slots.len());
    });
}

#[test]
fn a_drain_ends_from_any_state_and_dials_no_more() {
    for_seeds(SEEDS, |seed| {
        let mut world = World::new(seed);
        let moment = Duration::from_millis(world.rng.random_range(0..60_000));
        world.run(world.start + moment);
        world.change_mood();
        world.is_draining = true;
        world.supervisor.handle_drain();
        world.run(world.now + Duration::from_secs(1));
        assert!(world.is_finished);
        assert_eq!(world.serving(), 0);
    });
}

#[test]
fn a_dead_edge_is_not_asked_often() {
    for_seeds(SEEDS / 10, |seed| {
        let mut world = World::new(seed);
        for mood in world.moods.values_mut() {
            *mood = Mood::Refusing;
        }
        let hour = Duration::from_secs(3600);
        world.run(world.start + hour);
        // Slot 0 alone probes, on average once per second.
        let dials = world.made;
        assert!(dials < 4 * hour.as_secs(), "{dials} dials in an hour");
        assert!(!world.has_registered);
    });
}
