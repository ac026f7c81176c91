//! The registrar among edges that join, leave, fall silent and come back, connectors that hop between them,
//! and restarts of control.
//!
//! An edge keeps the truth about its own connections. A link of two queues, one per direction, runs between
//! an edge and control. Each queue keeps its order, but edges overtake each other, and a broken link loses
//! what was under way. An edge without a link decides registrations by itself, as real ones do.
//!
//! Checked after every step: no tunnel has more replicas than allowed; a connection that control accepted and
//! that still lives is known to control as long as its edge's link and report stand. Checked when all links
//! are up and all queues empty: control knows exactly what lives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use adit_control::registrar::{Registrar, SessionId};
use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{Connection, ConnectionKey, Disconnect, EdgeInfo, RegisterOutcome};
use adit_control_api::snapshot::{RouteSnapshot, TunnelEntry};
use adit_control_api::{ConnIndex, ConnectionId, ConnectorId, TunnelId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use crate::seeds::for_seeds;

const EDGES: usize = 4;
const TUNNELS: u128 = 2;
const CONNECTORS: u128 = 5;
const SLOTS: u8 = 2;
const REPLICAS_MAX: u32 = 3;
const STEPS: usize = 120;

type Slot = (TunnelId, ConnectorId, ConnIndex);

#[test]
fn registrations_converge_and_stay_within_the_limit() {
    for_seeds(20_000, |seed| World::new(seed).run());
}

struct World {
    rng: SmallRng,
    now: Instant,
    registrar: Registrar,
    snapshot: RouteSnapshot,
    edges: Vec<Edge>,
    next_connection: u128,
}

#[derive(Default)]
struct Edge {
    living: BTreeMap<Slot, Connection>,
    /// Accepted by control over the present link and not unregistered, cut off or rejected since.
    acknowledged: BTreeSet<ConnectionId>,
    link: Option<LinkState>,
}

struct LinkState {
    session: SessionId,
    to_control: VecDeque<Request>,
    to_edge: VecDeque<News>,
    /// Connections that lived when the link came up and are not told yet. Each part waits for the answer to
    /// the one before, and other requests overtake it.
    report: Vec<Connection>,
    report_done: bool,
}

impl LinkState {
    fn report_next(&mut self, first: bool) {
        let rest = self.report.split_off(self.report.len().min(2));
        let part = std::mem::replace(&mut self.report, rest);
        self.to_control.push_back(Request::Report {
            part,
            first,
            last: self.report.is_empty(),
        });
    }
}

enum Request {
    Register(Connection),
    Unregister(ConnectionKey),
    Report {
        part: Vec<Connection>,
        first: bool,
        last: bool,
    },
}

enum News {
    Answer(Connection, bool),
    Reported {
        rejected: Vec<ConnectionKey>,
        last: bool,
    },
    Disconnect(Disconnect),
}

impl World {
    fn new(seed: u64) -> Self {
        let entry = |n: u128| TunnelEntry {
            account: "acct".parse().expect("a tag"),
            name: format!("t{n}"),
            secret_digest: SecretDigest::of(b"secret"),
            remotely_managed: false,
            config_version: -1,
            replicas_max: REPLICAS_MAX,
        };
        Self {
            rng: SmallRng::seed_from_u64(seed),
            now: Instant::now(),
            registrar: Registrar::default(),
            snapshot: RouteSnapshot {
                tunnels: (0..TUNNELS)
                    .map(|n| (TunnelId(Uuid::from_u128(n)), entry(n)))
                    .collect(),
                ..RouteSnapshot::default()
            },
            edges: (0..EDGES).map(|_| Edge::default()).collect(),
            next_connection: 0,
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.step();
            self.check_always();
        }
        self.settle();
        self.check_settled();
    }

    fn step(&mut self) {
        let edge = self.rng.random_range(0..EDGES);
        match self.rng.random_range(0..100) {
            0..25 => self.dial(edge),
            25..35 => self.lose_connection(edge),
            35..60 => self.deliver_to_control(edge),
            60..85 => self.deliver_to_edge(edge),
            85..92 => self.attach(edge),
            92..95 => self.break_link(edge),
            95..97 => self.restart_edge(edge),
            97..98 => self.restart_control(),
            _ => {
                self.now += Duration::from_secs(self.rng.random_range(1..50));
                self.registrar.handle_timeout(self.now);
            }
        }
    }

    /// A connector opens a slot at an edge; a connection of that slot on the same edge ends by it.
    fn dial(&mut self, edge: usize) {
        self.next_connection += 1;
        let key = ConnectionKey {
            tunnel: TunnelId(Uuid::from_u128(self.rng.random_range(0..TUNNELS))),
            connector: ConnectorId(Uuid::from_u128(self.rng.random_range(0..CONNECTORS))),
            index: ConnIndex(self.rng.random_range(0..SLOTS)),
            connection: ConnectionId(Uuid::from_u128(self.next_connection)),
        };
        let connection = Connection {
            key,
            account: "acct".parse().expect("a tag"),
            version: "1".into(),
            arch: "linux_amd64".into(),
            features: Vec::new(),
            origin_address: "192.0.2.1".parse().expect("an address"),
            opened_at: SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(self.next_connection).unwrap_or(0)),
        };
        let edge = &mut self.edges[edge];
        match &mut edge.link {
            Some(link) => link.to_control.push_back(Request::Register(connection)),
            None => edge.take(connection),
        }
    }

    fn lose_connection(&mut self, edge: usize) {
        let edge = &mut self.edges[edge];
        if edge.living.is_empty() {
            return;
        }
        let nth = self.rng.random_range(0..edge.living.len());
        let slot = *edge.living.keys().nth(nth).expect("it is within the count");
        edge.close(&slot);
    }

    fn attach(&mut self, index: usize) {
        let info = EdgeInfo {
            name: format!("edge-{index}"),
            colo: "LAB".into(),
            region: "WEU".into(),
            run: Uuid::nil(),
            generation: 0,
            version: "0".into(),
        };
        let (session, _) = self.registrar.handle_attach(&info, self.now).expect("few edges");
        let edge = &mut self.edges[index];
        edge.lose_link();
        let living: Vec<_> = edge.living.values().cloned().collect();
        let mut link = LinkState {
            session,
            to_control: VecDeque::new(),
            to_edge: VecDeque::new(),
            report: living,
            report_done: false,
        };
        link.report_next(true);
        edge.link = Some(link);
    }

    fn break_link(&mut self, edge: usize) {
        let edge = &mut self.edges[edge];
        if let Some(session) = edge.lose_link() {
            self.registrar.handle_detach(session, self.now);
        }
    }

    fn restart_edge(&mut self, edge: usize) {
        self.break_link(edge);
        self.edges[edge].living.clear();
    }

    fn restart_control(&mut self) {
        self.registrar = Registrar::default();
        for edge in &mut self.edges {
            edge.lose_link();
        }
    }

    fn deliver_to_control(&mut self, index: usize) {
        let Some(link) = &mut self.edges[index].link else {
            return;
        };
        let session = link.session;
        let Some(request) = link.to_control.pop_front() else {
            return;
        };
        let secret = SecretDigest::of(b"secret");
        let (news, effects) = match request {
            Request::Register(connection) => {
                let answer =
                    self.registrar
                        .handle_register(session, connection.clone(), &secret, &self.snapshot);
                let (verdict, effects) = answer.expect("the session stands");
                let accepted = matches!(verdict.outcome(), RegisterOutcome::Accepted(_));
                (Some(News::Answer(connection, accepted)), effects)
            }
            Request::Unregister(key) => {
                self.registrar
                    .handle_unregister(session, &key)
                    .expect("the session stands");
                (None, Vec::new())
            }
            Request::Report { part, first, last } => {
                let newest = part.iter().map(|held| held.key.connection).max();
                let answer = self
                    .registrar
                    .handle_report(session, part, first, last, &self.snapshot);
                let (rejected, effects) = answer.expect("the session stands");
                let rejected = rejected.into_iter().map(|rejection| rejection.key).collect();
                for effect in &effects {
                    assert!(
                        effect.disconnect.connection < newest,
                        "a report ended a newer connection"
                    );
                }
                (Some(News::Reported { rejected, last }), effects)
            }
        };
        if let Some(link) = &mut self.edges[index].link {
            link.to_edge.extend(news);
        }
        for effect in effects {
            let told = self.edges.iter_mut().filter_map(|edge| edge.link.as_mut());
            for link in told.filter(|link| link.session == effect.session) {
                link.to_edge
                    .push_back(News::Disconnect(effect.disconnect.clone()));
            }
        }
    }

    fn deliver_to_edge(&mut self, index: usize) {
        let edge = &mut self.edges[index];
        let Some(news) = edge.link.as_mut().and_then(|link| link.to_edge.pop_front()) else {
            return;
        };
        match news {
            News::Answer(connection, true) => {
                let id = connection.key.connection;
                edge.take(connection);
                edge.acknowledged.insert(id);
            }
            News::Answer(_, false) => {}
            News::Reported { rejected, last } => {
                for key in rejected {
                    edge.close_exactly(|held| *held == key);
                }
                if let Some(link) = &mut edge.link {
                    link.report_done |= last;
                    if !last {
                        link.report_next(false);
                    }
                }
            }
            News::Disconnect(target) => edge.close_exactly(|held| {
                held.tunnel == target.tunnel
                    && target
                        .connector
                        .is_none_or(|connector| connector == held.connector)
                    && target
                        .connection
                        .is_none_or(|connection| connection == held.connection)
            }),
        }
    }

    /// Brings all links up and lets everything arrive.
    fn settle(&mut self) {
        for index in 0..EDGES {
            if self.edges[index].link.is_none() {
                self.attach(index);
            }
        }
        for _ in 0..10_000 {
            let busy: Vec<usize> = (0..EDGES).filter(|index| self.edges[*index].is_busy()).collect();
            if busy.is_empty() {
                return;
            }
            let index = busy[self.rng.random_range(0..busy.len())];
            if self.rng.random() {
                self.deliver_to_control(index)
            } else {
                self.deliver_to_edge(index)
            }
            self.check_always();
        }
        panic!("edges and control never fall silent");
    }

    fn known(&self) -> BTreeSet<ConnectionId> {
        (0..TUNNELS)
            .flat_map(|n| self.registrar.replicas(TunnelId(Uuid::from_u128(n))))
            .flat_map(|(_, replica)| replica.connections.values())
            .map(|live| live.connection.key.connection)
            .collect()
    }

    fn check_always(&self) {
        for n in 0..TUNNELS {
            let replicas = self.registrar.replicas(TunnelId(Uuid::from_u128(n))).count();
            assert!(
                replicas <= REPLICAS_MAX as usize,
                "tunnel {n} has {replicas} replicas"
            );
        }
        let known = self.known();
        for edge in &self.edges {
            let Some(link) = &edge.link else { continue };
            for connection in edge.living.values().filter(|held| edge.is_owed(link, held)) {
                let id = connection.key.connection;
                assert!(
                    known.contains(&id),
                    "control forgot the acknowledged connection {id}"
                );
            }
        }
    }

    fn check_settled(&self) {
        let living: BTreeSet<_> = self
            .edges
            .iter()
            .flat_map(|edge| edge.living.values())
            .map(|held| held.key.connection)
            .collect();
        assert_eq!(
            living,
            self.known(),
            "what lives on edges, and what control knows"
        );
    }
}

