//! A connection picked for an exchange, and what the exchange wants of it.

use adit_driver::core::CoreId;
use adit_proto::directory::Slot;
use adit_proto::exchange::edge::Trailers;
use adit_wire::{ConnIndex, ConnectionId, ConnectorId};

use super::connection::Transport;
use super::{LiveConnection, Load};

/// A connection picked for an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) id: ConnectionId,
    pub(crate) slot: Slot,
    pub(crate) core: CoreId,
    pub(crate) carries_trailers: bool,
    pub(crate) is_of_ours: bool,
    pub(crate) transport: Transport,
    load: Load,
}

impl Choice {
    pub(super) fn of(live: &LiveConnection) -> Self {
        Self {
            id: live.id,
            slot: live.slot,
            core: CoreId(live.core),
            carries_trailers: live.carries_trailers,
            is_of_ours: live.is_of_ours,
            transport: live.handle.transport,
            load: live.handle.in_flight.clone(),
        }
    }

    pub(crate) fn connector(&self) -> ConnectorId {
        self.slot.connector
    }

    pub(crate) fn index(&self) -> ConnIndex {
        self.slot.index
    }

    /// The exchanges in flight on the connection.
    pub(crate) fn load(&self) -> &Load {
        &self.load
    }
}

/// What a request wants of the connection that takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) trailers: Trailers,
    /// An upgrade that only connectors of ours carry.
    pub(crate) upgrade: bool,
}

/// What a choice does with connections that are late with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubted {
    Avoided,
    /// Taken when there is no other.
    Taken,
}
