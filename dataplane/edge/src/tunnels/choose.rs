//! Picks the connection for one attempt of an exchange, and says where that connection lives. The choice
//! itself is [`adit_proto::steering`].

use std::cell::Cell;
use std::sync::atomic::Ordering;

use adit_driver::core::CoreId;
use adit_driver::time::now;
use adit_proto::directory::Slot;
use adit_proto::ejection::Standing;
use adit_proto::exchange::delivery::{Doubted, Search};
use adit_proto::exchange::edge::Trailers;
use adit_proto::steering::{Ask, NoConnection, PolicyName, Tried, choose, choose_replica};
use adit_wire::{ConnIndex, ConnectionId, ConnectorId, Hostname, TunnelId};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::connection::{Connection, Transport};
use super::{Handle, LiveConnection, Load, Tunnels};
use crate::cross_core::Outbox;

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
    fn of(live: &LiveConnection) -> Self {
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

/// Where a connection lives, and how it is reached from there.
pub(crate) enum Place<'a> {
    /// On this core.
    Here(Connection),
    /// On another core of this edge.
    OtherCore(&'a Outbox),
}

/// What one attempt of an exchange asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) tunnel: TunnelId,
    pub(crate) host: &'a Hostname,
    pub(crate) path: &'a str,
    pub(crate) tried: &'a Tried,
    pub(crate) trailers: Trailers,
    /// An upgrade that only connectors of ours carry.
    pub(crate) upgrade: bool,
    pub(crate) search: Search,
}

/// What choices of one core need beside the registry.
#[derive(Debug)]
pub(super) struct Chooser {
    seed: Cell<u64>,
    /// Rung whenever a connection has become doubted.
    pub(super) doubts: Notify,
}

impl Chooser {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed: Cell::new(seed),
            doubts: Notify::new(),
        }
    }

    fn next_seed(&self) -> u64 {
        let seed = self.seed.get().wrapping_add(1);
        self.seed.set(seed);
        seed
    }
}

impl Tunnels {
    /// Picks a connection for one attempt of an exchange.
    pub(crate) fn choose(&self, wanted: &Wanted<'_>) -> Result<Choice, NoConnection> {
        let Wanted {
            tunnel,
            host,
            path,
            search,
            ..
        } = *wanted;
        let seed = self.chooser.next_seed();
        let directory = self.registry.directory();
        let ejections = self.ejections.borrow();
        let known = ejections.known(tunnel, host, seed, search.trier, now());
        let ask = Ask {
            tunnel,
            host,
            path,
            policy: PolicyName::default(),
            core: self.context.id.0,
            tried: wanted.tried,
            needs_trailers: wanted.trailers == Trailers::Needed,
            prefers_ours: wanted.upgrade,
            takes_doubted: search.doubted == Doubted::Taken,
            known,
            seed,
        };
        let live = choose(&directory, &ask, |handle| {
            handle.in_flight.load(Ordering::Relaxed)
        })?;
        let choice = Choice::of(live);
        // Which rule it is for is asked again only of a hostname with trouble.
        let trial = known.and_then(|known| {
            let rule = (choice.connector(), directory.path_rule(&choice.slot, host, path));
            (known.standing(rule) == Standing::Trial).then_some(rule)
        });
        drop(ejections);
        if let Some(rule) = trial {
            self.begin_trial(tunnel, host, rule);
        }
        Ok(choice)
    }

    /// Picks a connection of one replica, or of any, whatever hostnames they serve.
    pub(crate) fn choose_replica(
        &self,
        tunnel: TunnelId,
        connector: Option<ConnectorId>,
        tried: &Tried,
    ) -> Result<Choice, NoConnection> {
        let directory = self.registry.directory();
        let load = |handle: &Handle| handle.in_flight.load(Ordering::Relaxed);
        choose_replica(&directory, (tunnel, connector), tried, load).map(Choice::of)
    }

    /// Where the chosen connection lives; `None` if it is gone.
    pub(crate) fn place(&self, choice: &Choice) -> Option<Place<'_>> {
        if choice.core == self.context.id {
            self.registry.here(choice.id).map(Place::Here)
        } else {
            self.cores.get(usize::from(choice.core.0)).map(Place::OtherCore)
        }
    }

    /// Waits until some connection becomes doubted. Counts from the call, not from the first poll.
    pub(crate) fn doubts(&self) -> Notified<'_> {
        self.chooser.doubts.notified()
    }
}