impl Edge {
    fn take(&mut self, connection: Connection) {
        let slot = (
            connection.key.tunnel,
            connection.key.connector,
            connection.key.index,
        );
        // Control has replaced the old one already; its word on it would come too late to matter.
        self.close(&slot);
        self.living.insert(slot, connection);
    }

    fn close(&mut self, slot: &Slot) {
        let Some(gone) = self.living.remove(slot) else {
            return;
        };
        self.acknowledged.remove(&gone.key.connection);
        if let Some(link) = &mut self.link {
            link.to_control.push_back(Request::Unregister(gone.key));
        }
    }

    fn close_exactly(&mut self, named: impl Fn(&ConnectionKey) -> bool) {
        let slots: Vec<Slot> = self
            .living
            .iter()
            .filter(|(_, held)| named(&held.key))
            .map(|(slot, _)| *slot)
            .collect();
        slots.iter().for_each(|slot| self.close(slot));
    }

    /// The link breaks: registrations that wait for control's word are decided here.
    fn lose_link(&mut self) -> Option<SessionId> {
        let link = self.link.take()?;
        self.acknowledged.clear();
        let answered = link.to_edge.into_iter().filter_map(|news| match news {
            News::Answer(connection, _) => Some(connection),
            News::Reported { .. } | News::Disconnect(_) => None,
        });
        let waiting = link.to_control.into_iter().filter_map(|request| match request {
            Request::Register(connection) => Some(connection),
            Request::Unregister(_) | Request::Report { .. } => None,
        });
        for connection in answered.chain(waiting).collect::<Vec<_>>() {
            self.take(connection);
        }
        Some(link.session)
    }

    fn is_busy(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| !link.to_control.is_empty() || !link.to_edge.is_empty())
    }

    /// Whether control must know this connection: it accepted it over this link, and has not asked for its
    /// end since.
    fn is_owed(&self, link: &LinkState, held: &Connection) -> bool {
        let ended = link.to_edge.iter().any(|news| match news {
            News::Disconnect(target) => target.connection.is_none_or(|id| id == held.key.connection),
            // A newer connection of the slot was accepted.
            News::Answer(newer, _) => {
                (newer.key.tunnel, newer.key.connector, newer.key.index)
                    == (held.key.tunnel, held.key.connector, held.key.index)
            }
            News::Reported { rejected, .. } => rejected.contains(&held.key),
        });
        link.report_done && self.acknowledged.contains(&held.key.connection) && !ended
    }
}
