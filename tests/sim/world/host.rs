//! One process's QUIC endpoint without a socket: quinn-proto's machines, driven as a core's pump does it.
//!
//! ```text
//! receive, expire ─► dispatch ─► events ─► whose host it is acts ─► transmit ─► network
//! ```
//! Liveness is judged by the driver's own [`Watch`], and what its verdicts lead to is what
//! `adit_driver::quic::connection` does. Endpoint, transport and connection ids are configured by the driver.
//!
//! Does not: know what streams carry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_driver::quic::ResetKey;
use adit_driver::quic::watch::{Verdict, Watch};
use adit_proto::limits::SILENCE_MAX;
use adit_proto::supervisor::End;
use bytes::{Bytes, BytesMut};
use quinn_proto::{
    Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint, FinishError, ReadError,
    Side, StreamEvent, StreamId, VarInt,
};

use super::clock::earlier;
use super::keys::{self, Make, NAME, keys};
use super::network::{Network, Packet};

/// Datagrams of one send, as the driver allows them.
const SEGMENTS_MAX: usize = 44;

/// Names a connection of one host for as long as that runs; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId {
    handle: usize,
    key: u64,
}

/// What has happened to a connection or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Connected(LinkId),
    /// Streams of it are dead.
    Lost(LinkId, End),
    /// Something can be read; also of a stream that the peer has just opened.
    Readable(LinkId, StreamId),
    /// The peer wants no more on this stream.
    Stopped(LinkId, StreamId),
    /// The peer is late with an answer.
    Doubted(LinkId),
    /// It was heard again.
    Cleared(LinkId),
    /// The peer has seen us at a new address.
    Moved,
}

/// How the receiving half of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    Finished,
    Reset,
    Lost,
}

/// One connection.
struct Link {
    key: u64,
    proto: Connection,
    watch: Watch,
    is_lost: bool,
    /// Streams in use, but for the control stream.
    exchanges: BTreeSet<StreamId>,
    timer: Option<Instant>,
}

/// The endpoint and its connections.
pub(super) struct Host {
    pub(super) address: SocketAddr,
    endpoint: Endpoint,
    links: BTreeMap<usize, Link>,
    touched: BTreeSet<usize>,
    events: VecDeque<Event>,
    /// Answers of the endpoint itself: resets, refusals.
    answers: Vec<(SocketAddr, SocketAddr, BytesMut)>,
    next_key: u64,
    buffer: Vec<u8>,
}

impl Host {
    /// A host that dials.
    pub(super) fn dialling(address: SocketAddr, seed: u64) -> Self {
        Self::new(address, seed, None)
    }

    /// A host that listens; `reset_key` is on its disk.
    pub(super) fn listening(address: SocketAddr, seed: u64, reset_key: ResetKey) -> Self {
        Self::new(address, seed, Some(reset_key))
    }

    fn new(address: SocketAddr, seed: u64, reset_key: Option<ResetKey>) -> Self {
        let server = reset_key.is_some().then(|| keys().server.usual());
        let config = keys::endpoint(seed, reset_key);
        Self {
            address,
            endpoint: Endpoint::new(Arc::new(config), server, true, None),
            links: BTreeMap::new(),
            touched: BTreeSet::new(),
            events: VecDeque::new(),
            answers: Vec::new(),
            next_key: 0,
            buffer: Vec::new(),
        }
    }

    pub(super) fn dial(&mut self, now: Instant, to: SocketAddr, make: Make) -> LinkId {
        let dialled = self.endpoint.connect(now, keys().client(make), to, NAME);
        let (handle, proto) = dialled.expect("a good configuration");
        self.insert(now, handle, proto)
    }

    fn insert(&mut self, now: Instant, handle: ConnectionHandle, proto: Connection) -> LinkId {
        self.next_key += 1;
        let (handle, key) = (handle.0, self.next_key);
        let link = Link {
            key,
            proto,
            watch: Watch::new(now, SILENCE_MAX),
            is_lost: false,
            exchanges: BTreeSet::new(),
            timer: None,
        };
        self.links.insert(handle, link);
        self.touched.insert(handle);
        LinkId { handle, key }
    }

