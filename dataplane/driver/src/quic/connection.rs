//! One QUIC connection as tasks see it: open and accept streams, datagrams, close.
//!
//! Tasks and the pump meet in [`ConnectionCell`]: a task acts on quinn-proto's state and *touches* the
//! connection; the pump later drains what that produced. Nothing blocks and nothing is locked: all of it
//! runs on one thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{ConnectionHandle, Dir, Event, StreamId, VarInt};
use rustc_hash::FxHashMap;

use super::endpoint::{ACCEPT_QUEUE_MAX, EndpointCell, EndpointState};
use super::outcome::{ConnectionError, ConnectionStats};
use super::reset::ResetId;
use super::settings::Lasting;
use super::stream::{RecvStream, SendStream};
use super::waiting::{Place, Queue};
use super::watch::Watch;

mod credit;
mod doubt;
mod state;

pub(crate) use credit::StreamCredit;
pub(crate) use state::{ConnectionState, StreamWaiters, park};
use state::{Waiters, is_exchange};

/// A handle on one connection; clones share it. Dropping all of them closes nothing.
#[derive(Clone)]
pub struct Connection(pub(crate) Rc<ConnectionCell>);

pub(crate) struct ConnectionCell {
    endpoint: Rc<EndpointCell>,
    pub(crate) handle: ConnectionHandle,
    key: u64,
    is_touched: Cell<bool>,
    pub(crate) state: RefCell<ConnectionState>,
}

/// What the pump must do after it has looked at a connection.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) woke_tasks: bool,
}

