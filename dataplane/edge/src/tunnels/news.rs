//! What cores of one edge tell each other about connections and replicas.

use std::net::SocketAddr;

use adit_driver::core::CoreId;
use adit_driver::quic;
use adit_proto::directory::{Served, ToldHealth};
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
        hosts: Served,
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
    /// Tells every core, this one at once.
    pub(crate) fn announce(&self, news: &CoreNews) {
        self.on_news(news.clone());
        self.tell_others(news);
    }

    /// Tells every core but this one.
    pub(super) fn tell_others(&self, news: &CoreNews) {
        for (index, core) in self.cores.iter().enumerate() {
            if index != usize::from(self.context.id.0) {
                core.send(CoreMessage::News(news.clone()));
            }
        }
    }

    pub(crate) fn on_news(&self, news: CoreNews) {
        let registry = &self.registry;
        match news {
            CoreNews::Joined(live) => {
                let tunnel = live.slot.tunnel;
                let loser = registry.change(|directory| directory.join(live));
                self.absent.end(tunnel);
                // One that is draining ends by itself: a connector that moves to another transport lets it
                // finish.
                if let Some(loser) = loser.filter(|loser| !loser.is_draining) {
                    registry.close(loser.id, "replaced by a newer connection");
                }
            }
            CoreNews::Left(id) => {
                if let Some(left) = registry.change(|directory| directory.leave(id)) {
                    self.miss(left.slot.tunnel);
                    self.forget_health(&left.slot);
                }
            }
            CoreNews::Draining(id) => {
                if let Some(slot) = registry.change(|directory| directory.drain(id)) {
                    self.miss(slot.tunnel);
                }
            }
            CoreNews::Doubted(id) => {
                if let Some(slot) = registry.change(|directory| directory.doubt(id, true)) {
                    // What keeps one connection of a replica from answering may have hit the others, which
                    // nobody asks.
                    registry.check(slot.tunnel, slot.connector);
                    self.miss(slot.tunnel);
                    self.chooser.doubts.notify_waiters();
                }
            }
            CoreNews::Cleared(id) => {
                if let Some(slot) = registry.change(|directory| directory.doubt(id, false)) {
                    self.absent.end(slot.tunnel);
                }
            }
            CoreNews::Suspected { tunnel, connector } => registry.check(tunnel, connector),
            CoreNews::Hosts {
                tunnel,
                connector,
                hosts,
            } => registry.change(|directory| directory.set_served(tunnel, connector, hosts)),
            CoreNews::ToldHealth {
                tunnel,
                connector,
                health,
            } => {
                registry.change(|directory| directory.set_health(tunnel, connector, health));
            }
            CoreNews::Health(news) => self.hear_health(&news),
        }
    }

    /// Expects a tunnel back if it has no connection any more that takes exchanges.
    fn miss(&self, tunnel: TunnelId) {
        if !self.registry.is_present(tunnel) {
            self.absent.expect_back(tunnel);
        }
    }

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
