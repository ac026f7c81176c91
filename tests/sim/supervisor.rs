//! A connector's supervisor against edges that refuse, keep silent, flap and restart.
//!
//! Some worlds allow both transports, and UDP is blocked there for a while. The world is a list of pending
//! answers with due times on a virtual clock. Each edge has a mood that changes at random. After a while all
//! edges are well, and the replica must be whole soon after.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adit_proto::backoff::WAIT_MIN;
use adit_proto::supervisor::transport::PROBE_INTERVAL_MAX;
use adit_proto::supervisor::{AttemptId, End, Output, Plan, Protocol, Supervisor, Transport};
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

/// What the simulation knows of an attempt.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    index: ConnIndex,
    address: SocketAddr,
    protocol: Protocol,
    is_serving: bool,
}

struct World {
    start: Instant,
    now: Instant,
    rng: SmallRng,
    supervisor: Supervisor,
    moods: BTreeMap<SocketAddr, Mood>,
    transport: Transport,
    /// Whether UDP gets through.
    is_udp_open: bool,
    count: usize,
    /// Those that have not ended.
    attempts: BTreeMap<AttemptId, Attempt>,
    /// Due time, order of making, attempt, answer.
    pending: BTreeMap<(Instant, u64), (AttemptId, Answer)>,
    /// Every attempt there was; no two have one id.
    dialled: BTreeSet<AttemptId>,
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
        let transport = match rng.random_range(0..3) {
            0 => Transport::Only(Protocol::Quic),
            1 => Transport::Only(Protocol::Http2),
            _ => Transport::Auto,
        };
        let addresses: Vec<SocketAddr> = (1..=edges).map(|port| ([10, 0, 0, 1], port).into()).collect();
        let plan = Plan {
            addresses: addresses.clone(),
            connections,
            spacing: Duration::from_secs(1),
            retries: 5,
            transport,
            dial_failures_max: rng.random_range(0..4),
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
            transport,
            is_udp_open: true,
            count,
            attempts: BTreeMap::new(),
            dialled: BTreeSet::new(),
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
            let (id, answer) = entry.remove();
            // A probe whose slot has lost its connection meanwhile is an attempt like any other.
            match (answer, self.attempts.get(&id).copied()) {
                (Answer::Registered, Some(attempt)) if !attempt.is_serving => self.register(id, attempt),
                (Answer::Ended(end), Some(attempt)) => {
                    self.attempts.remove(&id);
                    self.failed_at.insert(attempt.index.0, self.now);
                    self.supervisor.handle_ended(self.now, id, end);
                }
                (Answer::Registered | Answer::Ended(_), _) => {}
            }
            // The contract: drained after each change.
            self.drain_outputs();
        }
    }

    /// A probe tells the connection it replaces to leave, and that one says so before or after.
    fn register(&mut self, id: AttemptId, attempt: Attempt) {
        let older = self
            .attempts
            .iter()
            .find(|(other, older)| **other != id && older.index == attempt.index && older.is_serving);
        let older = older.map(|(older, _)| *older);
        if let Some(older) = older {
            assert_eq!(attempt.protocol, Protocol::Quic, "only QUIC replaces");
            assert_eq!(
                self.attempts[&older].protocol,
                Protocol::Http2,
                "only HTTP/2 is replaced"
            );
            self.attempts.remove(&older);
        }
        let is_left_first = self.rng.random_bool(0.5);
        if let Some(older) = older.filter(|_| is_left_first) {
            self.supervisor.handle_ended(self.now, older, End::Closed);
            self.drain_outputs();
        }
        if let Some(attempt) = self.attempts.get_mut(&id) {
            attempt.is_serving = true;
        }
        self.has_registered = true;
        self.supervisor.handle_registered(self.now, id);
        if let Some(older) = older.filter(|_| !is_left_first) {
            self.drain_outputs();
            self.supervisor.handle_ended(self.now, older, End::Closed);
        }
    }

    fn drain_outputs(&mut self) -> Option<Instant> {
        loop {
            match self.supervisor.poll_output() {
                Output::Dial {
                    id,
                    index,
                    address,
                    protocol,
                    replaces,
                    ..
                } => {
                    let attempt = Attempt {
                        index,
                        address,
                        protocol,
                        is_serving: false,
                    };
                    self.on_dial(id, attempt, replaces);
                }
                Output::Drain { id, .. } => {
                    self.pending.retain(|_, (of, _)| *of != id);
                    self.answer(id, Duration::from_millis(50), Answer::Ended(End::Closed));
                }
                Output::Retry { .. } => {}
                Output::Switch { .. } => assert_eq!(self.transport, Transport::Auto),
                Output::Finished => {
                    assert!(!self.is_finished, "finished twice");
                    self.is_finished = true;
                }
                Output::Wait(until) => return until,
            }
        }
    }

    fn on_dial(&mut self, id: AttemptId, attempt: Attempt, replaces: Option<AttemptId>) {
        let Attempt { index, address, .. } = attempt;
        assert!(!self.is_draining, "a dial while draining");
        assert!(self.dialled.insert(id), "two attempts have one id");
        let others: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, other)| other.index == index)
            .map(|(id, _)| *id)
            .collect();
        // A connection that is about to be lost may already be gone here.
        assert!(
            others.is_empty() || others == Vec::from_iter(replaces),
            "slot {} dials twice at once",
            index.0
        );
        if let Transport::Only(protocol) = self.transport {
            assert_eq!(attempt.protocol, protocol);
        }
        assert!(
            self.has_registered || index.0 == 0,
            "slot {} dials before slot 0 was registered",
            index.0
        );
        if let Some(failed_at) = self.failed_at.get(&index.0).filter(|_| replaces.is_none()) {
            assert!(
                self.now >= *failed_at + WAIT_MIN,
                "slot {} does not wait after a failure",
                index.0
            );
        }
        self.attempts.insert(id, attempt);
        self.check_addresses_differ();
        let mood = match (attempt.protocol, self.is_udp_open) {
            (Protocol::Quic, false) => Mood::Silent,
            (Protocol::Quic, true) | (Protocol::Http2, _) => self.moods[&address],
        };
        let trip = Duration::from_millis(self.rng.random_range(1..200));
        match mood {
            Mood::Well => self.answer(id, trip, Answer::Registered),
            Mood::Refusing => self.answer(id, trip, Answer::Ended(End::DialFailed)),
            Mood::Silent => self.answer(id, Duration::from_secs(5), Answer::Ended(End::DialFailed)),
            Mood::Rejecting => self.answer(id, trip, Answer::Ended(End::Refused)),
            Mood::Flapping => {
                self.answer(id, trip, Answer::Registered);
                let end = [End::Closed, End::Silent, End::Forgotten][self.rng.random_range(0..3)];
                self.answer(id, trip + Duration::from_secs(3), Answer::Ended(end));
            }
        }
    }

    /// All addresses are different here, so no two slots may share one.
    fn check_addresses_differ(&self) {
        let mut seen = BTreeMap::new();
        for attempt in self.attempts.values() {
            let slot = seen.entry(attempt.address).or_insert(attempt.index);
            assert_eq!(*slot, attempt.index, "two slots at {}", attempt.address);
        }
    }

    fn answer(&mut self, id: AttemptId, after: Duration, answer: Answer) {
        self.made += 1;
        self.pending.insert((self.now + after, self.made), (id, answer));
    }

    /// An edge changes its mood; one that gets worse closes or forgets what it has.
    fn change_mood(&mut self) {
        let chosen = self.rng.random_range(0..self.moods.len());
        let Some(address) = self.moods.keys().nth(chosen).copied() else {
            return;
        };
        let new = mood(&mut self.rng);
        self.moods.insert(address, new);
        let lost = |attempt: &Attempt| attempt.is_serving && attempt.address == address && new != Mood::Well;
        self.lose(lost);
    }

    /// A firewall opens or closes for UDP. One that closes cuts what is there.
    fn change_firewall(&mut self) {
        self.is_udp_open = self.rng.random_bool(0.5);
        if !self.is_udp_open {
            self.lose(|attempt| attempt.is_serving && attempt.protocol == Protocol::Quic);
        }
    }

    fn lose(&mut self, is_lost: impl Fn(&Attempt) -> bool) {
        let lost = self.attempts.iter().filter(|(_, attempt)| is_lost(attempt));
        let lost: Vec<AttemptId> = lost.map(|(id, _)| *id).collect();
        for id in lost {
            self.answer(id, Duration::from_millis(10), Answer::Ended(End::Silent));
        }
    }

    fn trouble(&mut self) {
        while self.now < self.start + TROUBLE {
            let pause = Duration::from_millis(self.rng.random_range(10..20_000));
            self.run(self.now + pause);
            self.change_mood();
            if self.transport == Transport::Auto && self.rng.random_bool(0.2) {
                self.change_firewall();
            }
        }
    }

    fn serving(&self) -> usize {
        self.attempts
            .values()
            .filter(|attempt| attempt.is_serving)
            .count()
    }

    fn serving_over(&self, protocol: Protocol) -> usize {
        let serving = self.attempts.values().filter(|attempt| attempt.is_serving);
        serving.filter(|attempt| attempt.protocol == protocol).count()
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
        // Where UDP stays blocked, TCP has to do.
        world.run(world.now + RECOVERY);
        assert_eq!(world.serving(), world.count);
        assert_eq!(world.supervisor.serving(), world.count);
        if world.transport == Transport::Auto && !world.is_udp_open {
            assert_eq!(world.serving_over(Protocol::Http2), world.count);
        }
    });
}