impl Connection {
    /// Unique among the connections of this core since it started.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.0.key
    }

    /// The peer's address; changes when the peer migrates.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.0.state.borrow().proto.remote_address()
    }

    /// What a restarted listener needs to reset this connection: the id whose token the dialling peer was
    /// given.
    #[must_use]
    pub fn reset_id(&self) -> ResetId {
        ResetId::new(self.0.state.borrow().proto.handshake_cid())
    }

    /// The protocol agreed on by ALPN.
    #[must_use]
    pub fn alpn(&self) -> Option<Vec<u8>> {
        let data = self.0.state.borrow().proto.crypto_session().handshake_data()?;
        data.downcast::<HandshakeData>().ok()?.protocol
    }

    /// Opens a bidirectional stream, waiting while the peer's limit is reached.
    ///
    /// # Errors
    /// The reason the connection ended.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let id = self.until(
            |waiters| &mut waiters.open,
            |state| match &state.error {
                Some(error) => Some(Err(error.clone())),
                None => state.proto.streams().open(Dir::Bi).map(Ok),
            },
        );
        let id = id.await?;
        Ok(self.halves(id))
    }

    /// The next bidirectional stream the peer opened.
    ///
    /// # Errors
    /// The reason the connection ended.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let id = self.until(
            |waiters| &mut waiters.accept,
            |state| {
                let accepted = state.proto.streams().accept(Dir::Bi).map(Ok);
                accepted.or_else(|| state.error.clone().map(Err))
            },
        );
        let id = id.await?;
        // Accepting frees a slot of the peer's stream limit, which is announced by a frame.
        self.0.touch();
        Ok(self.halves(id))
    }

    /// Sends an unreliable datagram (RFC 9221); drops it, or the oldest waiting one, when it cannot go.
    pub fn send_datagram(&self, data: Bytes) {
        let sent = self.0.state.borrow_mut().proto.datagrams().send(data, true);
        match sent {
            Ok(()) => self.0.touch(),
            Err(error) => tracing::trace!(%error, "datagram not sent"),
        }
    }

    /// The next datagram from the peer.
    ///
    /// # Errors
    /// The reason the connection ended.
    pub async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        let read = self.until(
            |waiters| &mut waiters.datagram,
            |state| {
                let received = state.proto.datagrams().recv().map(Ok);
                received.or_else(|| state.error.clone().map(Err))
            },
        );
        read.await
    }

    /// Closes with an application error code; streams fail at once, the peer is told.
    pub fn close(&self, code: u32, reason: &[u8]) {
        let mut state = self.0.state.borrow_mut();
        if state.error.is_some() && !state.watch.is_lingering() {
            return;
        }
        state.proto.close(
            Instant::now(),
            VarInt::from_u32(code),
            Bytes::copy_from_slice(reason),
        );
        state.fail(ConnectionError::local());
        drop(state);
        self.0.touch();
    }

    /// Waits for the end of the connection and says why it came.
    pub async fn closed(&self) -> ConnectionError {
        self.until(|waiters| &mut waiters.closed, |state| state.error.clone())
            .await
    }

    /// From here on the connection may be silent for as long as neither side has anything to say. One that
    /// waits for an answer, or has an exchange, sends PINGs and is lost after
    /// [`silence_max`](super::TransportSettings::silence_max) all the same. Both sides must agree on this.
    pub fn allow_silence(&self) {
        self.0.state.borrow_mut().watch.be_patient();
        self.0.touch();
    }

    /// Sends a PING after `first` and then every `interval`, whatever else is said, so that several
    /// connections can take turns.
    pub fn ping_by_clock(&self, first: Duration, interval: Duration) {
        let mut state = self.0.state.borrow_mut();
        state.watch.ping_by_clock(Instant::now() + first, interval);
        drop(state);
        self.0.touch();
    }

    /// Asks the peer for a sign of life, unless something asks it already.
    pub fn check(&self) {
        let mut state = self.0.state.borrow_mut();
        if state.error.is_none() && !state.watch.has_asked() {
            state.proto.ping();
            drop(state);
            self.0.touch();
        }
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.state.borrow().error.is_some()
    }

    /// Smoothed round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.0.state.borrow().proto.rtt()
    }

    /// What the connection has measured so far.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        let stats = self.0.state.borrow().proto.stats();
        ConnectionStats {
            rtt: stats.path.rtt,
            rtt_min: stats.path.min_rtt,
            congestion_window: stats.path.cwnd,
            mtu: stats.path.current_mtu,
            lost_packets: stats.path.lost_packets,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_frames: stats.frame_tx.into(),
            received_frames: stats.frame_rx.into(),
        }
    }

    /// Tasks that wait for something about the connection, but for those that wait for a stream.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.state.borrow().waiters.len()
    }

    /// How often something was done for this connection: while it stays, [`stats`](Self::stats) do.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.0.state.borrow().turns
    }

    /// Waits until [`turns`](Self::turns) are not `seen` any more. Never ends if the connection ends before.
    pub async fn turned(&self, seen: u64) {
        let turned = self.until(
            |waiters| &mut waiters.turned,
            |state| (state.turns != seen).then_some(()),
        );
        turned.await;
    }

    pub(crate) async fn connected(&self) -> Result<(), ConnectionError> {
        let connected = self.until(
            |waiters| &mut waiters.connected,
            |state| match &state.error {
                Some(error) => Some(Err(error.clone())),
                None => state.is_connected.then_some(Ok(())),
            },
        );
        connected.await
    }

    /// Waits until `look` finds something; it looks again whenever `queue` was woken.
    async fn until<T>(
        &self,
        queue: fn(&mut Waiters) -> &mut Queue,
        mut look: impl FnMut(&mut ConnectionState) -> Option<T>,
    ) -> T {
        let mut waiting = Waiting {
            connection: &self.0,
            queue,
            place: Place::default(),
        };
        poll_fn(|cx| {
            let mut state = self.0.state.borrow_mut();
            if let Some(found) = look(&mut state) {
                return Poll::Ready(found);
            }
            queue(&mut state.waiters).park(&mut waiting.place, cx);
            Poll::Pending
        })
        .await
    }

    fn halves(&self, id: StreamId) -> (SendStream, RecvStream) {
        self.0.state.borrow_mut().exchange_halves += 2 * usize::from(is_exchange(id));
        (
            SendStream::new(self.0.clone(), id),
            RecvStream::new(self.0.clone(), id),
        )
    }
}

/// Somebody who waits, until he waits no more.
struct Waiting<'a> {
    connection: &'a ConnectionCell,
    queue: fn(&mut Waiters) -> &mut Queue,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.connection.state.borrow_mut();
        (self.queue)(&mut state.waiters).leave(&mut self.place);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("key", &self.0.key)
            .finish_non_exhaustive()
    }
}

impl ConnectionCell {
    pub(crate) fn new(
        endpoint: &Rc<EndpointCell>,
        handle: ConnectionHandle,
        key: u64,
        proto: quinn_proto::Connection,
        lasting: Lasting,
    ) -> Rc<Self> {
        let is_half_open = proto.side().is_server();
        Rc::new(Self {
            endpoint: endpoint.clone(),
            handle,
            key,
            is_touched: Cell::new(false),
            state: RefCell::new(ConnectionState {
                proto,
                streams: FxHashMap::default(),
                error: None,
                is_connected: false,
                is_half_open,
                is_drained: false,
                timer: None,
                watch: Watch::new(Instant::now(), lasting.silence_max),
                exchange_halves: 0,
                doubts: 0,
                cleared: Rc::default(),
                turns: 0,
                writable: Vec::new(),
                served_floor: 0,
                windows: lasting.windows,
                credit: credit::Credit::default(),
                held_back: BTreeSet::new(),
                grants: 0,
                waiters: Waiters::default(),
            }),
        })
    }

