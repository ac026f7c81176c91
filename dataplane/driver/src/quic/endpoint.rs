//! Owns the connections of one core: dialled, accepted, or still shaking hands.
//!
//! ```text
//! datagram ─► pump ─► quinn-proto ─► handshaking ─► Connected ─► accept queue ─► accept()
//!                        │ half-open above the mark: Retry; above the maximum: refused
//!                        └ meant for another core: stray sink
//! ```

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use quinn_proto::{ConnectionHandle, EndpointConfig};

use super::cid::{CoreIds, ServerId};
use super::connection::{Connection, ConnectionCell};
use super::outcome::ConnectionError;
use super::pump;
use super::reset::{RESET_INTERVAL, ResetKey};
use super::settings::{ClientConfig, Lasting, ServerConfig};
use super::waiting::{Place, Queue};
use crate::core::{CoreContext, CoreId};
use crate::udp::{self, Udp};

/// Half-open handshakes of one core above which a client must prove its address first (Retry).
pub(crate) const HALF_OPEN_RETRY_MARK: usize = 256;
/// Half-open handshakes of one core above which new ones are refused.
pub(crate) const HALF_OPEN_MAX: usize = 2_048;
/// Established connections waiting for `accept`; more are closed again.
pub(crate) const ACCEPT_QUEUE_MAX: usize = 1_024;
/// Datagrams from other cores that wait for the pump.
pub const STRAYS_MAX: usize = 4_096;
/// Words of the network about peers that one core heeds within [`UNREACHABLE_INTERVAL`]; the rest is only
/// counted.
const UNREACHABLE_MAX: u32 = 256;
const UNREACHABLE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// Connections of one core; more are refused.
pub(crate) const CONNECTIONS_MAX: usize = 65_536;

/// Accepts datagrams of any size that fits one UDP packet, so that jumbo paths can be used.
const UDP_PAYLOAD_BYTES_MAX: u16 = 65_527;

/// How an endpoint takes its place among the cores.
#[derive(Clone, Copy, Debug)]
pub struct EndpointOptions {
    /// The core it lives on.
    pub context: CoreContext,
    /// This host in connection ids.
    pub server_id: ServerId,
    /// This process in connection ids.
    pub generation: u8,
    /// What reset tokens are made of; random for this core alone when absent.
    pub reset_key: Option<ResetKey>,
}

impl EndpointOptions {
    /// Options for a host that no outer balancer routes to by connection id.
    #[must_use]
    pub fn new(context: CoreContext) -> Self {
        Self {
            context,
            server_id: ServerId::default(),
            generation: 0,
            reset_key: None,
        }
    }
}

/// A datagram on its way to the core it is meant for.
#[derive(Debug)]
pub struct StrayPacket {
    pub(crate) from: SocketAddr,
    pub(crate) to_ip: Option<std::net::IpAddr>,
    pub(crate) ecn: Option<quinn_proto::EcnCodepoint>,
    pub(crate) data: BytesMut,
}

