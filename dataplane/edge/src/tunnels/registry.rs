//! Which connections exist on this edge, and which of them live on this core.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;

use adit_proto::directory::Directory;
use adit_wire::{ConnectionId, ConnectorId, TunnelId};

use super::connection::Connection;
use super::{Handle, LiveConnection};

/// One core's copy of the directory, and the connections that it owns itself. Bounded by the connections of
/// the edge.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    directory: RefCell<Directory<Handle>>,
    here: RefCell<HashMap<ConnectionId, Connection>>,
}

impl Registry {
    /// Keeps a connection of this core. The directory hears of it as of any other.
    pub(super) fn keep(&self, live: &LiveConnection, connection: Connection) {
        self.here.borrow_mut().insert(live.id, connection);
    }

    /// Forgets a connection of this core. Returns whether it was one.
    pub(super) fn forget(&self, id: ConnectionId) -> bool {
        self.here.borrow_mut().remove(&id).is_some()
    }

    pub(super) fn directory(&self) -> Ref<'_, Directory<Handle>> {
        self.directory.borrow()
    }

    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Directory<Handle>) -> R) -> R {
        change(&mut self.directory.borrow_mut())
    }

    /// Closes those connections of this core that control names.
    pub(crate) fn disconnect(
        &self,
        tunnel: TunnelId,
        connector: Option<ConnectorId>,
        connection: Option<ConnectionId>,
    ) {
        let ids: Vec<_> = self
            .directory()
            .of(tunnel, connector)
            // A single one is named because another has its slot, and is let finish if it drains.
            .filter(|live| connection.is_none_or(|wanted| wanted == live.id && !live.is_draining))
            .map(|live| live.id)
            .collect();
        for id in ids {
            self.close(id, "disconnected by control");
        }
    }

    /// The connection, if it lives on this core.
    pub(crate) fn here(&self, id: ConnectionId) -> Option<Connection> {
        self.here.borrow().get(&id).cloned()
    }

    /// Closes the connections of this core that came over HTTP/2 and waits until they are gone.
    pub(crate) async fn close_http2(&self, reason: &'static str) {
        let here: Vec<_> = self.here.borrow().values().cloned().collect();
        for connection in &here {
            if let Connection::Http2(connection) = connection {
                connection.close(reason);
            }
        }
        for connection in here {
            if let Connection::Http2(connection) = connection {
                connection.closed().await;
            }
        }
    }

    /// Connections that live on this core.
    pub(crate) fn count_here(&self) -> usize {
        self.here.borrow().len()
    }

    /// Whether the peer of a connection is late with an answer.
    pub(crate) fn is_doubted(&self, id: ConnectionId) -> bool {
        self.directory().get(id).is_some_and(|live| live.is_doubted)
    }

    /// Whether a tunnel has a connection that takes exchanges.
    pub(super) fn is_present(&self, tunnel: TunnelId) -> bool {
        self.directory()
            .of(tunnel, None)
            .any(|live| !live.is_draining && !live.is_doubted)
    }

    /// Asks the connections of a replica for a sign of life, as far as they live here.
    pub(super) fn check(&self, tunnel: TunnelId, connector: ConnectorId) {
        for live in self.directory().of(tunnel, Some(connector)) {
            if let Some(connection) = self.here(live.id) {
                connection.check();
            }
        }
    }

    /// Closes a connection, if it lives here.
    pub(super) fn close(&self, id: ConnectionId, reason: &'static str) {
        if let Some(connection) = self.here(id) {
            connection.close(reason);
        }
    }
}
