//! One core's view of the tunnels: which connections exist on this edge, which of them live here, and how
//! to open a stream on either kind.
//!
//! Every core holds its own copy of the directory and of the routes, fed by the same messages, so a request
//! takes no lock. A connection is owned by one core; the others reach it by mailbox (see
//! [`cross_core`](crate::cross_core)).

mod absence;
pub(crate) mod choice;
pub(crate) mod health;
pub(crate) mod connection;
mod news;
pub(crate) mod routes;
pub(crate) mod stream;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use adit_driver::core::CoreContext;
use adit_driver::mailbox;
use adit_driver::pipe::{PipeReader, PipeWriter, pipe};
use adit_driver::time::{now, timeout_at};
use adit_proto::directory::{Directory, Live};
use adit_proto::ejection::{self, Ejections, Standing, Trier};
use adit_proto::exchange::edge::Trailers;
use adit_proto::steering::{Ask, NoConnection, Tried, choose};
use adit_wire::{ConnectionId, ConnectorId, Hostname, TunnelId};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::spawn_local;

use crate::cross_core::{CoreMessage, Outbox};
use crate::tunnel_http2;
use absence::{Absences, WAITING_MAX};
pub(crate) use choice::{Choice, Doubted, Wanted};
use connection::{Connection, Transport};
pub(crate) use news::CoreNews;
use routes::Routes;
use stream::{ExchangeStream, InFlight, RecvHalf, SendHalf};

/// Bytes of one direction of an exchange that may wait between two cores, or before HTTP/2.
const PIPE_CREDIT_BYTES: usize = 128 << 10;

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
    directory: RefCell<Directory<Handle>>,
    /// Connections that live on this core.
    here: RefCell<HashMap<ConnectionId, Connection>>,
    /// Ways to all cores by index, this one included.
    cores: Vec<Outbox>,
    seed: Cell<u64>,
    ejections: RefCell<Ejections>,
    absences: RefCell<Absences>,
    /// Exchanges that wait for an absent tunnel.
    waiting: Cell<usize>,
    /// Rung whenever a connection has become doubted.
    doubts: Notify,
}

