//! Random writes planned into snapshots, and edges that receive them through a link that drops, repeats and
//! reorders.
//!
//! Checked after every step: generations never go back, neither in control nor in an edge; an edge's state,
//! and the routes it patched, are exactly the plan of the generation it holds; a step of the touched keys
//! comes to the plan of everything; no hostname leads to another account's tunnel; patterns of different
//! accounts do not overlap; the indexes of the facts answer what a look at all facts does.
//! Checked at the end: after a full snapshot every edge has the newest plan.

use std::collections::BTreeMap;

use adit_control::change::{Decision, configurations, routes, tunnels};
use adit_control::facts::{Change, Facts, Tunnel};
use adit_control::plan::{PlanSettings, Touched, plan, step};
use adit_control_api::problem::ApiError;
use adit_control_api::snapshot::{Applied, RouteSnapshot, SnapshotDelta};
use adit_control_api::tunnel::CreateTunnel;
use adit_control_api::{AccountTag, TunnelId};
use adit_proto::host_map::ShardedHostMap;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::seeds::for_seeds;

const SETTINGS: PlanSettings = PlanSettings {
    replicas_max: 100,
    management_key: None,
};
const EDGES: usize = 3;
const STEPS: usize = 80;
const ACCOUNTS: [&str; 2] = ["one", "two"];
const NAMES: [&str; 5] = ["a.test", "c.a.test", "z.a.test", "z.y.test", "x.other"];
const HOSTS: [&str; 8] = [
    "a.test",
    "b.test",
    "c.a.test",
    "*.test",
    "*.a.test",
    "x.other",
    "*.other",
    "deep.c.a.test",
];

#[test]
fn edges_hold_exactly_what_was_planned_whatever_the_link_does() {
    for_seeds(5_000, |seed| World::new(seed).run());
}

struct World {
    rng: SmallRng,
    facts: Facts,
    plans: BTreeMap<u64, RouteSnapshot>,
    edges: Vec<Edge>,
    next_tunnel: u128,
}

#[derive(Default)]
struct Edge {
    held: RouteSnapshot,
    /// What its cores ask, patched by each delta.
    routes: ShardedHostMap<TunnelId>,
    under_way: Vec<News>,
}

