//! Owns which connections of which replicas are alive on an edge, and which hostnames each replica serves.
//!
//! ```text
//! tunnel ─► replica (connector id) ─► slot (connection index) ─► connection
//!              └ served hostnames        └ at most one: a reconnect replaces the one before
//! ```
//! Every core of an edge keeps a copy and feeds it the same events. Those of one connection come from the
//! core that owns it and keep their order; those of different connections overtake each other. So a join
//! carries its place in the order of all joins of this edge, the later one keeps the slot wherever it is
//! heard first, and an event about a connection that does not hold its slot changes nothing.
//!
//! Does not: choose among connections (see [`steering`](crate::steering)) or know routes, which are
//! control's.

mod served;
mod told_health;

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_wire::{ConnIndex, ConnectionId, ConnectorId, HostPattern, Hostname, TunnelId};

use crate::host_map::HostMap;
use crate::limits::SERVED_HOSTS_MAX;
use served::Taken;
pub use served::{RulePath, Served};
pub use told_health::ToldHealth;

/// Where a connection belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The tunnel it serves.
    pub tunnel: TunnelId,
    /// The replica it belongs to.
    pub connector: ConnectorId,
    /// Its place among the replica's connections.
    pub index: ConnIndex,
}

/// One living connection; `T` is what the caller needs to use it.
#[derive(Clone, Debug)]
pub struct Live<T> {
    /// This very connection.
    pub id: ConnectionId,
    /// Where it belongs.
    pub slot: Slot,
    /// Its place in the order in which the connections of this edge registered.
    pub order: u64,
    /// The core it lives on.
    pub core: u16,
    /// Takes no new exchange.
    pub is_draining: bool,
    /// Its peer is late with an answer, so what it is sent may be lost.
    pub is_doubted: bool,
    /// Whether what comes after the body of an answer has a way through it.
    pub carries_trailers: bool,
    /// Whether its connector is ours, and carries what stock ones do not.
    pub is_of_ours: bool,
    /// The caller's own.
    pub handle: T,
}

/// Which hostnames a replica's ingress serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServedHosts {
    /// Every name: nothing is known, or a rule matches all.
    #[default]
    All,
    /// Only these. Shared, because every core keeps it.
    Only(Arc<HostMap<()>>),
}

impl ServedHosts {
    /// Reads the `hostname` fields of ingress rules; an absent, empty or `*` hostname matches every name.
    ///
    /// The last rule always matches every name, so a rule that only answers with a status must not be
    /// passed in: it would make each replica serve everything.
    pub fn from_rules<'a>(hostnames: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut patterns = HostMap::default();
        for hostname in hostnames {
            match hostname {
                None | Some("" | "*") => return Self::All,
                Some(text) => {
                    // A name we cannot parse cannot be asked for either.
                    if let Ok(pattern) = text.parse::<HostPattern>() {
                        patterns.insert(pattern, ());
                    }
                }
            }
            if patterns.len() > SERVED_HOSTS_MAX {
                return Self::All;
            }
        }
        Self::Only(Arc::new(patterns))
    }

    /// Whether a request for `host` may go to this replica.
    #[must_use]
    pub fn serves(&self, host: &Hostname) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => patterns.get(host).is_some(),
        }
    }
}

#[derive(Clone, Debug)]
struct Replica<T> {
    served: Served,
    /// What it says of its own origins.
    health: ToldHealth,
    slots: BTreeMap<ConnIndex, Live<T>>,
    /// How many of them are doubted, so that a choice need not look at all.
    doubted: usize,
}

/// A connection as a choice sees it.
#[derive(Debug)]
pub struct Candidate<'a, T> {
    /// The connection.
    pub live: &'a Live<T>,
    /// Whether its replica serves the hostname.
    pub serves: bool,
    /// Whether its replica serves the path of it. Without, its closing rule would answer.
    pub serves_path: bool,
    /// The rule of its replica that takes the exchange.
    pub path: RulePath,
    /// Whether some connection of its replica is doubted: what has befallen that one may have befallen all.
    pub is_suspect: bool,
    /// Whether its replica says that the origin of that rule is down.
    pub is_told_down: bool,
    /// Whether nothing of all this speaks against its replica.
    pub is_well: bool,
}

/// All living connections of one edge.
#[derive(Clone, Debug)]
pub struct Directory<T> {
    tunnels: BTreeMap<TunnelId, BTreeMap<ConnectorId, Replica<T>>>,
    slots: BTreeMap<ConnectionId, Slot>,
}

