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

mod cable;
mod clock;
mod connector;
mod control;
mod edge;
mod installation;
mod fault;
mod found;
mod host;
mod keys;
mod ledger;
mod network;
mod trouble;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use adit_control::facts::Facts;
use adit_control_api::snapshot::{RouteSnapshot, RouteTarget};
use adit_proto::limits::{IDLE_PING_INTERVAL, idle_timeout};
use adit_wire::TunnelId;
use http::Method;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::seeds::{for_seeds, for_seeds_at_once};
use cable::Cable;
use clock::{beginning, earlier, ms};
use connector::{Character, Connector, Mood};
use control::Control;
use edge::{Edge, HEAD_LIMIT, RECONNECT_WAIT};
use fault::Fault;
use keys::Make;
use ledger::{EDGES_MAX, Ledger, Outcome, REPLICAS_MAX, Request, STEADY};
use network::{Network, Weather};

/// Worlds of one run: about 20 s on two slow cores.
const SEEDS: u64 = 2_000;

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

/// Where steady hostnames lead, and where others may.
const TUNNELS: [TunnelId; 2] = [TunnelId(Uuid::from_u128(1)), TunnelId(Uuid::from_u128(2))];

/// Hostnames that are written while the world goes on.
const WRITTEN: [&str; 2] = ["c.test", "d.test"];

/// By when an edge that is attached serves the last change.
const CONVERGED: Duration = Duration::from_secs(2);

/// Everything there is.
struct World {
    start: Instant,
    now: Instant,
    rng: SmallRng,
    network: Network,
    edges: Vec<Edge>,
    /// From each edge to control.
    cables: Vec<Option<Cable>>,
    control: Option<Control>,
    /// When control is started anew.
    control_at: Option<Instant>,
    /// What is on control's disk, and what was there some time ago.
    disk: Facts,
    backup: Facts,
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
        let count = rng.random_range(1..=EDGES_MAX);
        // One edge may be reached at two addresses.
        let places = if count == 1 { rng.random_range(1..=2) } else { 1 };
        let addresses = (0..count).flat_map(|edge| (0..places).map(move |place| edge_address(edge, place)));
        let connectors = characters(&mut rng, addresses.collect(), fault);
        let mut ledger = Ledger::default();
        for (hosts, character) in ledger.hosts.iter_mut().zip(&connectors) {
            hosts.clone_from(&character.hosts);
        }
        let seat = |character| Seat {
            character,
            process: None,
            start_at: Some(start + ms(rng.random_range(0..2_000))),
            mood: Mood::Well(ms(rng.random_range(1..300))),
        };
        let connectors = connectors.into_iter().map(seat).collect();
        let disk = control::first_disk(&STEADY, TUNNELS[0], &TUNNELS[1..]);
        let secret = control::entry(&disk, TUNNELS[0]).secret_digest;
        let edge = |number| {
            let place = (number, edge_address(number, 0));
            Edge::start(
                place,
                start,
                number as u64,
                RouteSnapshot::default(),
                secret,
                fault,
            )
        };
        Self {
            start,
            now: start,
            network: Network::new(rng.random(), weather),
            edges: (0..count).map(edge).collect(),
            cables: (0..count).map(|_| None).collect(),
            control: Some(Control::start(&disk, start, fault)),
            control_at: None,
            backup: disk.clone(),
            disk,
            connectors,
            ledger,
            runs: EDGES_MAX as u64,
            next_request: 0,
            steps: 0,
            fault,
            rng,
        }
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

    /// Everything works: each hostname is served by each edge, whatever is asked, and all know the same.
    fn check_well(&mut self) {
        self.check_known();
        let first = self.next_request;
        for edge in 0..self.edges.len() {
            self.ask(edge, STEADY[0], Method::GET, 0);
            self.ask(edge, STEADY[1], Method::POST, 1_000);
        }
        self.run_until(self.now + Duration::from_secs(5));
        for number in first..self.next_request {
            let entry = &self.ledger.entries[&number];
            let answered = entry.outcome.map(|(_, outcome)| outcome);
            let is_well = matches!(answered, Some(Outcome::Answered { status: 200, .. }));
            assert!(is_well, "after all troubles {entry:?}");
        }
    }

    /// Edges route as control says, and control knows what lives.
    fn check_known(&self) {
        let control = self.control.as_ref().expect("it was started again");
        let mut living = Vec::new();
        for edge in &self.edges {
            assert!(
                edge.snapshot.same_content(&control.snapshot),
                "an edge holds something else"
            );
            living.extend(edge.living.keys().copied());
        }
        living.sort_unstable();
        assert_eq!(
            living,
            control.known(),
            "what lives on edges, and what control knows"
        );
        self.check_acknowledged();
    }

