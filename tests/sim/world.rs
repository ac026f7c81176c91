//! A whole installation in one process: an edge, connectors with their origins, visitors, and the network
//! between, under a virtual clock.
//!
//! ```text
//! visitor ─► edge ── QUIC over a bad network ──► connector ─► origin
//! ```
//! The machines are the product's: quinn-proto with the driver's settings and its watch over silence, the
//! connector's supervisor, the edge's directory, steering, ejection and retries, the heads of exchanges,
//! ingress. What performs their effects is this folder's. What is not simulated is in
//! `docs/decisions/0026-simulated-world.md`.
//!
//! Each seed makes a world and its troubles: weather, cut paths, forgetful address translators, replicas that
//! crash, leave and come back, edges that restart, origins that refuse, hang or break off. While they last,
//! and after, properties are checked, not scripts: [`ledger`] has them.

mod clock;
mod connector;
mod edge;
mod fault;
mod host;
mod keys;
mod ledger;
mod network;
mod trouble;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adit_proto::limits::{IDLE_PING_INTERVAL, idle_timeout};
use adit_wire::{HostPattern, TunnelId};
use http::Method;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::seeds::{for_seeds, must_find};
use clock::{beginning, earlier, ms};
use connector::{Character, Connector, Mood};
use edge::{Edge, HEAD_LIMIT, RECONNECT_WAIT};
use fault::Fault;
use keys::Make;
use ledger::{Ledger, Outcome, REPLICAS_MAX, Request};
use network::{Network, Weather};

/// Worlds of one run.
const SEEDS: u64 = 500;

/// How long troubles last.
const TROUBLE: Duration = Duration::from_secs(25);

/// By when everything works again after that: a connection that nobody uses is known to be dead after its
/// idle timeout, and a connector may wait before it dials.
const RECOVERY: Duration = idle_timeout(IDLE_PING_INTERVAL).saturating_add(Duration::from_secs(15));

/// No request lives longer: a retry begins within ten seconds, and then an answer has to.
const REQUEST_LIMIT: Duration = Duration::from_secs(10)
    .saturating_add(RECONNECT_WAIT)
    .saturating_add(HEAD_LIMIT)
    .saturating_add(Duration::from_secs(1));

/// A world in which more happens than this never comes to rest.
const STEPS_MAX: usize = 200_000;

const TUNNEL: TunnelId = TunnelId(Uuid::from_u128(1));
const HOSTS: [&str; 2] = ["a.test", "b.test"];

/// Everything there is.
struct World {
    start: Instant,
    now: Instant,
    rng: SmallRng,
    network: Network,
    edge: Edge,
    connectors: Vec<Seat>,
    ledger: Ledger,
    /// Starts of processes so far; each has its own number.
    runs: u64,
    next_request: u64,
    steps: usize,
    fault: Option<Fault>,
}

/// Where a connector runs, now or again later.
struct Seat {
    character: Character,
    process: Option<Connector>,
    /// When it is started anew.
    start_at: Option<Instant>,
    mood: Mood,
}