    /// Asks the pump to look at this connection.
    pub(crate) fn touch(self: &Rc<Self>) {
        if !self.is_touched.replace(true) {
            self.endpoint.touched.borrow_mut().push_back(self.clone());
            self.endpoint.wake_pump();
        }
    }

    /// The pump has taken it off the list.
    pub(crate) fn untouch(&self) {
        self.is_touched.set(false);
    }

    pub(crate) fn handle_timeout(&self, now: Instant, endpoint: &mut EndpointState) {
        let mut state = self.state.borrow_mut();
        state.timer = None;
        state.proto.handle_timeout(now);
        if state.proto.is_closed() {
            return;
        }
        let has_exchange = state.exchange_halves > 0;
        let verdict = state.watch.handle_timeout(now, has_exchange);
        self.obey(verdict, now, &mut state, endpoint);
    }

    /// Moves events between quinn-proto's endpoint and connection and wakes whoever waits for them.
    pub(crate) fn dispatch(self: &Rc<Self>, endpoint: &mut EndpointState) -> Outcome {
        let mut outcome = Outcome::default();
        let mut state = self.state.borrow_mut();
        if state.is_drained {
            return outcome;
        }
        while let Some(event) = state.proto.poll_endpoint_events() {
            let is_drained = event.is_drained();
            if let Some(answer) = endpoint.proto.handle_event(self.handle, event) {
                state.proto.handle_event(answer);
            }
            if is_drained {
                let timer = state.timer.take();
                endpoint.rearm(self.handle, timer, None);
                state.is_drained = true;
                endpoint.remove(self.handle);
                break;
            }
        }
        while let Some(event) = state.proto.poll() {
            outcome.woke_tasks = true;
            self.on_event(&mut state, endpoint, event);
        }
        state.wake_writers();
        outcome
    }

    /// Builds the next packets into `buffer`.
    pub(crate) fn poll_transmit(
        &self,
        now: Instant,
        segments_max: impl FnOnce(u16) -> usize,
        buffer: &mut Vec<u8>,
    ) -> Option<quinn_proto::Transmit> {
        let mut state = self.state.borrow_mut();
        if state.is_drained {
            return None;
        }
        let segments = segments_max(state.proto.current_mtu());
        state.proto.poll_transmit(now, segments, buffer)
    }

    /// Notes what the turn has brought and enters the connection's next deadline into the endpoint's timers.
    pub(crate) fn rearm(self: &Rc<Self>, now: Instant, endpoint: &mut EndpointState) {
        let mut state = self.state.borrow_mut();
        if state.is_drained {
            return;
        }
        state.turns += 1;
        state.waiters.turned.wake_all();
        let mut next = state.proto.poll_timeout();
        if !state.proto.is_closed() {
            let stats = state.proto.stats();
            if state.release_held_back(stats.frame_rx.max_data + stats.frame_rx.max_stream_data) {
                state.wake_writers();
            }
            let is_heard = state.note(now, &stats);
            if is_heard && state.watch.is_lingering() {
                state.give_up(now);
                self.touch();
            } else {
                let has_exchange = state.exchange_halves > 0;
                if let Some(patience) = state.watch.patience(has_exchange) {
                    next = next.map(|next| next.max(patience));
                }
                let watch = state.watch.poll_timeout(has_exchange);
                next = next.into_iter().chain(watch).min();
            }
        }
        if next != state.timer {
            endpoint.rearm(self.handle, state.timer, next);
            state.timer = next;
        }
    }

    fn on_event(self: &Rc<Self>, state: &mut ConnectionState, endpoint: &mut EndpointState, event: Event) {
        match event {
            Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
            Event::Connected => {
                state.is_connected = true;
                state.waiters.connected.wake_all();
                if state.end_half_open(endpoint) {
                    self.offer(state, endpoint);
                }
            }
            Event::ConnectionLost { reason } => {
                state.end_half_open(endpoint);
                state.fail(reason.into());
            }
            Event::DatagramReceived => state.waiters.datagram.wake_all(),
            Event::Stream(event) => state.on_stream_event(event),
        }
    }

    /// Hands an accepted connection to `Endpoint::accept`.
    fn offer(self: &Rc<Self>, state: &mut ConnectionState, endpoint: &mut EndpointState) {
        if endpoint.accepted.len() >= ACCEPT_QUEUE_MAX {
            self.endpoint.count(|stats| stats.refused += 1);
            state
                .proto
                .close(Instant::now(), VarInt::from_u32(0), Bytes::from_static(b"busy"));
            state.fail(ConnectionError::local());
            return;
        }
        endpoint.accepted.push_back(Connection(self.clone()));
        if let Some(waker) = endpoint.acceptor.take() {
            waker.wake();
        }
    }
}