    pub(super) fn receive(&mut self, now: Instant, packet: Packet) {
        let mut answer = Vec::new();
        let Packet { from, to, data } = packet;
        let answered = match self
            .endpoint
            .handle(now, from, Some(to.ip()), None, data, &mut answer)
        {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(link) = self.links.get_mut(&handle.0) {
                    link.proto.handle_event(event);
                    self.touched.insert(handle.0);
                }
                None
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let config = Some(keys().server.usual());
                match self.endpoint.accept(incoming, now, &mut answer, config) {
                    Ok((handle, proto)) => {
                        self.insert(now, handle, proto);
                        None
                    }
                    Err(error) => error.response,
                }
            }
            Some(DatagramEvent::Response(transmit)) => Some(transmit),
            None => None,
        };
        if let Some(transmit) = answered {
            let data = BytesMut::from(&answer[..transmit.size]);
            self.answers.push((to, transmit.destination, data));
        }
    }

    /// When [`expire`](Self::expire) wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().filter_map(|link| link.timer).min()
    }

    pub(super) fn expire(&mut self, now: Instant) {
        for (handle, link) in &mut self.links {
            if link.timer.is_none_or(|timer| timer > now) {
                continue;
            }
            self.touched.insert(*handle);
            link.timer = None;
            link.proto.handle_timeout(now);
            if link.proto.is_closed() {
                continue;
            }
            let id = LinkId {
                handle: *handle,
                key: link.key,
            };
            match link.watch.handle_timeout(now, !link.exchanges.is_empty()) {
                Verdict::Nothing => {}
                Verdict::Ping => link.proto.ping(),
                Verdict::Doubt => {
                    link.proto.ping();
                    self.events.push_back(Event::Doubted(id));
                }
                Verdict::Lost => {
                    link.is_lost = true;
                    self.events.push_back(Event::Lost(id, End::Silent));
                    let is_worth_asking = link.proto.side().is_server() && link.watch.linger();
                    if !is_worth_asking {
                        link.give_up(now);
                    }
                }
            }
        }
    }

    /// Moves what has happened from quinn-proto's machines to the events.
    pub(super) fn dispatch(&mut self) {
        for handle in self.touched.clone() {
            let Some(link) = self.links.get_mut(&handle) else {
                continue;
            };
            let mut is_drained = false;
            while let Some(event) = link.proto.poll_endpoint_events() {
                is_drained |= event.is_drained();
                if let Some(answer) = self.endpoint.handle_event(ConnectionHandle(handle), event) {
                    link.proto.handle_event(answer);
                }
            }
            let id = LinkId {
                handle,
                key: link.key,
            };
            while let Some(event) = link.proto.poll() {
                link.on_event(id, event, &mut self.events);
            }
            if is_drained {
                self.links.remove(&handle);
            }
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sends what there is to send, and sets the timers.
    pub(super) fn transmit(&mut self, now: Instant, network: &mut Network) {
        for (from, to, data) in self.answers.drain(..) {
            network.send(now, from, to, data);
        }
        while let Some(handle) = self.touched.first().copied() {
            let Some(link) = self.links.get_mut(&handle) else {
                self.touched.remove(&handle);
                continue;
            };
            loop {
                self.buffer.clear();
                let Some(transmit) = link.proto.poll_transmit(now, SEGMENTS_MAX, &mut self.buffer) else {
                    break;
                };
                // An edge has two addresses, and answers from the one that was asked.
                let ip = transmit.src_ip.unwrap_or_else(|| self.address.ip());
                let from = SocketAddr::new(ip, self.address.port());
                let mut batch = BytesMut::from(&self.buffer[..transmit.size]);
                let stride = transmit.segment_size.unwrap_or(transmit.size);
                while !batch.is_empty() {
                    let datagram = batch.split_to(stride.min(batch.len()));
                    network.send(now, from, transmit.destination, datagram);
                }
            }
            self.rearm(now, handle);
        }
    }

    fn rearm(&mut self, now: Instant, handle: usize) {
        self.touched.remove(&handle);
        let Some(link) = self.links.get_mut(&handle) else {
            return;
        };
        let id = LinkId {
            handle,
            key: link.key,
        };
        let mut next = link.proto.poll_timeout();
        if !link.proto.is_closed() {
            let was_doubted = link.watch.is_in_doubt();
            let stats = link.proto.stats();
            let is_heard = link
                .watch
                .note(now, stats.path.rtt, &stats.frame_tx, &stats.frame_rx);
            if was_doubted && is_heard {
                self.events.push_back(Event::Cleared(id));
            }
            if link.watch.has_moved(&stats.frame_rx) {
                self.events.push_back(Event::Moved);
            }
            if is_heard && link.watch.is_lingering() {
                link.give_up(now);
                self.touched.insert(handle);
            } else {
                let has_exchange = !link.exchanges.is_empty();
                if let Some(patience) = link.watch.patience(has_exchange) {
                    next = next.map(|next| next.max(patience));
                }
                next = earlier(next, link.watch.poll_timeout(has_exchange));
            }
        }
        link.timer = next;
    }

    /// Whether nothing waits to be handled at once.
    pub(super) fn is_settled(&self) -> bool {
        self.events.is_empty() && self.touched.is_empty() && self.answers.is_empty()
    }

    /// Silence is welcome on this connection from here on.
    pub(super) fn allow_silence(&mut self, id: LinkId) {
        if let Some(link) = self.link(id) {
            link.watch.be_patient();
        }
    }

    pub(super) fn ping_by_clock(&mut self, id: LinkId, first: Instant, interval: Duration) {
        if let Some(link) = self.link(id) {
            link.watch.ping_by_clock(first, interval);
        }
    }

    /// Asks the peer for a sign of life, unless something asks it already.
    pub(super) fn check(&mut self, id: LinkId) {
        if let Some(link) = self.link(id)
            && !link.is_lost
            && !link.watch.has_asked()
        {
            link.proto.ping();
        }
    }

    pub(super) fn alpn(&mut self, id: LinkId) -> Option<Vec<u8>> {
        let data = self.link(id)?.proto.crypto_session().handshake_data()?;
        let data = data
            .downcast::<quinn_proto::crypto::rustls::HandshakeData>()
            .ok()?;
        data.protocol
    }

    pub(super) fn close(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.link(id) else { return };
        if link.is_lost && !link.watch.is_lingering() {
            return;
        }
        link.proto.close(now, VarInt::from_u32(0), Bytes::new());
        if !std::mem::replace(&mut link.is_lost, true) {
            self.events.push_back(Event::Lost(id, End::Closed));
        }
    }

    /// Opens a stream, if the connection lives and its peer allows one more.
    pub(super) fn open(&mut self, id: LinkId) -> Option<StreamId> {
        let link = self.link(id).filter(|link| !link.is_lost)?;
        let stream = link.proto.streams().open(Dir::Bi)?;
        if is_exchange(stream) {
            link.exchanges.insert(stream);
        }
        Some(stream)
    }

    /// Writes all of it: what a world writes fits the window of a stream. False if the stream is gone.
    pub(super) fn write(&mut self, id: LinkId, stream: StreamId, data: &Bytes) -> bool {
        let Some(link) = self.link(id).filter(|link| !link.is_lost) else {
            return false;
        };
        let written = link.proto.send_stream(stream).write_chunks(&mut [data.clone()]);
        written.is_ok_and(|written| {
            assert_eq!(written.bytes, data.len(), "an exchange fits the window");
            true
        })
    }

    pub(super) fn finish(&mut self, id: LinkId, stream: StreamId) {
        if let Some(link) = self.link(id).filter(|link| !link.is_lost) {
            match link.proto.send_stream(stream).finish() {
                Ok(()) | Err(FinishError::Stopped(_) | FinishError::ClosedStream) => {}
            }
        }
    }

    /// All that has arrived, and whether that was all.
    pub(super) fn read(&mut self, id: LinkId, stream: StreamId) -> (BytesMut, Option<StreamEnd>) {
        let mut read = BytesMut::new();
        let Some(link) = self.link(id).filter(|link| !link.is_lost) else {
            return (read, Some(StreamEnd::Lost));
        };
        let mut receiving = link.proto.recv_stream(stream);
        // One that has been read to its end has nothing new to say.
        let Ok(mut chunks) = receiving.read(true) else {
            return (read, None);
        };
        let end = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => read.extend_from_slice(&chunk.bytes),
                Ok(None) => break Some(StreamEnd::Finished),
                Err(ReadError::Reset(_)) => break Some(StreamEnd::Reset),
                Err(ReadError::Blocked) => break None,
            }
        };
        // Whether there is something to send is found out for every connection that was touched.
        let _ = chunks.finalize();
        (read, end)
    }

    /// Whether the stream has not been given up.
    pub(super) fn is_in_use(&self, id: LinkId, stream: StreamId) -> bool {
        let link = self.links.get(&id.handle).filter(|link| link.key == id.key);
        link.is_some_and(|link| link.exchanges.contains(&stream))
    }

    /// Gives both halves of a stream up; what is not finished is broken off.
    pub(super) fn release(&mut self, id: LinkId, stream: StreamId, is_whole: bool) {
        let Some(link) = self.link(id) else { return };
        link.exchanges.remove(&stream);
        if !is_whole && !link.is_lost {
            // Halves that have ended by themselves are left as they are.
            let _ = link.proto.send_stream(stream).reset(VarInt::from_u32(0));
            let _ = link.proto.recv_stream(stream).stop(VarInt::from_u32(0));
        }
    }

    fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        let link = self.links.get_mut(&id.handle).filter(|link| link.key == id.key)?;
        self.touched.insert(id.handle);
        Some(link)
    }
}

