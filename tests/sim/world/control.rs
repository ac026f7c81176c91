//! Control: what is written is decided, planned and told by its pure parts; this only commits to a disk,
//! keeps the order of `adit_control::state`, and passes on.
//!
//! ```text
//! write ─► decide ─► committing ─► on disk ─► published, acknowledged ─► deltas to edges
//!                        └ a crash here: on disk or not, and nobody knows
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use adit_control::change::{Decided, Decision, routes, tunnels};
use adit_control::facts::{Change, Facts};
use adit_control::plan::{PlanSettings, plan};
use adit_control::registrar::{Effect, Registrar, SessionId};
use adit_control_api::AccountTag;
use adit_control_api::edge_link::{Connection, EdgeInfo};
use adit_control_api::snapshot::{RouteSnapshot, TunnelEntry};
use adit_control_api::tunnel::CreateTunnel;
use adit_wire::{ConnectionId, TunnelId};
use time::OffsetDateTime;

use super::cable::{Cable, ToControl, ToEdge};
use super::clock::ms;
use super::fault::Fault;
use super::ledger::Ledger;

/// Replicas that a tunnel may have: more than there are, with those that have crashed and are not forgotten
/// yet.
const REPLICAS_MAX: u32 = 100;

/// A write asked of control.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) host: &'static str,
    /// Where it shall lead; nowhere for `None`.
    pub(super) tunnel: Option<TunnelId>,
}

/// What is being stored.
struct Commit {
    due: Instant,
    changes: Vec<Change>,
    write: Option<Write>,
}

/// The process.
pub(super) struct Control {
    facts: Facts,
    pub(super) snapshot: RouteSnapshot,
    /// When that was published.
    pub(super) published_at: Instant,
    registrar: Registrar,
    seats: BTreeMap<usize, Seat>,
    writes: VecDeque<Write>,
    /// Edges that wait for a generation above theirs.
    attaching: VecDeque<(usize, EdgeInfo)>,
    commit: Option<Commit>,
    fault: Option<Fault>,
}

/// An attached edge.
struct Seat {
    session: SessionId,
    held: RouteSnapshot,
}