impl World {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let start = beginning();
        let weather = Weather::any(&mut rng);
        let count = rng.random_range(1..REPLICAS_MAX);
        // One edge, reached at one or two addresses.
        let edges: Vec<_> = (1..=rng.random_range(1..=2)).map(edge_address).collect();
        let connectors = (0..count).map(|number| {
            let hosts = match rng.random_range(0..4) {
                0 if number > 0 => vec![HOSTS[rng.random_range(0..2)]],
                _ => HOSTS.to_vec(),
            };
            Seat {
                character: Character {
                    number,
                    tunnel: TUNNEL,
                    make: [Make::Ours, Make::Ours, Make::Stock][rng.random_range(0..3)],
                    hosts,
                    edges: edges.clone(),
                },
                process: None,
                start_at: Some(start + ms(rng.random_range(0..2_000))),
                mood: Mood::Well(ms(rng.random_range(1..300))),
            }
        });
        let connectors: Vec<Seat> = connectors.collect();
        let mut ledger = Ledger::default();
        for (hosts, seat) in ledger.hosts.iter_mut().zip(&connectors) {
            hosts.clone_from(&seat.character.hosts);
        }
        let mut world = Self {
            start,
            now: start,
            network: Network::new(rng.random(), weather),
            edge: Edge::start(edge_address(1), start, 0, fault),
            connectors,
            ledger,
            runs: 0,
            next_request: 0,
            steps: 0,
            fault,
            rng,
        };
        world.route();
        world
    }

    /// Runs the troubles of the seed and what comes after them. Returns what tells two worlds apart.
    fn run(mut self) -> (usize, u64, Vec<Duration>) {
        self.trouble();
        self.mend();
        self.run_until(self.now + RECOVERY);
        self.ledger.check_ended(self.now, REQUEST_LIMIT);
        self.check_well();
        let entries = self.ledger.entries.values();
        let ends = entries.filter_map(|entry| Some(entry.outcome?.0 - self.start));
        (self.steps, self.network.sent(), ends.collect())
    }

    /// Everything works: each hostname is served, whatever is asked.
    fn check_well(&mut self) {
        let first = self.next_request;
        for (host, method) in [(HOSTS[0], Method::GET), (HOSTS[1], Method::POST)] {
            self.ask(host, method, 1_000);
        }
        self.run_until(self.now + Duration::from_secs(5));
        for number in first..self.next_request {
            let entry = &self.ledger.entries[&number];
            let answered = entry.outcome.map(|(_, outcome)| outcome);
            let Some(Outcome::Answered { status: 200, replica }) = answered else {
                panic!("after all troubles {entry:?}");
            };
            assert!(
                self.connectors[replica]
                    .character
                    .hosts
                    .contains(&entry.request.host)
            );
        }
    }

    fn ask(&mut self, host: &'static str, method: Method, body_bytes: usize) {
        let request = Request {
            number: self.next_request,
            body_bytes: if method == Method::GET { 0 } else { body_bytes },
            method,
            host,
        };
        self.next_request += 1;
        self.note_ways();
        self.ledger.begin(self.now, request.clone());
        self.edge.ask(self.now, request, &mut self.ledger);
        self.settle();
    }

    /// Lets time pass until then.
    fn run_until(&mut self, until: Instant) {
        self.settle();
        while let Some(next) = self.next().filter(|next| *next <= until) {
            assert!(next >= self.now || self.steps > 0, "time runs back");
            self.now = next.max(self.now);
            self.steps += 1;
            assert!(self.steps < STEPS_MAX, "the world never comes to rest");
            self.step();
            self.settle();
        }
        self.now = until.max(self.now);
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let mut next = self.network.poll_timeout();
        next = earlier(next, self.edge.host.poll_timeout());
        next = earlier(next, self.edge.poll_timeout());
        for seat in &self.connectors {
            next = earlier(next, seat.start_at);
            if let Some(process) = &seat.process {
                next = earlier(next, process.host.poll_timeout());
                next = earlier(next, process.poll_timeout());
            }
        }
        next
    }

    /// Does what is due by now.
    fn step(&mut self) {
        let now = self.now;
        while let Some(packet) = self.network.receive(now) {
            // Both addresses of an edge have its port.
            if packet.to.port() == edge_address(1).port() {
                self.edge.host.receive(now, packet);
            } else {
                let processes = self
                    .connectors
                    .iter_mut()
                    .filter_map(|seat| seat.process.as_mut());
                for process in processes.filter(|process| process.host.address == packet.to) {
                    process.host.receive(now, packet.clone());
                }
            }
        }
        self.edge.host.expire(now);
        self.edge.handle_timeout(now, &mut self.ledger);
        for number in 0..self.connectors.len() {
            let seat = &mut self.connectors[number];
            if let Some(process) = &mut seat.process {
                process.host.expire(now);
                process.handle_timeout(now, &mut self.ledger);
            }
            if seat.start_at.is_some_and(|at| at <= now) {
                self.start_connector(number);
            }
        }
    }

    /// Lets every machine act on what has happened, until none has anything to do at once.
    fn settle(&mut self) {
        let now = self.now;
        loop {
            self.edge.host.dispatch();
            while let Some(event) = self.edge.host.poll_event() {
                self.edge.handle_event(now, event, &mut self.ledger);
            }
            self.edge.host.transmit(now, &mut self.network);
            let mut is_settled = self.edge.host.is_settled();
            for process in self
                .connectors
                .iter_mut()
                .filter_map(|seat| seat.process.as_mut())
            {
                process.host.dispatch();
                while let Some(event) = process.host.poll_event() {
                    process.handle_event(now, event, &mut self.ledger);
                }
                process.host.transmit(now, &mut self.network);
                is_settled &= process.host.is_settled();
            }
            if is_settled {
                break;
            }
        }
        self.bury();
        self.note_ways();
        self.ledger.check_new();
    }

    /// Processes that have left in order are gone, and start anew a moment later.
    fn bury(&mut self) {
        for seat in &mut self.connectors {
            let has_left = seat.process.as_ref().is_some_and(|process| process.has_left);
            if has_left {
                seat.process = None;
                seat.start_at.get_or_insert(self.now + ms(200));
            }
        }
    }

    /// Notes which replicas are no sure way to an answer.
    fn note_ways(&mut self) {
        let bad = self.ledger.bad_at.iter_mut().zip(&self.connectors);
        for (bad, seat) in bad {
            let is_sure = seat.process.as_ref().is_some_and(|process| {
                let is_open = |edge: &SocketAddr| self.network.is_open(process.host.address.ip(), edge.ip());
                let mut lives = self.edge.directory.of(TUNNEL, Some(process.id)).peekable();
                matches!(process.origin, Mood::Well(_))
                    && !process.is_leaving
                    && seat.character.edges.iter().all(is_open)
                    && lives.peek().is_some()
                    && lives.all(|live| !live.is_doubted && !live.is_draining)
            });
            if !is_sure || bad.is_none() {
                *bad = Some(self.now);
            }
        }
    }

    fn route(&mut self) {
        for host in HOSTS {
            let pattern: HostPattern = host.parse().expect("a hostname");
            self.edge.routes.insert(pattern, TUNNEL);
        }
    }

    fn start_connector(&mut self, number: usize) {
        self.runs += 1;
        let port = 40_000 + u16::try_from(self.runs).expect("few starts");
        let seat = &mut self.connectors[number];
        let address = SocketAddr::from(([10, 1, 0, number as u8 + 1], port));
        self.network.translate(address);
        let mut process = Connector::start(seat.character.clone(), address, self.now, self.runs);
        process.origin = seat.mood;
        seat.start_at = None;
        seat.process = Some(process);
    }
}

