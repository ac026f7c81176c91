//! The directories of an edge's cores while connectors come, go, reconnect on other cores and drain, and
//! while news between cores wait and overtake each other.
//!
//! A core owns the connections that registered on it and is the only one to tell of them, in order; what two
//! cores tell arrives at a third in any order. Routes come from control through a service thread that sees
//! them dropped, repeated and reordered.
//!
//! Checked after every step, on every core: the directory agrees with a naive list that gets the same news; a
//! chosen connection is neither draining nor late with an answer, serves the hostname and, if any does, the
//! path, was not tried before and lies as near as possible; look-ups of hostnames agree with a scan of all
//! patterns; generations never decrease. Checked when nothing is under way: every slot is held by its latest
//! connection, or by none if that one ended, and all cores agree.

use std::collections::{BTreeMap, VecDeque};

use adit_control_api::snapshot::{RouteSnapshot, RouteTarget, SnapshotDelta};
use adit_proto::directory::{Directory, Live, Served, Slot};
use adit_proto::host_map::HostMap;
use adit_proto::limits::EXCHANGES_PER_CONNECTION_MAX;
use adit_proto::steering::{Ask, NoConnection, PolicyName, Tried, choose};
use adit_wire::{ConnIndex, ConnectionId, ConnectorId, HostPattern, Hostname, TunnelId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use crate::seeds::for_seeds;

const CORES: usize = 3;
const TUNNELS: u128 = 2;
const CONNECTORS: u128 = 3;
const INDEXES: u8 = 2;
const STEPS: usize = 120;
const HOSTS: [&str; 4] = ["a.test", "b.test", "x.b.test", "y.x.b.test"];
/// Expressions of rules' paths, which stand for themselves; and paths that are asked for.
const EXPRESSIONS: [&str; 3] = ["/api", "/api/x", "png"];
const PATHS: [&str; 4] = ["/", "/api/x", "/a.png", "/api/a.png"];
const PATTERNS: [&str; 6] = ["a.test", "b.test", "*.b.test", "*.x.b.test", "*.test", "x.b.test"];

#[test]
fn cores_agree_on_who_lives_whatever_overtakes_what() {
    for_seeds(3_000, |seed| World::new(seed).run());
}

#[test]
fn routes_only_move_forward_and_look_up_as_a_scan_would() {
    for_seeds(2_000, |seed| Routes::new(seed).run());
}

/// Hostname and path of an ingress rule.
type Rule = (Option<&'static str>, Option<&'static str>);

#[derive(Clone)]
enum News {
    Joined(Live<u32>),
    Left(ConnectionId),
    Draining(ConnectionId),
    Doubted(ConnectionId, bool),
    Rules(TunnelId, ConnectorId, Vec<Rule>),
}

#[derive(Default)]
struct Core {
    directory: Directory<u32>,
    naive: Naive,
    /// Connections that live here.
    owned: Vec<ConnectionId>,
    /// News under way to this core, by the core that tells.
    inbox: [VecDeque<News>; CORES],
}

struct World {
    rng: SmallRng,
    cores: [Core; CORES],
    registered: u64,
    /// Every connection that ever registered, by slot, in order.
    history: BTreeMap<Slot, Vec<ConnectionId>>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            cores: Default::default(),
            registered: 0,
            history: BTreeMap::new(),
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            match self.rng.random_range(0..100) {
                0..25 => self.register(),
                25..33 => self.lose(),
                33..40 => self.drain(),
                40..47 => self.tell_hosts(),
                47..48 => self.restart(),
                48..54 => self.doubt(),
                _ => self.deliver(),
            }
            self.check();
        }
        while self
            .cores
            .iter()
            .any(|core| core.inbox.iter().any(|queue| !queue.is_empty()))
        {
            self.deliver();
            self.check();
        }
        self.check_settled();
    }

    /// A connector opens a slot on some core, whether or not its last connection there has ended.
    fn register(&mut self) {
        let slot = Slot {
            tunnel: TunnelId(Uuid::from_u128(self.rng.random_range(0..TUNNELS))),
            connector: ConnectorId(Uuid::from_u128(self.rng.random_range(0..CONNECTORS))),
            index: ConnIndex(self.rng.random_range(0..INDEXES)),
        };
        self.registered += 1;
        let core = self.rng.random_range(0..CORES);
        let load = [0, 1, 5, EXCHANGES_PER_CONNECTION_MAX][self.rng.random_range(0..4)];
        let live = Live {
            id: ConnectionId(Uuid::from_u128(self.registered.into())),
            slot,
            order: self.registered,
            core: u16::try_from(core).expect("few cores"),
            is_draining: false,
            is_doubted: false,
            carries_trailers: true,
            is_of_ours: true,
            handle: load,
        };
        self.history.entry(slot).or_default().push(live.id);
        self.cores[core].owned.push(live.id);
        self.tell(core, &News::Joined(live));
    }

    fn lose(&mut self) {
        if let Some((core, id)) = self.any_owned() {
            self.end(core, id);
        }
    }

    fn drain(&mut self) {
        if let Some((core, id)) = self.any_owned() {
            self.tell(core, &News::Draining(id));
        }
    }

    /// A connector is late with an answer, or heard again.
    fn doubt(&mut self) {
        let is_doubted = self.rng.random();
        if let Some((core, id)) = self.any_owned() {
            self.tell(core, &News::Doubted(id, is_doubted));
        }
    }

    fn tell_hosts(&mut self) {
        let Some((core, id)) = self.any_owned() else {
            return;
        };
        let Some(slot) = self.cores[core].directory.get(id).map(|live| live.slot) else {
            return;
        };
        let mut rules: Vec<Rule> = Vec::new();
        for _ in 0..self.rng.random_range(1..8) {
            let pattern = PATTERNS[self.rng.random_range(0..PATTERNS.len())];
            let expression = EXPRESSIONS[self.rng.random_range(0..EXPRESSIONS.len())];
            let expression = self.rng.random_bool(0.4).then_some(expression);
            rules.push((self.rng.random_bool(0.9).then_some(pattern), expression));
        }
        self.tell(core, &News::Rules(slot.tunnel, slot.connector, rules));
    }

    /// The whole edge starts anew; connectors come back by themselves.
    fn restart(&mut self) {
        self.cores = Default::default();
        self.history.clear();
    }

    fn deliver(&mut self) {
        let (to, from) = (self.rng.random_range(0..CORES), self.rng.random_range(0..CORES));
        if let Some(news) = self.cores[to].inbox[from].pop_front() {
            self.hear(to, news);
        }
    }

    /// Tells every core, the teller at once.
    fn tell(&mut self, from: usize, news: &News) {
        self.hear(from, news.clone());
        for to in (0..CORES).filter(|to| *to != from) {
            self.cores[to].inbox[from].push_back(news.clone());
        }
    }

    fn hear(&mut self, core: usize, news: News) {
        let heard = &mut self.cores[core];
        heard.naive.hear(&news);
        let loser = match news {
            News::Joined(live) => heard.directory.join(live),
            News::Left(id) => {
                heard.directory.leave(id);
                None
            }
            News::Draining(id) => {
                heard.directory.drain(id);
                None
            }
            News::Doubted(id, is_doubted) => {
                heard.directory.doubt(id, is_doubted);
                None
            }
            News::Rules(tunnel, connector, rules) => {
                heard
                    .directory
                    .set_served(tunnel, connector, Served::from_rules(rules));
                None
            }
        };
        // Whoever owns a connection that has lost its slot closes it.
        if let Some(loser) = loser
            && self.cores[core].owned.contains(&loser.id)
        {
            self.end(core, loser.id);
        }
    }

    fn end(&mut self, core: usize, id: ConnectionId) {
        self.cores[core].owned.retain(|owned| *owned != id);
        self.tell(core, &News::Left(id));
    }

    fn any_owned(&mut self) -> Option<(usize, ConnectionId)> {
        let core = self.rng.random_range(0..CORES);
        let owned = &self.cores[core].owned;
        (!owned.is_empty()).then(|| (core, owned[self.rng.random_range(0..owned.len())]))
    }

    fn check(&mut self) {
        for core in &self.cores {
            let held: Vec<_> = core.directory.iter().map(|live| (live.slot, live.id)).collect();
            let expected: Vec<_> = core
                .naive
                .slots
                .iter()
                .map(|(slot, live)| (*slot, live.id))
                .collect();
            assert_eq!(held, expected);
            assert_eq!(core.directory.len(), expected.len());
        }
        let core = self.rng.random_range(0..CORES);
        let tunnel = TunnelId(Uuid::from_u128(self.rng.random_range(0..TUNNELS)));
        let host: Hostname = HOSTS[self.rng.random_range(0..HOSTS.len())]
            .parse()
            .expect("a hostname");
        let path = PATHS[self.rng.random_range(0..PATHS.len())];
        let seed = self.rng.random();
        let here = u16::try_from(core).expect("few cores");
        check_choices(&self.cores[core], here, tunnel, (&host, path), seed);
    }

    fn check_settled(&self) {
        let alive: Vec<_> = self.cores.iter().flat_map(|core| &core.owned).collect();
        let expected: Vec<_> = self
            .history
            .iter()
            .filter_map(|(slot, ids)| ids.last().filter(|id| alive.contains(id)).map(|id| (*slot, *id)))
            .collect();
        assert_eq!(alive.len(), expected.len(), "who lost its slot is closed");
        for core in &self.cores {
            let held: Vec<_> = core.directory.iter().map(|live| (live.slot, live.id)).collect();
            assert_eq!(held, expected);
        }
    }
}

