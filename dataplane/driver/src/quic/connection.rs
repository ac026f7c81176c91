//! One QUIC connection as tasks see it: open and accept streams, datagrams, close.
//!
//! Tasks and the pump meet in [`ConnectionCell`]: a task acts on quinn-proto's state and *touches* the
//! connection; the pump later drains what that produced. Nothing blocks and nothing is locked: all of it
//! runs on one thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{ConnectionHandle, Dir, Event, StreamEvent, StreamId, VarInt};
use rustc_hash::FxHashMap;

use super::endpoint::{ACCEPT_QUEUE_MAX, EndpointCell, EndpointState};
use super::outcome::{ConnectionError, ConnectionStats};
use super::stream::{RecvStream, SendStream};

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

pub(crate) struct ConnectionState {
    pub(crate) proto: quinn_proto::Connection,
    /// Stream ids are counted up by either side, so the hash need not withstand an attacker.
    pub(crate) streams: FxHashMap<StreamId, StreamWaiters>,
    pub(crate) error: Option<ConnectionError>,
    is_connected: bool,
    /// Counts as half-open until the handshake ends.
    is_half_open: bool,
    /// quinn-proto has forgotten the handle; nothing may be sent under it any more.
    is_drained: bool,
    timer: Option<Instant>,
    waiters: Waiters,
}

#[derive(Default)]
struct Waiters {
    connected: Vec<Waker>,
    open: VecDeque<Waker>,
    accept: Vec<Waker>,
    datagram: Vec<Waker>,
    closed: Vec<Waker>,
}

/// Tasks waiting on one stream.
#[derive(Default)]
pub(crate) struct StreamWaiters {
    pub(crate) read: Option<Waker>,
    pub(crate) write: Option<Waker>,
    pub(crate) stopped: Option<Waker>,
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
        let id = poll_fn(|cx| {
            let mut state = self.0.state.borrow_mut();
            if let Some(error) = &state.error {
                return Poll::Ready(Err(error.clone()));
            }
            match state.proto.streams().open(Dir::Bi) {
                Some(id) => Poll::Ready(Ok(id)),
                None => {
                    state.waiters.open.push_back(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await?;
        Ok(self.halves(id))
    }

    /// The next bidirectional stream the peer opened.
    ///
    /// # Errors
    /// The reason the connection ended.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let id = poll_fn(|cx| {
            let mut state = self.0.state.borrow_mut();
            match (state.proto.streams().accept(Dir::Bi), &state.error) {
                (Some(id), _) => Poll::Ready(Ok(id)),
                (None, Some(error)) => Poll::Ready(Err(error.clone())),
                (None, None) => {
                    state.waiters.accept.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await?;
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
        poll_fn(|cx| {
            let mut state = self.0.state.borrow_mut();
            match (state.proto.datagrams().recv(), &state.error) {
                (Some(data), _) => Poll::Ready(Ok(data)),
                (None, Some(error)) => Poll::Ready(Err(error.clone())),
                (None, None) => {
                    state.waiters.datagram.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Closes with an application error code; streams fail at once, the peer is told.
    pub fn close(&self, code: u32, reason: &[u8]) {
        let mut state = self.0.state.borrow_mut();
        if state.error.is_some() {
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
        poll_fn(|cx| {
            let mut state = self.0.state.borrow_mut();
            match &state.error {
                Some(error) => Poll::Ready(error.clone()),
                None => {
                    state.waiters.closed.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
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

    pub(crate) async fn connected(&self) -> Result<(), ConnectionError> {
        poll_fn(|cx| {
            let mut state = self.0.state.borrow_mut();
            match &state.error {
                Some(error) => Poll::Ready(Err(error.clone())),
                None if state.is_connected => Poll::Ready(Ok(())),
                None => {
                    state.waiters.connected.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn halves(&self, id: StreamId) -> (SendStream, RecvStream) {
        (
            SendStream::new(self.0.clone(), id),
            RecvStream::new(self.0.clone(), id),
        )
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
        is_half_open: bool,
    ) -> Rc<Self> {
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

    pub(crate) fn handle_timeout(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        state.timer = None;
        state.proto.handle_timeout(now);
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

    /// Enters the connection's next deadline into the endpoint's timers.
    pub(crate) fn rearm(&self, endpoint: &mut EndpointState) {
        let mut state = self.state.borrow_mut();
        if state.is_drained {
            return;
        }
        let next = state.proto.poll_timeout();
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
                wake_all(&mut state.waiters.connected);
                if state.end_half_open(endpoint) {
                    self.offer(state, endpoint);
                }
            }
            Event::ConnectionLost { reason } => {
                state.end_half_open(endpoint);
                state.fail(reason.into());
            }
            Event::DatagramReceived => wake_all(&mut state.waiters.datagram),
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

impl ConnectionState {
    /// Returns whether it was half-open.
    fn end_half_open(&mut self, endpoint: &mut EndpointState) -> bool {
        let was = std::mem::take(&mut self.is_half_open);
        endpoint.half_open -= usize::from(was);
        was
    }

    fn fail(&mut self, error: ConnectionError) {
        self.error.get_or_insert(error);
        wake_all(&mut self.waiters.connected);
        wake_all(&mut self.waiters.accept);
        wake_all(&mut self.waiters.datagram);
        wake_all(&mut self.waiters.closed);
        for waker in self.waiters.open.drain(..) {
            waker.wake();
        }
        for waiters in self.streams.values_mut() {
            for waker in [waiters.read.take(), waiters.write.take(), waiters.stopped.take()] {
                wake(waker);
            }
        }
    }

    fn on_stream_event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened { .. } => wake_all(&mut self.waiters.accept),
            StreamEvent::Available { .. } => {
                for waker in self.waiters.open.drain(..) {
                    waker.wake();
                }
            }
            StreamEvent::Readable { id } => {
                wake(self.streams.get_mut(&id).and_then(|waiters| waiters.read.take()));
            }
            StreamEvent::Writable { id } => {
                wake(self.streams.get_mut(&id).and_then(|waiters| waiters.write.take()));
            }
            StreamEvent::Finished { id } => {
                wake(
                    self.streams
                        .get_mut(&id)
                        .and_then(|waiters| waiters.stopped.take()),
                );
            }
            StreamEvent::Stopped { id, .. } => {
                if let Some(waiters) = self.streams.get_mut(&id) {
                    wake(waiters.stopped.take());
                    wake(waiters.write.take());
                }
            }
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn wake_all(wakers: &mut Vec<Waker>) {
    for waker in wakers.drain(..) {
        waker.wake();
    }
}

/// Registers `cx` in a slot, keeping a waker that would wake the same task. Returns the one it replaces.
pub(crate) fn park(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}
