//! What cores of one edge tell each other about connections and replicas.

use adit_proto::directory::{ServedHosts, ToldHealth};
use adit_proto::ejection;
use adit_wire::{ConnectionId, ConnectorId, TunnelId};

use super::LiveConnection;

/// What every core must know about a connection.
#[derive(Clone, Debug)]
pub(crate) enum CoreNews {
    Joined(LiveConnection),
    Left(ConnectionId),
    Draining(ConnectionId),
    /// Its peer is late with an answer.
    Doubted(ConnectionId),
    /// The peer has been heard again.
    Cleared(ConnectionId),
    /// Something has happened to one connection of the replica that may have happened to the others.
    Suspected {
        tunnel: TunnelId,
        connector: ConnectorId,
    },
    Hosts {
        tunnel: TunnelId,
        connector: ConnectorId,
        hosts: ServedHosts,
    },
    /// What a replica says of its own origins.
    ToldHealth {
        tunnel: TunnelId,
        connector: ConnectorId,
        health: ToldHealth,
    },
    /// A replica is left out for a hostname, or back. Boxed: rare, and larger than the rest.
    Health(Box<ejection::News>),
}