#[test]
fn a_replica_is_back_at_quic_soon_after_udp_gets_through() {
    for_seeds(SEEDS, |seed| {
        let mut world = World::new(seed);
        world.is_udp_open = false;
        world.trouble();
        world.is_udp_open = true;
        for mood in world.moods.values_mut() {
            *mood = Mood::Well;
        }
        let probes = PROBE_INTERVAL_MAX + Duration::from_secs(10);
        let before = world.made;
        world.run(world.now + RECOVERY + probes);
        let expected = match world.transport {
            Transport::Only(protocol) => protocol,
            Transport::Auto => Protocol::Quic,
        };
        assert_eq!(world.serving_over(expected), world.count);
        assert_eq!(world.supervisor.serving(), world.count);
        assert!(world.made - before < 100, "{} answers", world.made - before);
    });
}

#[test]
fn a_blocked_network_is_probed_seldom_and_keeps_its_connections() {
    for_seeds(SEEDS / 10, |seed| {
        let mut world = World::new(seed);
        world.is_udp_open = false;
        for mood in world.moods.values_mut() {
            *mood = Mood::Well;
        }
        if world.transport != Transport::Auto {
            return;
        }
        world.run(world.start + RECOVERY);
        assert_eq!(world.serving_over(Protocol::Http2), world.count);
        let before = world.made;
        let hour = Duration::from_secs(3600);
        world.run(world.now + hour);
        assert_eq!(world.serving_over(Protocol::Http2), world.count);
        let probes = world.made - before;
        assert!((4..=16).contains(&probes), "{probes} probes in an hour");
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