/// Attempts of one exchange until none is left: each candidate once, and no late one. Replicas without a late
/// connection come first, and the near ones first among them.
fn check_choices(core: &Core, here: u16, tunnel: TunnelId, (host, path): (&Hostname, &str), seed: u64) {
    let mut left = core.naive.candidates(tunnel, host, path);
    let (mut tried, mut last) = (Tried::default(), (false, false));
    loop {
        let ask = Ask {
            tunnel,
            host,
            path,
            policy: PolicyName::default(),
            core: here,
            tried: &tried,
            needs_trailers: false,
            prefers_ours: false,
            takes_doubted: false,
            known: None,
            seed,
        };
        match choose(&core.directory, &ask, |load| *load) {
            Ok(live) => {
                assert!(left.remove(&live.id).is_some(), "{:?} is no candidate", live.id);
                let place = (core.naive.is_suspect(live.slot), live.core != here);
                assert!(place >= last, "{place:?} came after {last:?}");
                last = place;
                tried.connections.push(live.id);
            }
            Err(why) => {
                assert!(left.is_empty(), "{why}, but {left:?} are left");
                assert!(
                    tried.connections.is_empty()
                        || matches!(
                            why,
                            NoConnection::AllTried | NoConnection::Doubted | NoConnection::Full
                        )
                );
                return;
            }
        }
    }
}

