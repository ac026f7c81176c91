//! What the replica's connections are doing, for `/ready`, `/metrics` and the log.
//!
//! The service thread writes it as events come in and reads it when somebody asks: it is never shared.

use std::collections::BTreeMap;
use std::net::SocketAddr;

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
}

/// All connections of the replica.
#[derive(Debug, Default)]
pub(crate) struct Status {
    registered: BTreeMap<ConnIndex, Registered>,
    registrations: u64,
    failures: u64,
}

impl Status {
    /// The edge has registered a connection.
    pub(crate) fn registered(&mut self, index: ConnIndex, connection: Registered) {
        self.registrations += 1;
        self.registered.insert(index, connection);
    }

    /// An attempt or a connection has ended.
    pub(crate) fn ended(&mut self, index: ConnIndex) {
        if self.registered.remove(&index).is_none() {
            self.failures += 1;
        }
    }

    /// Connections an edge can send exchanges on.
    pub(crate) fn ready_count(&self) -> usize {
        self.registered.len()
    }

    /// The registered connections in order.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (ConnIndex, &Registered)> {
        self.registered
            .iter()
            .map(|(index, connection)| (*index, connection))
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