/// The facts of a new installation.
pub(super) fn first_disk(hosts: &[&'static str], of: TunnelId, others: &[TunnelId]) -> Facts {
    let mut facts = Facts::default();
    for (number, tunnel) in [of].iter().chain(others).enumerate() {
        let request = CreateTunnel {
            name: format!("t{number}"),
            tunnel_secret: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into(),
        };
        let decided = tunnels::create(&facts, &account(), &request, *tunnel, OffsetDateTime::UNIX_EPOCH);
        store(&mut facts, changes(decided));
    }
    for host in hosts {
        let write = Write {
            host,
            tunnel: Some(of),
        };
        let decided = decide(&facts, &write);
        store(&mut facts, decided);
    }
    facts.generation = 1;
    facts
}

impl Control {
    /// Starts the process with what is on its disk.
    pub(super) fn start(disk: &Facts, now: Instant, fault: Option<Fault>) -> Self {
        Self {
            snapshot: planned(disk),
            facts: disk.clone(),
            published_at: now,
            registrar: Registrar::default(),
            seats: BTreeMap::new(),
            writes: VecDeque::new(),
            attaching: VecDeque::new(),
            commit: None,
            fault,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.commit.as_ref().map(|commit| commit.due)
    }

    /// Somebody calls the REST API; `takes` is how long the disk will need.
    pub(super) fn write(&mut self, now: Instant, write: Write, takes: Duration, ledger: &mut Ledger) {
        // Until it is acknowledged it may be the one or the other.
        ledger.acknowledged.remove(write.host);
        self.writes.push_back(write);
        self.commit_next(now, takes, ledger);
    }

    /// One write at a time, each decided on the facts after the one before.
    fn commit_next(&mut self, now: Instant, takes: Duration, ledger: &mut Ledger) {
        while self.commit.is_none() {
            let (mut changes, write) = if let Some((_, edge)) = self.attaching.front() {
                (vec![Change::Generation(edge.generation + 1)], None)
            } else if let Some(write) = self.writes.pop_front() {
                (decide(&self.facts, &write), Some(write))
            } else {
                return;
            };
            if let Some(write) = &write {
                if changes.is_empty() {
                    // Nothing is to be changed, or it was refused: what stands is the answer.
                    let tunnel = self.facts.routes.values();
                    let tunnel = tunnel.filter(|route| route.pattern.to_string() == write.host);
                    let tunnel = tunnel.map(|route| route.tunnel).next();
                    ledger.acknowledged.insert(write.host, tunnel);
                    continue;
                }
                changes.push(Change::Generation(self.facts.generation + 1));
                if self.fault == Some(Fault::AcknowledgedTooEarly) {
                    ledger.acknowledged.insert(write.host, write.tunnel);
                }
            }
            self.commit = Some(Commit {
                due: now + takes,
                changes,
                write,
            });
        }
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        disk: &mut Facts,
        cables: &mut [Option<Cable>],
        ledger: &mut Ledger,
    ) {
        self.registrar.handle_timeout(now);
        let Some(commit) = self.commit.take_if(|commit| commit.due <= now) else {
            return;
        };
        store(disk, commit.changes.clone());
        store(&mut self.facts, commit.changes);
        self.publish(now, cables);
        match commit.write {
            Some(write) => {
                ledger.acknowledged.insert(write.host, write.tunnel);
            }
            None => {
                for (index, edge) in std::mem::take(&mut self.attaching) {
                    // The next one may hold still more.
                    if edge.generation > self.snapshot.generation {
                        self.attaching.push_back((index, edge));
                    } else {
                        self.seat(now, index, &edge, cables);
                    }
                }
            }
        }
        self.commit_next(now, ms(10), ledger);
    }

    /// The process ends at once. What is being stored may be on the disk or not.
    pub(super) fn crash(self, disk: &mut Facts, is_stored: bool) {
        if let Some(commit) = self.commit.filter(|_| is_stored) {
            store(disk, commit.changes);
        }
    }

    fn publish(&mut self, now: Instant, cables: &mut [Option<Cable>]) {
        self.snapshot = planned(&self.facts);
        self.published_at = now;
        for (index, seat) in &mut self.seats {
            if let Some(cable) = &mut cables[*index]
                && self.snapshot.generation > seat.held.generation
            {
                cable.tell_edge(now, ToEdge::Delta(seat.held.delta_to(&self.snapshot)));
                seat.held = self.snapshot.clone();
            }
        }
    }

    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        index: usize,
        message: ToControl,
        cables: &mut [Option<Cable>],
        ledger: &mut Ledger,
    ) {
        let session = self.seats.get(&index).map(|seat| seat.session);
        let effects = match (message, session) {
            (ToControl::Attach(edge), _) => {
                let is_ahead = edge.generation > self.snapshot.generation;
                if is_ahead && !matches!(self.fault, Some(Fault::NeverRaised | Fault::OldTaken)) {
                    self.attaching.push_back((index, edge));
                    self.commit_next(now, ms(5), ledger);
                } else {
                    self.seat(now, index, &edge, cables);
                }
                return;
            }
            (ToControl::Register(connection, secret), Some(session)) => {
                let key = connection.key.clone();
                let decided = self
                    .registrar
                    .handle_register(session, connection, &secret, &self.snapshot);
                let (verdict, effects) = decided.expect("the session stands");
                if let Some(cable) = &mut cables[index] {
                    cable.tell_edge(now, ToEdge::Answer(key, verdict.outcome()));
                }
                effects
            }
            (ToControl::Unregister(key), Some(session)) => {
                let known = self.registrar.handle_unregister(session, &key);
                known.expect("the session stands");
                return;
            }
            (ToControl::Report(living), Some(session)) => {
                let told = self
                    .registrar
                    .handle_report(session, living, true, true, &self.snapshot);
                let (rejected, effects) = told.expect("the session stands");
                let rejected = rejected.into_iter().map(|rejection| rejection.key).collect();
                if let Some(cable) = &mut cables[index] {
                    cable.tell_edge(now, ToEdge::Rejected(rejected));
                }
                effects
            }
            (ToControl::Resync, Some(_)) => {
                if let (Some(cable), Some(seat)) = (&mut cables[index], self.seats.get_mut(&index)) {
                    cable.tell_edge(now, ToEdge::Snapshot(self.snapshot.clone()));
                    seat.held = self.snapshot.clone();
                }
                return;
            }
            // It was said over a cable whose edge has not been let in yet.
            (_, None) => return,
        };
        self.carry_out(now, effects, cables);
    }

    fn seat(&mut self, now: Instant, index: usize, edge: &EdgeInfo, cables: &mut [Option<Cable>]) {
        let (session, _) = self.registrar.handle_attach(edge, now).expect("few edges");
        let held = self.snapshot.clone();
        self.seats.insert(index, Seat { session, held });
        if let Some(cable) = &mut cables[index] {
            cable.tell_edge(now, ToEdge::Attached);
            cable.tell_edge(now, ToEdge::Snapshot(self.snapshot.clone()));
        }
    }

    /// The cable of an edge has broken.
    pub(super) fn detach(&mut self, now: Instant, index: usize) {
        self.attaching.retain(|(of, _)| *of != index);
        if let Some(seat) = self.seats.remove(&index) {
            self.registrar.handle_detach(seat.session, now);
        }
    }

    fn carry_out(&self, now: Instant, effects: Vec<Effect>, cables: &mut [Option<Cable>]) {
        for Effect { session, disconnect } in effects {
            let seat = self.seats.iter().find(|(_, seat)| seat.session == session);
            if let Some(cable) = seat.and_then(|(index, _)| cables[*index].as_mut()) {
                cable.tell_edge(now, ToEdge::Disconnect(disconnect));
            }
        }
    }

    /// Whether the edge is let in.
    pub(super) fn is_attached(&self, index: usize) -> bool {
        self.seats.contains_key(&index)
    }

    /// The connections that live, as far as control knows.
    pub(super) fn known(&self) -> Vec<ConnectionId> {
        let tunnels = self.snapshot.tunnels.keys();
        let replicas = tunnels.flat_map(|tunnel| self.registrar.replicas(*tunnel));
        let lives = replicas.flat_map(|(_, replica)| replica.connections.values());
        let mut known: Vec<_> = lives.map(|live| live.connection.key.connection).collect();
        known.sort_unstable();
        known
    }
}

/// What connectors of a tunnel present.
pub(super) fn entry(disk: &Facts, tunnel: TunnelId) -> TunnelEntry {
    planned(disk).tunnels[&tunnel].clone()
}

/// A connection as its edge describes it.
pub(super) fn connection(key: adit_control_api::edge_link::ConnectionKey, age: Duration) -> Connection {
    Connection {
        key,
        account: account(),
        version: "1".into(),
        arch: "linux_amd64".into(),
        features: Vec::new(),
        origin_address: [192, 0, 2, 1].into(),
        opened_at: std::time::SystemTime::UNIX_EPOCH + age,
    }
}

fn account() -> AccountTag {
    "acct".parse().expect("a tag")
}

fn planned(facts: &Facts) -> RouteSnapshot {
    let settings = PlanSettings {
        replicas_max: REPLICAS_MAX,
        management_key: None,
    };
    plan(facts, settings)
}

fn decide(facts: &Facts, write: &Write) -> Vec<Change> {
    let (account, host) = (account(), write.host);
    let held = facts
        .routes
        .values()
        .find(|route| route.pattern.to_string() == host);
    match (write.tunnel, held) {
        (Some(tunnel), _) => {
            let now = OffsetDateTime::UNIX_EPOCH;
            changes(routes::put(facts, &account, tunnel, host, true, now))
        }
        (None, Some(route)) => changes(routes::remove(facts, &account, route.tunnel, host)),
        (None, None) => Vec::new(),
    }
}

fn changes<T>(decided: Decided<T>) -> Vec<Change> {
    decided.map_or_else(|_| Vec::new(), |Decision { changes, .. }| changes)
}

fn store(facts: &mut Facts, changes: Vec<Change>) {
    for change in changes {
        facts.apply(change);
    }
}