#[derive(Clone)]
enum News {
    Snapshot(RouteSnapshot),
    Delta(SnapshotDelta),
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            facts: Facts::default(),
            plans: BTreeMap::new(),
            edges: (0..EDGES).map(|_| Edge::default()).collect(),
            next_tunnel: 0,
        };
        world.publish();
        world
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            match self.rng.random_range(0..10) {
                0..4 => self.write(),
                4 => self.send_snapshot(),
                _ => self.deliver(),
            }
            self.check();
        }
        let newest = self.newest().clone();
        for edge in &mut self.edges {
            edge.held.replace(newest.clone());
            assert!(edge.held.same_content(&newest) && edge.held.generation == newest.generation);
        }
    }

    fn write(&mut self) {
        let account: AccountTag = ACCOUNTS[self.rng.random_range(0..ACCOUNTS.len())]
            .parse()
            .expect("a tag");
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(self.plans.len() as i64);
        let tunnel = self.any_tunnel();
        let host = HOSTS[self.rng.random_range(0..HOSTS.len())];
        let decided = match self.rng.random_range(0..11) {
            // Deleted tunnels are forgotten in the end. Of a living one nothing may be left either.
            10 => Ok(vec![Change::RemoveTunnel(tunnel)]),
            0..3 => {
                self.next_tunnel += 1;
                let request = CreateTunnel {
                    name: format!("t{}", self.rng.random_range(0..6)),
                    tunnel_secret: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into(),
                };
                let id = TunnelId(Uuid::from_u128(self.next_tunnel));
                changes(tunnels::create(&self.facts, &account, &request, id, now))
            }
            3 => changes(tunnels::delete(&self.facts, &account, tunnel, now)),
            4 => changes(routes::remove(&self.facts, &account, tunnel, host)),
            5 => changes(configurations::put(
                &self.facts,
                &account,
                tunnel,
                serde_json::json!({}),
                now,
            )),
            _ => changes(routes::put(
                &self.facts,
                &account,
                tunnel,
                host,
                self.rng.random(),
                now,
            )),
        };
        let Ok(decided) = decided else { return };
        if decided.is_empty() {
            return;
        }
        let touched = Touched::by(&decided);
        decided.into_iter().for_each(|change| self.facts.apply(change));
        // Control skips generations when it restarts or meets an edge that is ahead.
        let generation = self.facts.generation + self.rng.random_range(1..3);
        self.facts.apply(Change::Generation(generation));
        let before = self.newest().clone();
        self.publish();
        let delta = step(&before, &self.facts, touched, SETTINGS);
        let mut stepped = before;
        assert_eq!(stepped.apply(delta.clone()), Ok(Applied::Yes));
        assert!(
            stepped.same_content(self.newest()),
            "a step differs from a plan of everything"
        );
        for edge in &mut self.edges {
            edge.under_way.push(News::Delta(delta.clone()));
        }
        self.check_indexes();
    }

    fn publish(&mut self) {
        let snapshot = plan(&self.facts, SETTINGS);
        let newest = self.plans.last_key_value().map(|(generation, _)| *generation);
        assert!(
            newest.is_none_or(|newest| newest < snapshot.generation),
            "a generation is used once"
        );
        self.plans.insert(snapshot.generation, snapshot);
    }

    fn newest(&self) -> &RouteSnapshot {
        self.plans
            .last_key_value()
            .expect("one is planned at the start")
            .1
    }

    fn any_tunnel(&mut self) -> TunnelId {
        TunnelId(Uuid::from_u128(self.rng.random_range(0..=self.next_tunnel)))
    }

    fn send_snapshot(&mut self) {
        let newest = self.newest().clone();
        let edge = self.rng.random_range(0..EDGES);
        self.edges[edge].under_way.push(News::Snapshot(newest));
    }

    /// Hands an edge any message under way; it may be lost, or stay and come again.
    fn deliver(&mut self) {
        let index = self.rng.random_range(0..EDGES);
        let edge = &mut self.edges[index];
        if edge.under_way.is_empty() {
            return;
        }
        let nth = self.rng.random_range(0..edge.under_way.len());
        let news = match self.rng.random_range(0..10) {
            0 => {
                edge.under_way.remove(nth);
                return;
            }
            1 => edge.under_way[nth].clone(),
            _ => edge.under_way.remove(nth),
        };
        let before = edge.held.generation;
        let gap = match news {
            News::Snapshot(snapshot) => {
                let newer = snapshot.generation >= before;
                if newer {
                    edge.routes = filed(&snapshot);
                }
                assert_eq!(edge.held.replace(snapshot) == Applied::Yes, newer);
                false
            }
            News::Delta(delta) => match edge.held.apply(delta.clone()) {
                Ok(Applied::Yes) => {
                    edge.patch(&delta);
                    false
                }
                Ok(Applied::Stale) => false,
                Err(_) => true,
            },
        };
        assert!(edge.held.generation >= before, "an edge went back");
        if gap {
            let newest = self.newest().clone();
            self.edges[index].under_way.push(News::Snapshot(newest));
        }
    }

    fn check(&self) {
        for edge in self.edges.iter().filter(|edge| edge.held.generation > 0) {
            let planned = &self.plans[&edge.held.generation];
            assert!(
                edge.held.same_content(planned),
                "generation {} differs",
                edge.held.generation
            );
            let anew: ShardedHostMap<TunnelId> = filed(planned);
            assert_eq!(edge.routes.len(), anew.len());
            for name in NAMES.map(|name| name.parse().expect("a name")) {
                assert_eq!(edge.routes.get(&name), anew.get(&name), "{name}");
            }
        }
        let owner = |id: &TunnelId| &self.facts.tunnels[id].account;
        let newest = self.newest();
        let led = || {
            let routes = newest.routes.iter();
            routes.filter_map(|(pattern, target)| Some((pattern, target.tunnel()?)))
        };
        assert_eq!(led().count(), newest.routes.size());
        for (pattern, tunnel) in led() {
            assert_eq!(owner(&tunnel), &self.facts.routes[pattern].account, "{pattern}");
            assert!(
                newest.tunnels.contains_key(&tunnel),
                "{pattern} leads to a tunnel that is gone"
            );
            for (other, elsewhere) in led() {
                let foreign = owner(&tunnel) != owner(&elsewhere);
                assert!(
                    !(foreign && routes::overlap(pattern, other)),
                    "{pattern} overlaps {other}"
                );
            }
        }
    }

    fn check_indexes(&self) {
        let facts = &self.facts;
        for account in ACCOUNTS.map(|tag| tag.parse::<AccountTag>().expect("a tag")) {
            let tunnels = || facts.tunnels.values().filter(|tunnel| tunnel.account == account);
            let ids = |tunnel: &Tunnel| tunnel.id;
            assert!(facts.tunnels_of(&account).map(ids).eq(tunnels().map(ids)));
            let living: Vec<_> = tunnels().filter(|tunnel| tunnel.is_living()).collect();
            assert_eq!(facts.living_count(&account), living.len());
            for tunnel in living {
                let named = facts.living_by_name(&account, &tunnel.name);
                assert_eq!(named.map(ids), Some(tunnel.id), "{}", tunnel.name);
            }
            let mut deleted: Vec<_> = tunnels()
                .filter_map(|tunnel| Some((tunnel.deleted_at?, tunnel.id)))
                .collect();
            deleted.sort_unstable();
            assert!(facts.deleted_of(&account).eq(deleted.iter().map(|(_, id)| *id)));
            let routes = || facts.routes.values();
            let of_account = routes().filter(|route| route.account == account);
            assert_eq!(facts.route_count(&account), of_account.count());
            for host in HOSTS.map(|host| host.parse().expect("a pattern")) {
                let scanned =
                    routes().any(|route| route.account != account && routes::overlap(&route.pattern, &host));
                assert_eq!(facts.is_anothers(&account, &host), scanned, "{host} of {account}");
            }
        }
        for id in (0..=self.next_tunnel).map(|n| TunnelId(Uuid::from_u128(n))) {
            let led = facts.routes.values().filter(|route| route.tunnel == id);
            assert!(facts.routes_to(id).eq(led.map(|route| &route.pattern)));
        }
    }
}

impl Edge {
    fn patch(&mut self, delta: &SnapshotDelta) {
        for pattern in &delta.routes_removed {
            self.routes.remove(pattern);
        }
        for (pattern, target) in &delta.routes_set {
            let tunnel = target.tunnel().expect("control plans what it knows");
            self.routes.insert(pattern.clone(), tunnel);
        }
    }
}

fn filed(snapshot: &RouteSnapshot) -> ShardedHostMap<TunnelId> {
    let routes = snapshot.routes.iter();
    routes
        .filter_map(|(pattern, target)| Some((pattern.clone(), target.tunnel()?)))
        .collect()
}

fn changes<T>(decided: Result<Decision<T>, ApiError>) -> Result<Vec<Change>, ApiError> {
    decided.map(|decision| decision.changes)
}
