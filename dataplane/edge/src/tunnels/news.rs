//! What cores of one edge tell each other about connections and replicas.

use std::net::SocketAddr;

use adit_driver::core::CoreId;
use adit_driver::quic;
use adit_proto::directory::{ServedHosts, ToldHealth};
use adit_proto::ejection;
use adit_wire::{ConnectionId, ConnectorId, TunnelId};

use super::{LiveConnection, Tunnels};
use crate::cross_core::CoreMessage;

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

impl Tunnels {
    /// Hands a datagram to the core it is meant for.
    pub(crate) fn pass_stray(&self, core: CoreId, packet: quic::StrayPacket) {
        if let Some(owner) = self.cores.get(usize::from(core.0)) {
            // A full mailbox drops it, as a full socket would; QUIC sends it again.
            let _ = owner.try_send(CoreMessage::Stray(packet));
        }
    }

    /// Tells the other cores that the network says a connector is not there.
    pub(crate) fn pass_unreachable(&self, peer: SocketAddr, is_port: bool) {
        for (index, core) in self.cores.iter().enumerate() {
            if index != usize::from(self.context.id.0) {
                // A full mailbox drops it: silence tells the same, later.
                let _ = core.try_send(CoreMessage::Unreachable { peer, is_port });
            }
        }
    }
}