impl<T> Default for Directory<T> {
    fn default() -> Self {
        Self {
            tunnels: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }
}

impl<T> Directory<T> {
    /// Adds a connection, and returns the one that loses the slot to another: the one that held it, or
    /// `live` itself if a later one has been heard of first. The loser must be closed where it lives,
    /// unless it is draining: then it is about to end, and may finish what it has.
    pub fn join(&mut self, live: Live<T>) -> Option<Live<T>> {
        let slot = live.slot;
        let replicas = self.tunnels.entry(slot.tunnel).or_default();
        let replica = replicas.entry(slot.connector).or_insert_with(|| Replica {
            served: Served::default(),
            health: ToldHealth::default(),
            slots: BTreeMap::new(),
            doubted: 0,
        });
        if replica
            .slots
            .get(&slot.index)
            .is_some_and(|held| held.order > live.order)
        {
            return Some(live);
        }
        self.slots.insert(live.id, slot);
        replica.doubted += usize::from(live.is_doubted);
        let replaced = replica.slots.insert(slot.index, live);
        if let Some(old) = &replaced {
            replica.doubted -= usize::from(old.is_doubted);
            self.slots.remove(&old.id);
        }
        replaced
    }

    /// Removes a connection, unless another holds its slot by now.
    pub fn leave(&mut self, id: ConnectionId) -> Option<Live<T>> {
        let slot = self.slots.remove(&id)?;
        let replicas = self.tunnels.get_mut(&slot.tunnel)?;
        let replica = replicas.get_mut(&slot.connector)?;
        let left = replica.slots.remove(&slot.index);
        replica.doubted -= usize::from(left.as_ref().is_some_and(|left| left.is_doubted));
        if replica.slots.is_empty() {
            replicas.remove(&slot.connector);
        }
        if replicas.is_empty() {
            self.tunnels.remove(&slot.tunnel);
        }
        left
    }

    /// Lets a connection finish what it has and take nothing new. Never undone: a replica that comes back
    /// does so with a new connection. Returns its slot, if it holds one.
    pub fn drain(&mut self, id: ConnectionId) -> Option<Slot> {
        let slot = *self.slots.get(&id)?;
        let replicas = self.tunnels.get_mut(&slot.tunnel)?;
        let live = replicas.get_mut(&slot.connector)?.slots.get_mut(&slot.index)?;
        live.is_draining = true;
        Some(slot)
    }

    /// Notes that a connection's peer is late with an answer, or was heard again. Returns the slot of the
    /// connection if it holds one and the state has changed.
    pub fn doubt(&mut self, id: ConnectionId, is_doubted: bool) -> Option<Slot> {
        let slot = *self.slots.get(&id)?;
        let replica = self.tunnels.get_mut(&slot.tunnel)?.get_mut(&slot.connector)?;
        let live = replica.slots.get_mut(&slot.index)?;
        if std::mem::replace(&mut live.is_doubted, is_doubted) == is_doubted {
            return None;
        }
        match is_doubted {
            true => replica.doubted += 1,
            false => replica.doubted -= 1,
        }
        Some(slot)
    }

    /// Sets what a replica serves; ignored for a replica that is not connected.
    pub fn set_served(&mut self, tunnel: TunnelId, connector: ConnectorId, served: impl Into<Served>) {
        let Some(replicas) = self.tunnels.get_mut(&tunnel) else {
            return;
        };
        let served = served.into();
        // Replicas mostly serve the same, and then one look-up tells for all of them.
        let same = replicas.values().find(|replica| replica.served == served);
        let served = same.map_or_else(|| served.of_this_core(), |replica| replica.served.clone());
        if let Some(replica) = replicas.get_mut(&connector) {
            replica.served = served;
        }
    }

    /// Takes over what a replica says of its origins. Returns whether anything changed. A replica that is not
    /// connected is ignored.
    pub fn set_health(&mut self, tunnel: TunnelId, connector: ConnectorId, health: ToldHealth) -> bool {
        let replica = self
            .tunnels
            .get_mut(&tunnel)
            .and_then(|replicas| replicas.get_mut(&connector));
        let Some(replica) = replica.filter(|replica| health.follows(&replica.health)) else {
            return false;
        };
        replica.health = health;
        true
    }

    /// How many replicas say that an origin of theirs is down. Looks at every replica.
    #[must_use]
    pub fn told_down(&self) -> usize {
        let replicas = self.tunnels.values().flat_map(|replicas| replicas.values());
        replicas.filter(|replica| !replica.health.is_all_well()).count()
    }