impl Link {
    fn give_up(&mut self, now: Instant) {
        self.proto
            .close(now, VarInt::from_u32(0), Bytes::from_static(b"no answer in time"));
    }

    fn on_event(&mut self, id: LinkId, event: quinn_proto::Event, events: &mut VecDeque<Event>) {
        match event {
            quinn_proto::Event::Connected => events.push_back(Event::Connected(id)),
            quinn_proto::Event::ConnectionLost { reason } => {
                let end = match reason {
                    ConnectionError::TimedOut => End::Silent,
                    ConnectionError::Reset => End::Forgotten,
                    ConnectionError::VersionMismatch
                    | ConnectionError::TransportError(_)
                    | ConnectionError::ConnectionClosed(_)
                    | ConnectionError::ApplicationClosed(_)
                    | ConnectionError::LocallyClosed
                    | ConnectionError::CidsExhausted => End::Closed,
                };
                if !std::mem::replace(&mut self.is_lost, true) {
                    events.push_back(Event::Lost(id, end));
                }
            }
            quinn_proto::Event::Stream(event) => match event {
                StreamEvent::Opened { .. } => {
                    while let Some(stream) = self.proto.streams().accept(Dir::Bi) {
                        if is_exchange(stream) {
                            self.exchanges.insert(stream);
                        }
                        events.push_back(Event::Readable(id, stream));
                    }
                }
                StreamEvent::Readable { id: stream } => events.push_back(Event::Readable(id, stream)),
                StreamEvent::Stopped { id: stream, .. } => events.push_back(Event::Stopped(id, stream)),
                StreamEvent::Writable { .. }
                | StreamEvent::Finished { .. }
                | StreamEvent::Available { .. } => {}
            },
            quinn_proto::Event::HandshakeDataReady
            | quinn_proto::Event::DatagramReceived
            | quinn_proto::Event::DatagramsUnblocked => {}
        }
    }
}

/// The first stream of the dialling side is open for as long as the connection and says nothing of work.
fn is_exchange(stream: StreamId) -> bool {
    stream.initiator() == Side::Server || stream.index() > 0
}
