//! What the replica's connections are doing, for `/ready`, `/metrics` and the log.
//!
//! The service thread writes it as events come in and reads it when somebody asks: it is never shared.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use adit_proto::supervisor::AttemptId;
pub(crate) use adit_proto::supervisor::Protocol;
use adit_wire::{ConnIndex, ConnectionId};

/// A registered connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    /// Given by the edge.
    pub(crate) id: ConnectionId,
    /// The edge's colo.
    pub(crate) location: String,
    /// The edge's address.
    pub(crate) address: SocketAddr,
    /// What carries it.
    pub(crate) protocol: Protocol,
}

/// Earlier locations of one slot that are kept: edges name their sites as they like.
const EARLIER_LOCATIONS_MAX: usize = 16;

/// All connections of the replica.
#[derive(Debug, Default)]
pub(crate) struct Status {
    registered: BTreeMap<ConnIndex, (AttemptId, Registered)>,
    /// Registered attempts that have not ended although another one has their slot.
    replaced: BTreeSet<AttemptId>,
    /// Where the slots were registered before, without where they are.
    earlier: BTreeMap<ConnIndex, BTreeSet<String>>,
    registrations: u64,
    failures: u64,
    reloads: Reloads,
    /// The connector leaves: edges send no new exchange.
    is_draining: bool,
}

/// How often the configuration file was read again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reloads {
    /// And found valid.
    pub(crate) applied: u64,
    /// And refused.
    pub(crate) refused: u64,
}

impl Status {
    /// The edge has registered the connection of an attempt.
    pub(crate) fn registered(&mut self, id: AttemptId, index: ConnIndex, connection: Registered) {
        self.registrations += 1;
        let location = connection.location.clone();
        let earlier = self.earlier.entry(index).or_default();
        if let Some((other, replaced)) = self.registered.insert(index, (id, connection)) {
            self.replaced.insert(other);
            remember(earlier, replaced.location);
        }
        earlier.remove(&location);
    }

    /// An attempt or its connection has ended.
    pub(crate) fn ended(&mut self, id: AttemptId, index: ConnIndex) {
        if self.replaced.remove(&id) {
            return;
        }
        match self.registered.entry(index) {
            Entry::Occupied(held) if held.get().0 == id => {
                let (_, ended) = held.remove();
                remember(self.earlier.entry(index).or_default(), ended.location);
            }
            Entry::Occupied(_) | Entry::Vacant(_) => self.failures += 1,
        }
    }

    /// The configuration file was read again.
    pub(crate) fn reloaded(&mut self, is_applied: bool) {
        if is_applied {
            self.reloads.applied += 1;
        } else {
            self.reloads.refused += 1;
        }
    }

    /// How often the configuration file was read again.
    pub(crate) fn reloads(&self) -> Reloads {
        self.reloads
    }

    /// Locations where slots were registered and are not, in order.
    pub(crate) fn earlier_locations(&self) -> impl Iterator<Item = (ConnIndex, &str)> {
        self.earlier
            .iter()
            .flat_map(|(index, locations)| locations.iter().map(|location| (*index, location.as_str())))
    }

    /// The connector has been asked to stop.
    pub(crate) fn draining(&mut self) {
        self.is_draining = true;
    }

    /// Connections an edge can send new exchanges on.
    pub(crate) fn ready_count(&self) -> usize {
        if self.is_draining {
            0
        } else {
            self.registered.len()
        }
    }

    /// The registered connections in order.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (ConnIndex, &Registered)> {
        self.registered
            .iter()
            .map(|(index, (_, connection))| (*index, connection))
    }

    /// Registrations so far.
    pub(crate) fn registrations(&self) -> u64 {
        self.registrations
    }

    /// Attempts so far that ended before a registration.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }
}

fn remember(earlier: &mut BTreeSet<String>, location: String) {
    if earlier.len() < EARLIER_LOCATIONS_MAX {
        earlier.insert(location);
    }
}