/// The directory's meaning, written down as plainly as possible.
#[derive(Default)]
struct Naive {
    slots: BTreeMap<Slot, Live<u32>>,
    rules: BTreeMap<(TunnelId, ConnectorId), Vec<Rule>>,
}

impl Naive {
    fn hear(&mut self, news: &News) {
        match news {
            News::Joined(live) => {
                if self
                    .slots
                    .get(&live.slot)
                    .is_none_or(|held| held.order < live.order)
                {
                    self.slots.insert(live.slot, live.clone());
                }
            }
            News::Left(id) => self.slots.retain(|_, live| live.id != *id),
            News::Draining(id) => {
                for live in self.slots.values_mut().filter(|live| live.id == *id) {
                    live.is_draining = true;
                }
            }
            News::Doubted(id, is_doubted) => {
                for live in self.slots.values_mut().filter(|live| live.id == *id) {
                    live.is_doubted = *is_doubted;
                }
            }
            News::Rules(tunnel, connector, rules) => {
                self.rules.insert((*tunnel, *connector), rules.clone());
            }
        }
        // What a replica serves is known for as long as it is connected.
        let slots = &self.slots;
        self.rules.retain(|(tunnel, connector), _| {
            slots
                .keys()
                .any(|slot| slot.tunnel == *tunnel && slot.connector == *connector)
        });
    }

