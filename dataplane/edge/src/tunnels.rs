//! One core's view of the tunnels: the parts that its requests ask, put together.
//!
//! ```text
//! routes    which tunnel serves a hostname
//! choose    which connection takes an exchange, and where that lives ─► open (crate::open)
//! registry  which connections exist on this edge, and which of them live here
//! absent    which tunnels are expected back, and who waits for them
//! health    what exchanges and replicas show of origins
//! news      what cores tell each other of all this
//! ```
//! Every core holds its own copy of the directory and of the routes, fed by the same messages, so a request
//! takes no lock. A connection is owned by one core; the others reach it by mailbox (see
//! [`cross_core`](crate::cross_core)).

mod absence;
mod choose;
pub(crate) mod connection;
mod health;
mod news;
mod registry;
pub(crate) mod routes;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use adit_driver::core::CoreContext;
use adit_driver::mailbox;
use adit_proto::directory::Live;
use adit_proto::ejection::{self, Ejections};
use adit_proto::exchange::error_code::ErrorCode;
use adit_wire::{ConnectionId, Hostname, TunnelId};

use crate::cross_core::{CoreMessage, Outbox};
use absence::Absent;
use choose::Chooser;
pub(crate) use choose::{Choice, Place, Wanted};
use connection::{Connection, Transport};
pub(crate) use news::CoreNews;
use registry::Registry;
use routes::Routes;

/// The exchanges in flight on a connection.
pub(crate) type Load = Arc<AtomicU32>;

/// A connection as it is announced to the cores.
pub(crate) type LiveConnection = Live<Handle>;

/// What every core knows of a connection beside its place.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) in_flight: Load,
    pub(crate) transport: Transport,
}

impl Handle {
    /// That of a new connection.
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            in_flight: Arc::new(AtomicU32::new(0)),
            transport,
        }
    }
}

/// The tunnels as one core sees them.
pub(crate) struct Tunnels {
    context: CoreContext,
    routes: RefCell<Arc<Routes>>,
    pub(crate) registry: Registry,
    pub(crate) absent: Absent,
    chooser: Chooser,
    ejections: RefCell<Ejections>,
    /// Ways to all cores by index, this one included.
    cores: Vec<Outbox>,
}

impl Tunnels {
    /// `reconnect_wait` is how long exchanges wait for a tunnel that has just lost its last connection.
    pub(crate) fn new(
        context: CoreContext,
        cores: Vec<mailbox::Sender<CoreMessage>>,
        seed: u64,
        reconnect_wait: Duration,
        ejection: ejection::Settings,
    ) -> Self {
        Self {
            context,
            routes: RefCell::default(),
            registry: Registry::default(),
            absent: Absent::new(reconnect_wait),
            chooser: Chooser::new(seed),
            ejections: RefCell::new(Ejections::new(ejection)),
            cores: cores.into_iter().map(Outbox::new).collect(),
        }
    }

    /// The tunnel that serves `host`: an exact route first, then the longest wildcard.
    pub(crate) fn route(&self, host: &Hostname) -> Result<TunnelId, ErrorCode> {
        self.routes.borrow().tunnel(host)
    }

    pub(crate) fn context(&self) -> CoreContext {
        self.context
    }

    pub(crate) fn set_routes(&self, routes: Arc<Routes>) {
        // Only the service thread sends routes, in the order in which it took them; so even one of the same
        // generation is the later word.
        *self.routes.borrow_mut() = routes;
    }

    /// Takes over a connection that registered on this core and announces it to all.
    pub(crate) fn own(&self, live: &LiveConnection, connection: Connection) {
        self.registry.keep(live, connection);
        self.announce(&CoreNews::Joined(live.clone()));
    }

    /// Forgets a connection of this core and tells all.
    pub(crate) fn disown(&self, id: ConnectionId) {
        if self.registry.forget(id) {
            self.announce(&CoreNews::Left(id));
        }
    }
}