fn edge_address(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 7844).into()
}

#[test]
fn requests_end_once_and_well_whatever_happens() {
    for_seeds(SEEDS, |seed| {
        World::new(seed, None).run();
    });
}

#[test]
fn a_seed_makes_the_same_world_each_time() {
    for_seeds(20, |seed| {
        let [first, second] = [(); 2].map(|()| World::new(seed, None).run());
        assert_eq!(first, second);
    });
}

/// Seeds in which a fault put in on purpose must be found.
const FAULT_SEEDS: u64 = 100;

fn finds(fault: Fault, words: &str) {
    must_find(FAULT_SEEDS, words, |seed| {
        World::new(seed, Some(fault)).run();
    });
}

#[test]
fn a_world_finds_a_steering_that_forgets_who_drains() {
    finds(Fault::DrainingIgnored, "goes to a draining replica");
}

#[test]
fn a_world_finds_a_post_that_is_sent_twice() {
    finds(Fault::PostRetried, "a POST, reached origins");
}

#[test]
fn a_world_finds_a_retry_of_what_was_answered() {
    finds(Fault::AnsweredRetried, "is answered twice");
}

#[test]
fn a_world_finds_a_request_for_the_wrong_replica() {
    finds(Fault::HostsIgnored, "that does not serve");
}

#[test]
fn a_world_finds_a_request_that_never_ends() {
    finds(Fault::LossForgotten, "has not ended after");
}

#[test]
fn a_world_finds_a_request_that_is_given_up_too_early() {
    finds(Fault::NeverRetried, "had a way through replicas");
}