    /// No acknowledged write is lost.
    fn check_acknowledged(&self) {
        let Some(control) = &self.control else { return };
        for (host, tunnel) in &self.ledger.acknowledged {
            let pattern = host.parse().expect("a hostname");
            let stands = control.snapshot.routes.get(&pattern);
            let stands = stands.and_then(RouteTarget::tunnel);
            assert_eq!(stands, *tunnel, "the acknowledged write of {host} is lost");
        }
    }

    fn ask(&mut self, edge: usize, host: &'static str, method: Method, body_bytes: usize) {
        let request = Request {
            number: self.next_request,
            body_bytes: if method == Method::GET { 0 } else { body_bytes },
            method,
            host,
        };
        self.next_request += 1;
        self.note_ways();
        self.ledger.begin(self.now, edge, request.clone());
        self.edges[edge].ask(self.now, request, &mut self.ledger);
        self.settle();
    }

    /// Lets time pass until then.
    fn run_until(&mut self, until: Instant) {
        self.settle();
        while let Some(next) = self.next().filter(|next| *next <= until) {
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
        let mut next = earlier(self.network.poll_timeout(), self.control_at);
        next = earlier(next, self.control.as_ref().and_then(Control::poll_timeout));
        for cable in self.cables.iter().flatten() {
            next = earlier(next, cable.poll_timeout());
        }
        for edge in &self.edges {
            next = earlier(next, edge.host.poll_timeout());
            next = earlier(next, edge.poll_timeout());
        }
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
            let of = self.edges.iter_mut().enumerate();
            let mut edges = of.filter(|(number, _)| edge_of(packet.to) == Some(*number));
            if let Some((_, edge)) = edges.next() {
                edge.host.receive(now, packet);
                continue;
            }
            let processes = self
                .connectors
                .iter_mut()
                .filter_map(|seat| seat.process.as_mut());
            for process in processes.filter(|process| process.host.address == packet.to) {
                process.host.receive(now, packet.clone());
            }
        }
        self.step_control();
        for edge in &mut self.edges {
            edge.host.expire(now);
            edge.handle_timeout(now, &mut self.ledger);
        }
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
            let mut is_settled = true;
            for edge in &mut self.edges {
                edge.host.dispatch();
                while let Some(event) = edge.host.poll_event() {
                    edge.handle_event(now, event, &mut self.ledger);
                }
                edge.host.transmit(now, &mut self.network);
                is_settled &= edge.host.is_settled();
            }
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
        self.settle_control();
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
        for (edge, bad) in self.edges.iter().zip(&mut self.ledger.bad_at) {
            for (bad, seat) in bad.iter_mut().zip(&self.connectors) {
                let is_sure = seat.process.as_ref().is_some_and(|process| {
                    let place = process.host.address.ip();
                    let is_open = |edge: &SocketAddr| self.network.is_open(place, edge.ip());
                    let mut lives = edge.directory.of(TUNNELS[0], Some(process.id)).peekable();
                    matches!(process.origin, Mood::Well(_))
                        && !process.is_leaving
                        && seat.character.edges.iter().all(is_open)
                        && edge.snapshot.generation > 0
                        && lives.peek().is_some()
                        && lives.all(|live| !live.is_doubted && !live.is_draining)
                });
                if !is_sure || bad.is_none() {
                    *bad = Some(self.now);
                }
            }
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

/// An edge's address; it may have two.
fn edge_address(number: usize, place: u8) -> SocketAddr {
    ([10, 0, number as u8, place], 7844).into()
}

/// The edge with this address.
fn edge_of(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) if ip.octets()[..2] == [10, 0] => Some(ip.octets()[2].into()),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Connectors of the tunnel of steady hostnames, and perhaps one of the other. Those that do not serve all
/// are ours: a stock one tells only one edge what it serves, and others take it for serving all.
fn characters(rng: &mut SmallRng, edges: Vec<SocketAddr>, fault: Option<Fault>) -> Vec<Character> {
    let count = rng.random_range(1..REPLICAS_MAX);
    let mut characters: Vec<_> = (0..count)
        .map(|number| {
            let steady = match rng.random_range(0..4) {
                0 if number > 0 => &STEADY[rng.random_range(0..2)..][..1],
                _ => &STEADY[..],
            };
            let make = match rng.random_range(0..3) {
                0 if steady.len() == STEADY.len() => Make::Stock,
                _ => Make::Ours,
            };
            Character {
                number,
                tunnel: TUNNELS[0],
                tells_each: make == Make::Ours && fault != Some(Fault::HostsToldOnce),
                make,
                hosts: [steady, &WRITTEN].concat(),
                edges: edges.clone(),
            }
        })
        .collect();
    if rng.random() {
        characters.push(Character {
            number: count,
            tunnel: TUNNELS[1],
            make: Make::Ours,
            tells_each: true,
            hosts: WRITTEN.to_vec(),
            edges,
        });
    }
    characters
}

#[test]
fn requests_end_once_and_well_whatever_happens() {
    for_seeds_at_once(SEEDS, |seed| {
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