/// Counters of one endpoint since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndpointStats {
    /// Connections alive, handshaking ones included.
    pub connections: usize,
    /// Handshakes under way that the peer began.
    pub half_open: usize,
    /// UDP datagrams received on this core's socket.
    pub datagrams_received: u64,
    /// Sends, each of up to 44 datagrams.
    pub transmits_sent: u64,
    /// Datagrams handed to another core.
    pub strays_sent: u64,
    /// Datagrams taken from another core.
    pub strays_received: u64,
    /// Retry packets sent.
    pub retries_sent: u64,
    /// Stateless resets sent to peers of connections that nobody here knows.
    pub resets_sent: u64,
    /// Times that the network said of a peer that it is not there.
    pub unreachable: u64,
    /// Handshakes refused at a limit.
    pub refused: u64,
    /// Batches dropped because they did not fit a receive buffer.
    pub truncated: u64,
    /// Sends refused by the kernel.
    pub send_errors: u64,
}

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address or name cannot be dialled at all.
    #[error("cannot start a connection: {0}")]
    Start(#[from] quinn_proto::ConnectError),
    /// The handshake ended in an error.
    #[error("handshake failed: {0}")]
    Handshake(#[from] ConnectionError),
}

/// One core's QUIC endpoint. Clones share it; it lives until the process ends.
#[derive(Clone)]
pub struct Endpoint(pub(crate) Rc<EndpointCell>);

pub(crate) type UnreachableSink = Box<dyn Fn(SocketAddr, bool)>;

pub(crate) type StraySink = Box<dyn Fn(CoreId, StrayPacket)>;

pub(crate) struct EndpointCell {
    pub(crate) context: CoreContext,
    pub(crate) is_listening: bool,
    pub(crate) server: Option<ServerConfig>,
    local_addr: SocketAddr,
    pub(crate) state: RefCell<EndpointState>,
    /// Connections that may have something to send, each at most once.
    pub(crate) touched: RefCell<VecDeque<Rc<ConnectionCell>>>,
    pump: Cell<Option<Waker>>,
    pub(crate) stats: Cell<EndpointStats>,
    pub(crate) stray_sink: RefCell<Option<StraySink>>,
    pub(crate) unreachable_sink: RefCell<Option<UnreachableSink>>,
    heeded: Cell<Heeding>,
}

pub(crate) struct EndpointState {
    pub(crate) proto: quinn_proto::Endpoint,
    /// Indexed by quinn-proto's handle.
    pub(crate) connections: Vec<Option<Rc<ConnectionCell>>>,
    pub(crate) timers: BTreeSet<(Instant, usize)>,
    pub(crate) strays: VecDeque<StrayPacket>,
    pub(crate) accepted: VecDeque<Connection>,
    pub(crate) acceptor: Option<Waker>,
    pub(crate) idle_waiters: Queue,
    pub(crate) open_count: usize,
    pub(crate) half_open: usize,
    pub(crate) is_refusing: bool,
    next_key: u64,
}

impl Endpoint {
    /// Accepts connections on `socket` (see [`udp::bind_group`]) and starts the pump on this core.
    ///
    /// # Errors
    /// What the kernel says to the socket options or the receive ring.
    pub fn listen(socket: UdpSocket, server: ServerConfig, options: EndpointOptions) -> io::Result<Self> {
        Self::start(socket, Some(server), options)
    }

    /// Dials only, from a socket of its own bound to `bind`.
    ///
    /// # Errors
    /// What the kernel says to the bind, the socket options or the receive ring.
    pub fn client(bind: SocketAddr, options: EndpointOptions) -> io::Result<Self> {
        Self::start(udp::bind(bind, false)?, None, options)
    }

    fn start(socket: UdpSocket, server: Option<ServerConfig>, options: EndpointOptions) -> io::Result<Self> {
        let io = Udp::new(socket, options.context.io)?;
        let is_listening = server.is_some();
        let proto = quinn_proto::Endpoint::new(
            Arc::new(endpoint_config(&options)),
            server.as_ref().map(ServerConfig::usual),
            !io.may_fragment(),
            None,
        );
        let cell = Rc::new(EndpointCell {
            context: options.context,
            is_listening,
            server,
            local_addr: io.local_addr()?,
            state: RefCell::new(EndpointState::new(proto)),
            touched: RefCell::default(),
            pump: Cell::default(),
            stats: Cell::default(),
            stray_sink: RefCell::default(),
            unreachable_sink: RefCell::default(),
            heeded: Cell::default(),
        });
        // Owned by the core: the pump ends with the process, and it alone keeps the socket open.
        tokio::task::spawn_local(pump::run(cell.clone(), io));
        Ok(Self(cell))
    }

    /// Connects to `addr` and waits for the handshake.
    ///
    /// # Errors
    /// [`DialError`]; an unreachable peer ends in the idle timeout of `config`.
    pub async fn dial(
        &self,
        config: &ClientConfig,
        addr: SocketAddr,
        server_name: &str,
    ) -> Result<Connection, DialError> {
        let connection = {
            let mut state = self.0.state.borrow_mut();
            let (handle, proto) =
                state
                    .proto
                    .connect(Instant::now(), config.towards(addr), addr, server_name)?;
            state.insert(&self.0, handle, proto, config.lasting())
        };
        connection.0.touch();
        connection.connected().await?;
        Ok(connection)
    }

    /// The next connection whose handshake is complete.
    pub async fn accept(&self) -> Option<Connection> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Option<Connection>> {
        let mut state = self.0.state.borrow_mut();
        match state.accepted.pop_front() {
            Some(connection) => Poll::Ready(Some(connection)),
            None => {
                state.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The address the socket is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }

    /// Refuses new connections from here on; existing ones go on.
    pub fn refuse_new(&self) {
        self.0.state.borrow_mut().is_refusing = true;
    }

    /// Closes every connection with an application error code.
    pub fn close(&self, code: u32, reason: &[u8]) {
        let reason = Bytes::copy_from_slice(reason);
        let connections: Vec<_> = self
            .0
            .state
            .borrow()
            .connections
            .iter()
            .flatten()
            .cloned()
            .collect();
        for cell in connections {
            Connection(cell).close(code, &reason);
        }
    }

    /// Waits until every connection is gone and its last packets are sent.
    pub async fn idle(&self) {
        let mut place = Place::default();
        poll_fn(|cx| {
            let mut state = self.0.state.borrow_mut();
            if state.open_count == 0 {
                return Poll::Ready(());
            }
            state.idle_waiters.park(&mut place, cx);
            Poll::Pending
        })
        .await;
    }

    /// Sets where datagrams go that are meant for another core. Without a sink they are handled here.
    pub fn set_stray_sink(&self, sink: impl Fn(CoreId, StrayPacket) + 'static) {
        *self.0.stray_sink.borrow_mut() = Some(Box::new(sink));
    }

    /// Sets who tells the other cores of a listener that the network says a peer is not there.
    pub fn set_unreachable_sink(&self, sink: impl Fn(SocketAddr, bool) + 'static) {
        *self.0.unreachable_sink.borrow_mut() = Some(Box::new(sink));
    }

    /// Another core has heard that a peer is not there: `is_port` if nobody is at its port, else there is no
    /// way to it.
    pub fn handle_unreachable(&self, peer: SocketAddr, is_port: bool) {
        self.0.unreachable(peer, is_port, Instant::now());
    }

    /// Takes a datagram that another core received for us; above [`STRAYS_MAX`] waiting ones it is lost,
    /// as on a full socket.
    pub fn handle_stray(&self, packet: StrayPacket) {
        let mut state = self.0.state.borrow_mut();
        if state.strays.len() < STRAYS_MAX {
            state.strays.push_back(packet);
            drop(state);
            self.0.wake_pump();
        }
    }

    /// Counters and gauges of this core.
    #[must_use]
    pub fn stats(&self) -> EndpointStats {
        let state = self.0.state.borrow();
        EndpointStats {
            connections: state.open_count,
            half_open: state.half_open,
            ..self.0.stats.get()
        }
    }
}

/// What quinn-proto's endpoint is configured with: connection ids, the key for resets, and what it receives.
#[must_use]
pub fn endpoint_config(options: &EndpointOptions) -> EndpointConfig {
    let mut config = match options.reset_key {
        Some(key) => EndpointConfig::new(key.hmac()),
        None => EndpointConfig::default(),
    };
    config
        .min_reset_interval(RESET_INTERVAL)
        .max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX)
        .expect("above the minimum of 1200");
    let EndpointOptions {
        context,
        server_id: server,
        generation,
        ..
    } = *options;
    let core = context.id;
    config.cid_generator(move || {
        Box::new(CoreIds {
            core,
            server,
            generation,
        })
    });
    config
}

/// How many words of the network were heeded in a second.
#[derive(Clone, Copy, Default)]
struct Heeding {
    since: Option<Instant>,
    count: u32,
}

impl Heeding {
    fn one_more(self, now: Instant) -> Option<Self> {
        let is_same = self
            .since
            .is_some_and(|since| now.saturating_duration_since(since) < UNREACHABLE_INTERVAL);
        if !is_same {
            return Some(Self {
                since: Some(now),
                count: 1,
            });
        }
        (self.count < UNREACHABLE_MAX).then_some(Self {
            count: self.count + 1,
            ..self
        })
    }
}

impl EndpointCell {
    pub(crate) fn wake_pump(&self) {
        if let Some(waker) = self.pump.take() {
            waker.wake();
        }
    }

    /// Has connections to `peer` ask whether it is there. Looks at every connection, so only so often a
    /// second.
    pub(crate) fn unreachable(&self, peer: SocketAddr, is_port: bool, now: Instant) {
        let Some(heeded) = self.heeded.get().one_more(now) else {
            return;
        };
        self.heeded.set(heeded);
        let mut state = self.state.borrow_mut();
        let is_meant = |cell: &&Rc<ConnectionCell>| cell.state.borrow().proto.remote_address() == peer;
        let meant: Vec<_> = state
            .connections
            .iter()
            .flatten()
            .filter(is_meant)
            .cloned()
            .collect();
        for cell in meant {
            cell.unreachable(now, is_port, &mut state);
        }
    }

    pub(crate) fn set_pump(&self, waker: &Waker) {
        self.pump.set(Some(waker.clone()));
    }

    pub(crate) fn count(&self, update: impl FnOnce(&mut EndpointStats)) {
        let mut stats = self.stats.get();
        update(&mut stats);
        self.stats.set(stats);
    }
}

impl EndpointState {
    fn new(proto: quinn_proto::Endpoint) -> Self {
        Self {
            proto,
            connections: Vec::new(),
            timers: BTreeSet::new(),
            strays: VecDeque::new(),
            accepted: VecDeque::new(),
            acceptor: None,
            idle_waiters: Queue::default(),
            open_count: 0,
            half_open: 0,
            is_refusing: false,
            next_key: 0,
        }
    }

    pub(crate) fn insert(
        &mut self,
        endpoint: &Rc<EndpointCell>,
        handle: ConnectionHandle,
        proto: quinn_proto::Connection,
        lasting: Lasting,
    ) -> Connection {
        let key = self.next_key;
        self.next_key += 1;
        let is_incoming = proto.side().is_server();
        let cell = ConnectionCell::new(endpoint, handle, key, proto, lasting);
        if self.connections.len() <= handle.0 {
            self.connections.resize_with(handle.0 + 1, || None);
        }
        self.connections[handle.0] = Some(cell.clone());
        self.open_count += 1;
        self.half_open += usize::from(is_incoming);
        Connection(cell)
    }

    pub(crate) fn connection(&self, handle: ConnectionHandle) -> Option<Rc<ConnectionCell>> {
        self.connections.get(handle.0)?.clone()
    }

    /// Forgets a connection that quinn-proto has drained.
    pub(crate) fn remove(&mut self, handle: ConnectionHandle) {
        if let Some(slot) = self.connections.get_mut(handle.0)
            && slot.take().is_some()
        {
            self.open_count -= 1;
        }
        if self.open_count == 0 {
            self.idle_waiters.wake_all();
        }
    }

    /// Moves the timer of one connection.
    pub(crate) fn rearm(&mut self, handle: ConnectionHandle, from: Option<Instant>, to: Option<Instant>) {
        if let Some(deadline) = from {
            self.timers.remove(&(deadline, handle.0));
        }
        if let Some(deadline) = to {
            self.timers.insert((deadline, handle.0));
        }
    }
}