    /// The connection with this id.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&Live<T>> {
        let slot = self.slots.get(&id)?;
        self.tunnels
            .get(&slot.tunnel)?
            .get(&slot.connector)?
            .slots
            .get(&slot.index)
    }

    /// The rule of a connection's replica that takes `path` of `host`.
    #[must_use]
    pub fn path_rule(&self, slot: &Slot, host: &Hostname, path: &str) -> RulePath {
        let replicas = self.tunnels.get(&slot.tunnel);
        let replica = replicas.and_then(|replicas| replicas.get(&slot.connector));
        replica.map_or(RulePath::UNKNOWN, |replica| replica.served.take(host, path).by)
    }

    /// Connections of a tunnel that are not draining, with what is known of their replica.
    pub fn candidates<'a>(
        &'a self,
        tunnel: TunnelId,
        host: &Hostname,
        path: &str,
    ) -> impl Iterator<Item = Candidate<'a, T>> {
        let mut asked: Option<(&Served, bool, Taken)> = None;
        self.tunnels
            .get(&tunnel)
            .into_iter()
            .flat_map(|replicas| replicas.values())
            .flat_map(move |replica| {
                let served = &replica.served;
                let (serves, taken) = match asked {
                    Some((same, serves, taken)) if same.is_shared_with(served) => (serves, taken),
                    Some(_) | None => (served.serves(host), served.take(host, path)),
                };
                asked = Some((served, serves, taken));
                let is_suspect = replica.doubted > 0;
                let is_told_down = replica.health.is_down(host, taken.by);
                let is_well = serves && taken.is_served && !is_suspect && !is_told_down;
                replica
                    .slots
                    .values()
                    .filter(|live| !live.is_draining)
                    .map(move |live| Candidate {
                        live,
                        serves,
                        serves_path: taken.is_served,
                        path: taken.by,
                        is_suspect,
                        is_told_down,
                        is_well,
                    })
            })
    }

    /// Every connection, in order of tunnel, replica and index.
    pub fn iter(&self) -> impl Iterator<Item = &Live<T>> {
        self.tunnels
            .values()
            .flat_map(|replicas| replicas.values())
            .flat_map(|replica| replica.slots.values())
    }

    /// Connections of one tunnel, or of one of its replicas.
    pub fn of(&self, tunnel: TunnelId, connector: Option<ConnectorId>) -> impl Iterator<Item = &Live<T>> {
        self.tunnels
            .get(&tunnel)
            .into_iter()
            .flatten()
            .filter(move |(id, _)| connector.is_none_or(|wanted| wanted == **id))
            .flat_map(|(_, replica)| replica.slots.values())
    }

    /// How many replicas of a tunnel are connected.
    #[must_use]
    pub fn replicas(&self, tunnel: TunnelId) -> usize {
        self.tunnels.get(&tunnel).map_or(0, BTreeMap::len)
    }

    /// How many connections live here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none lives here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn live(connector: u128, index: u8, id: u128) -> Live<()> {
        let slot = Slot {
            tunnel: TunnelId(Uuid::from_u128(1)),
            connector: ConnectorId(Uuid::from_u128(connector)),
            index: ConnIndex(index),
        };
        let (id, order) = (ConnectionId(Uuid::from_u128(id)), id as u64);
        Live {
            id,
            slot,
            order,
            core: 0,
            is_draining: false,
            is_doubted: false,
            carries_trailers: true,
            is_of_ours: true,
            handle: (),
        }
    }

    fn host(text: &str) -> Hostname {
        text.parse().unwrap()
    }

    #[test]
    fn second_join_of_a_slot_replaces_the_first_and_its_late_leave_is_ignored() {
        let mut directory = Directory::default();
        assert!(directory.join(live(7, 0, 100)).is_none());
        let replaced = directory.join(live(7, 0, 101)).unwrap();
        assert_eq!(replaced.id, ConnectionId(Uuid::from_u128(100)));
        assert!(directory.leave(replaced.id).is_none());
        assert_eq!(directory.len(), 1);
        assert!(directory.leave(ConnectionId(Uuid::from_u128(101))).is_some());
        assert!(directory.is_empty());
        assert_eq!(directory.replicas(TunnelId(Uuid::from_u128(1))), 0);
    }

    #[test]
    fn an_earlier_join_heard_of_late_does_not_take_the_slot() {
        let mut directory = Directory::default();
        assert!(directory.join(live(7, 0, 101)).is_none());
        let loser = directory.join(live(7, 0, 100)).unwrap();
        assert_eq!(loser.id, ConnectionId(Uuid::from_u128(100)));
        assert!(directory.leave(loser.id).is_none());
        assert!(directory.get(ConnectionId(Uuid::from_u128(101))).is_some());
    }

    #[test]
    fn a_draining_connection_is_no_candidate() {
        let mut directory = Directory::default();
        directory.join(live(7, 0, 100));
        directory.join(live(7, 1, 101));
        directory.drain(ConnectionId(Uuid::from_u128(100)));
        let tunnel = TunnelId(Uuid::from_u128(1));
        let ids: Vec<_> = directory
            .candidates(tunnel, &host("a.test"), "/")
            .map(|candidate| candidate.live.id)
            .collect();
        assert_eq!(ids, [ConnectionId(Uuid::from_u128(101))]);
    }

    #[test]
    fn a_doubt_makes_the_replica_suspect_until_it_is_cleared_or_the_connection_leaves() {
        let mut directory = Directory::default();
        let (tunnel, name) = (TunnelId(Uuid::from_u128(1)), host("a.test"));
        let id = |number| ConnectionId(Uuid::from_u128(number));
        directory.join(live(7, 0, 100));
        directory.join(live(7, 1, 101));
        directory.join(live(8, 0, 102));
        let suspects = |directory: &Directory<()>| -> Vec<_> {
            directory
                .candidates(tunnel, &name, "/")
                .map(|candidate| candidate.is_suspect)
                .collect()
        };
        assert!(directory.doubt(id(100), true).is_some());
        assert!(directory.doubt(id(100), true).is_none(), "no news");
        assert_eq!(suspects(&directory), [true, true, false]);
        assert!(directory.doubt(id(100), false).is_some());
        assert_eq!(suspects(&directory), [false; 3]);

        directory.doubt(id(101), true);
        directory.join(live(7, 1, 103));
        assert_eq!(suspects(&directory), [false; 3], "its successor is trusted");
        directory.doubt(id(103), true);
        directory.leave(id(103));
        assert_eq!(suspects(&directory), [false; 2]);
        assert!(directory.doubt(id(103), true).is_none());
    }

    #[test]
    fn what_a_replica_says_of_its_origins_holds_until_it_says_something_newer_or_leaves() {
        let mut directory = Directory::default();
        let (tunnel, name) = (TunnelId(Uuid::from_u128(1)), host("a.test"));
        let replica = ConnectorId(Uuid::from_u128(7));
        directory.join(live(7, 0, 100));
        let down = |revision| ToldHealth::new(revision, [("a.test", RulePath::EVERY, true)]);
        let is_down = |directory: &Directory<()>| {
            let mut candidates = directory.candidates(tunnel, &name, "/");
            candidates.next().is_some_and(|candidate| candidate.is_told_down)
        };
        assert!(!is_down(&directory));
        assert!(directory.set_health(tunnel, replica, down(2)));
        assert!(is_down(&directory) && directory.told_down() == 1);
        assert!(
            !directory.set_health(tunnel, replica, ToldHealth::new(1, [])),
            "old"
        );
        assert!(is_down(&directory));
        assert!(directory.set_health(tunnel, replica, ToldHealth::new(3, [])));
        assert!(!is_down(&directory) && directory.told_down() == 0);
        assert!(directory.set_health(tunnel, replica, down(4)));
        directory.leave(ConnectionId(Uuid::from_u128(100)));
        directory.join(live(7, 0, 101));
        assert!(!is_down(&directory));
        assert!(!directory.set_health(tunnel, ConnectorId(Uuid::from_u128(8)), down(9)));
    }

    #[test]
    fn a_replica_is_a_candidate_only_for_what_its_ingress_serves() {
        let mut directory = Directory::default();
        directory.join(live(7, 0, 100));
        let tunnel = TunnelId(Uuid::from_u128(1));
        let hosts = ServedHosts::from_rules([Some("a.test"), Some("*.b.test")]);
        directory.set_served(tunnel, ConnectorId(Uuid::from_u128(7)), hosts);
        let serves = |name: &str| {
            directory
                .candidates(tunnel, &host(name), "/")
                .next()
                .is_some_and(|candidate| candidate.serves)
        };
        assert!(serves("a.test") && serves("x.y.b.test"));
        assert!(!serves("b.test") && !serves("c.test"));
    }

    #[test]
    fn rules_without_a_hostname_serve_everything() {
        for hostname in [None, Some(""), Some("*")] {
            assert_eq!(
                ServedHosts::from_rules([Some("a.test"), hostname]),
                ServedHosts::All
            );
        }
    }
}