    fn candidates(&self, tunnel: TunnelId, host: &Hostname, path: &str) -> BTreeMap<ConnectionId, u32> {
        let has_rule = |live: &Live<u32>, path: Option<&str>| {
            let rules = self.rules.get(&(live.slot.tunnel, live.slot.connector));
            let is_meant = |rule: &Rule| {
                rule.0.is_none_or(|pattern| {
                    let pattern: HostPattern = pattern.parse().expect("a pattern");
                    pattern.matches(host)
                })
            };
            let takes = |rule: &Rule| {
                let expression = rule.1.unwrap_or_default();
                path.is_none_or(|path| path.contains(expression))
            };
            rules.is_none_or(|rules| rules.iter().any(|rule| is_meant(rule) && takes(rule)))
        };
        let takes_exchanges = |live: &&Live<u32>| live.slot.tunnel == tunnel && !live.is_draining;
        let mut living = self.slots.values().filter(takes_exchanges);
        let is_path_served = living.any(|live| has_rule(live, Some(path)));
        let asked = Some(path).filter(|_| is_path_served);
        self.slots
            .values()
            .filter(|live| takes_exchanges(live) && has_rule(live, asked))
            .filter(|live| live.handle < EXCHANGES_PER_CONNECTION_MAX && !live.is_doubted)
            .map(|live| (live.id, live.handle))
            .collect()
    }

    fn is_suspect(&self, slot: Slot) -> bool {
        let is_of_replica = |other: &Slot| (other.tunnel, other.connector) == (slot.tunnel, slot.connector);
        self.slots
            .iter()
            .any(|(other, live)| is_of_replica(other) && live.is_doubted)
    }
}

/// Control's plans, an edge that receives them in any order, and the look-up its cores use.
struct Routes {
    rng: SmallRng,
    planned: Vec<RouteSnapshot>,
    held: RouteSnapshot,
    under_way: Vec<(Option<RouteSnapshot>, SnapshotDelta)>,
}

impl Routes {
    fn new(seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            planned: vec![RouteSnapshot {
                generation: 1,
                ..RouteSnapshot::default()
            }],
            held: RouteSnapshot::default(),
            under_way: Vec::new(),
        }
    }

    fn run(mut self) {
        for _ in 0..40 {
            if self.rng.random_range(0..3) == 0 {
                self.plan();
            } else {
                self.deliver();
            }
            self.check();
        }
    }

    fn plan(&mut self) {
        let before = self.planned.last().expect("one is planned at the start").clone();
        let mut next = before.clone();
        next.generation += 1;
        let pattern: HostPattern = PATTERNS[self.rng.random_range(0..PATTERNS.len())]
            .parse()
            .expect("a pattern");
        if !next.routes.remove_mut(&pattern) || self.rng.random() {
            let tunnel = TunnelId(Uuid::from_u128(self.rng.random_range(0..3)));
            next.routes.insert_mut(pattern, RouteTarget::Tunnel(tunnel));
        }
        self.under_way.push((None, before.delta_to(&next)));
        self.planned.push(next);
    }

    /// Any message under way, which may be lost or come again; a gap asks for the full snapshot.
    fn deliver(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let nth = self.rng.random_range(0..self.under_way.len());
        let (full, delta) = match self.rng.random_range(0..6) {
            0 => {
                self.under_way.remove(nth);
                return;
            }
            1 => self.under_way[nth].clone(),
            _ => self.under_way.remove(nth),
        };
        let before = self.held.generation;
        let has_gap = match full {
            Some(snapshot) => {
                self.held.replace(snapshot);
                false
            }
            None => self.held.apply(delta).is_err(),
        };
        assert!(self.held.generation >= before, "the generation decreased");
        if has_gap {
            assert_eq!(self.held.generation, before);
            let newest = self.planned.last().expect("one is planned at the start").clone();
            self.under_way.push((Some(newest), SnapshotDelta::default()));
        }
    }

    fn check(&self) {
        let targets: HostMap<TunnelId> = self
            .held
            .routes
            .iter()
            .filter_map(|(pattern, target)| Some((pattern.clone(), target.tunnel()?)))
            .collect();
        for text in HOSTS {
            let host: Hostname = text.parse().expect("a hostname");
            // An exact pattern is longer than any wildcard that matches the same name but for its star.
            let scanned = self
                .held
                .routes
                .iter()
                .filter(|(pattern, _)| pattern.matches(&host))
                .max_by_key(|(pattern, _)| {
                    (
                        matches!(pattern, HostPattern::Exact(_)),
                        pattern.to_string().len(),
                    )
                })
                .and_then(|(_, target)| target.tunnel());
            assert_eq!(targets.get(&host).copied(), scanned, "{host}");
        }
    }
}