/// A stream could not be opened; another connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the connection is gone")]
    Gone,
    #[error("the owning core's mailbox is full")]
    MailboxFull,
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
            directory: RefCell::default(),
            here: RefCell::default(),
            cores: cores.into_iter().map(Outbox::new).collect(),
            seed: Cell::new(seed),
            ejections: RefCell::new(Ejections::new(ejection)),
            absences: RefCell::new(Absences::new(reconnect_wait, now())),
            waiting: Cell::new(0),
            doubts: Notify::new(),
        }
    }

    /// The tunnel that serves `host`: an exact route first, then the longest wildcard.
    pub(crate) fn route(&self, host: &Hostname) -> Option<TunnelId> {
        self.routes.borrow().tunnel(host)
    }

    /// Picks a connection for one attempt of an exchange; one that is late with an answer only if `doubted`
    /// will do. The attempt may be a `trier` of a replica that was left out.
    pub(crate) fn choose(
        &self,
        tunnel: TunnelId,
        host: &Hostname,
        tried: &Tried,
        wanted: Wanted,
        doubted: Doubted,
        trier: Trier,
    ) -> Result<Choice, NoConnection> {
        let seed = self.seed.get().wrapping_add(1);
        self.seed.set(seed);
        let directory = self.directory.borrow();
        let ejections = self.ejections.borrow();
        let known = ejections.known(tunnel, host, seed, trier, now());
        let ask = Ask {
            tunnel,
            host,
            core: self.context.id.0,
            tried,
            needs_trailers: wanted.trailers == Trailers::Needed,
            prefers_ours: wanted.upgrade,
            takes_doubted: doubted == Doubted::Taken,
            known,
            seed,
        };
        let live = choose(&directory, &ask, |handle| {
            handle.in_flight.load(Ordering::Relaxed)
        })?;
        let choice = Choice::of(live);
        let is_trial = known.is_some_and(|known| known.standing(choice.connector()) == Standing::Trial);
        drop(ejections);
        if is_trial {
            self.begin_trial(tunnel, host, &choice);
        }
        Ok(choice)
    }

    /// Picks a connection of one replica, or of any, whatever hostnames they serve.
    pub(crate) fn choose_replica(
        &self,
        tunnel: TunnelId,
        connector: Option<ConnectorId>,
        tried: &Tried,
    ) -> Option<Choice> {
        let directory = self.directory.borrow();
        let live = directory
            .of(tunnel, connector)
            .filter(|live| !live.is_draining && !tried.connections.contains(&live.id))
            .min_by_key(|live| (live.is_doubted, live.handle.in_flight.load(Ordering::Relaxed)))?;
        Some(Choice::of(live))
    }

    /// Whether the peer of a connection is late with an answer.
    pub(crate) fn is_doubted(&self, id: ConnectionId) -> bool {
        self.directory
            .borrow()
            .get(id)
            .is_some_and(|live| live.is_doubted)
    }

    /// Waits until some connection becomes doubted. Counts from the call, not from the first poll.
    pub(crate) fn doubts(&self) -> Notified<'_> {
        self.doubts.notified()
    }

    /// Waits for a tunnel that has just lost its last connection; true once it has one again, false if it is
    /// not expected, has not come in time, or too many wait.
    pub(crate) async fn returned(&self, tunnel: TunnelId) -> bool {
        let Some(absence) = self.absences.borrow_mut().of(tunnel, now()) else {
            return false;
        };
        if self.waiting.get() >= WAITING_MAX {
            return false;
        }
        let _waiting = Waiting::enter(&self.waiting);
        timeout_at(absence.until, absence.back.notified()).await.is_ok()
    }

    /// Expects a tunnel back whose last connection is lost or late, though the directory may not know it yet.
    pub(crate) fn expect_back(&self, tunnel: TunnelId) {
        self.absences.borrow_mut().begin(tunnel, now());
    }

    /// Exchanges that wait for an absent tunnel.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Opens a data stream on the chosen connection, here or on the core that owns it.
    pub(crate) async fn open(&self, choice: &Choice) -> Result<ExchangeStream, OpenError> {
        let guard = InFlight::enter(choice.load());
        if choice.core == self.context.id {
            let connection = self
                .here
                .borrow()
                .get(&choice.id)
                .cloned()
                .ok_or(OpenError::Gone)?;
            let connection = match connection {
                Connection::Quic(connection) => connection,
                Connection::Http2(connection) => {
                    let (stream, request, response) = piped(guard);
                    // Ends with the exchange: both pipes report their ends.
                    spawn_local(tunnel_http2::exchange::carry(connection, request, response));
                    return Ok(stream);
                }
            };
            let (send, recv) = connection.open_bi().await.map_err(|_| OpenError::Gone)?;
            return Ok(ExchangeStream {
                send: SendHalf::Here(send),
                recv: RecvHalf::Here(recv),
                guard,
            });
        }
        let owner = self
            .cores
            .get(usize::from(choice.core.0))
            .ok_or(OpenError::Gone)?;
        let (stream, request, response) = piped(guard);
        let message = CoreMessage::Open {
            id: choice.id,
            request,
            response,
        };
        owner.try_send(message).map_err(|_| OpenError::MailboxFull)?;
        Ok(stream)
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
        self.here.borrow_mut().insert(live.id, connection);
        self.announce(&CoreNews::Joined(live.clone()));
    }

    /// Forgets a connection of this core and tells all.
    pub(crate) fn disown(&self, id: ConnectionId) {
        if self.here.borrow_mut().remove(&id).is_some() {
            self.announce(&CoreNews::Left(id));
        }
    }

    /// Tells every core, this one at once.
    pub(crate) fn announce(&self, news: &CoreNews) {
        self.on_news(news.clone());
        self.tell_others(news);
    }

    /// Tells every core but this one.
    fn tell_others(&self, news: &CoreNews) {
        for (index, core) in self.cores.iter().enumerate() {
            if index != usize::from(self.context.id.0) {
                core.send(CoreMessage::News(news.clone()));
            }
        }
    }

    pub(crate) fn on_news(&self, news: CoreNews) {
        match news {
            CoreNews::Joined(live) => {
                let tunnel = live.slot.tunnel;
                let loser = self.directory.borrow_mut().join(live);
                self.absences.borrow_mut().end(tunnel);
                // One that is draining ends by itself: a connector that moves to another transport lets it
                // finish.
                if let Some(loser) = loser.filter(|loser| !loser.is_draining) {
                    self.close_here(loser.id, "replaced by a newer connection");
                }
            }
            CoreNews::Left(id) => {
                let left = self.directory.borrow_mut().leave(id);
                if let Some(left) = left {
                    self.miss(left.slot.tunnel);
                    self.forget_health(&left.slot);
                }
            }
            CoreNews::Draining(id) => {
                let drained = self.directory.borrow_mut().drain(id);
                if let Some(slot) = drained {
                    self.miss(slot.tunnel);
                }
            }
            CoreNews::Doubted(id) => {
                let doubted = self.directory.borrow_mut().doubt(id, true);
                if let Some(slot) = doubted {
                    // What keeps one connection of a replica from answering may have hit the others, which
                    // nobody asks.
                    self.check_here(slot.tunnel, slot.connector);
                    self.miss(slot.tunnel);
                    self.doubts.notify_waiters();
                }
            }
            CoreNews::Cleared(id) => {
                let cleared = self.directory.borrow_mut().doubt(id, false);
                if let Some(slot) = cleared {
                    self.absences.borrow_mut().end(slot.tunnel);
                }
            }
            CoreNews::Suspected { tunnel, connector } => self.check_here(tunnel, connector),
            CoreNews::Hosts {
                tunnel,
                connector,
                hosts,
            } => {
                self.directory.borrow_mut().set_hosts(tunnel, connector, hosts);
            }
            CoreNews::ToldHealth {
                tunnel,
                connector,
                health,
            } => {
                self.directory.borrow_mut().set_health(tunnel, connector, health);
            }
            CoreNews::Health(news) => self.hear_health(&news),
        }
    }

    /// Closes those connections of this core that control names.
    pub(crate) fn disconnect(
        &self,
        tunnel: TunnelId,
        connector: Option<ConnectorId>,
        connection: Option<ConnectionId>,
    ) {
        let ids: Vec<_> = self
            .directory
            .borrow()
            .of(tunnel, connector)
            // A single one is named because another has its slot, and is let finish if it drains.
            .filter(|live| connection.is_none_or(|wanted| wanted == live.id && !live.is_draining))
            .map(|live| live.id)
            .collect();
        for id in ids {
            self.close_here(id, "disconnected by control");
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

    /// Expects a tunnel back if it has no connection any more that takes exchanges.
    fn miss(&self, tunnel: TunnelId) {
        let is_present = self
            .directory
            .borrow()
            .of(tunnel, None)
            .any(|live| !live.is_draining && !live.is_doubted);
        if !is_present {
            self.expect_back(tunnel);
        }
    }

    fn check_here(&self, tunnel: TunnelId, connector: ConnectorId) {
        for live in self.directory.borrow().of(tunnel, Some(connector)) {
            if let Some(connection) = self.here(live.id) {
                connection.check();
            }
        }
    }

    fn close_here(&self, id: ConnectionId, reason: &'static str) {
        if let Some(connection) = self.here(id) {
            connection.close(reason);
        }
    }
}

/// Counts one exchange that waits, for as long as it does.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A stream whose other ends are given to whoever carries the exchange.
fn piped(guard: InFlight) -> (ExchangeStream, PipeReader, PipeWriter) {
    let (request, request_there) = pipe(PIPE_CREDIT_BYTES);
    let (response_there, response) = pipe(PIPE_CREDIT_BYTES);
    let stream = ExchangeStream {
        send: SendHalf::There(request),
        recv: RecvHalf::There(response),
        guard,
    };
    (stream, request_there, response_there)
}
