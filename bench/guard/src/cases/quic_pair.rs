//! Two QUIC connections in memory, with a clock of their own: the edge's and the connector's.
//!
//! They are driven as a core's pump does it, a batch of datagrams at a time, with the transport's parameters
//! of a core. Random numbers come from seeds where quinn-proto takes them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event,
    ServerConfig, StreamEvent, StreamId, TransportConfig, VarInt,
};
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// Datagrams of one send.
const SEGMENTS_MAX: usize = 44;

/// Time a batch is under way.
const ONE_WAY: Duration = Duration::from_micros(100);

/// As a core announces it.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

const NAME: &str = "edge.test";

/// The roles of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Edge,
    Connector,
}

/// One end.
struct End {
    address: SocketAddr,
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    is_connected: bool,
}

/// Both ends and the time.
pub(super) struct Pair {
    edge: End,
    connector: End,
    now: Instant,
    /// Packets under construction.
    buffer: Vec<u8>,
}

impl Pair {
    /// The connector has dialled the edge and both are ready.
    pub(super) fn connected() -> Self {
        let (server, client) = configurations();
        let mut pair = Self {
            edge: End::new(7844, Some(Arc::new(server))),
            connector: End::new(40_000, None),
            now: Instant::now(),
            buffer: Vec::new(),
        };
        let edge = pair.edge.address;
        let dialled = pair.connector.endpoint.connect(pair.now, client, edge, NAME);
        pair.connector.connection = Some(dialled.expect("a good configuration"));
        while !(pair.edge.is_connected && pair.connector.is_connected) {
            pair.turn();
        }
        pair
    }

    /// Edge: opens a stream, writes all of `chunks` and finishes.
    pub(super) fn open(&mut self, chunks: &[Bytes]) -> StreamId {
        let stream = self.edge.proto().streams().open(Dir::Bi);
        let stream = stream.expect("the peer allows streams");
        self.write(Side::Edge, stream, chunks);
        stream
    }

    /// Connector: takes the next stream.
    pub(super) fn accept(&mut self) -> StreamId {
        loop {
            if let Some(stream) = self.connector.proto().streams().accept(Dir::Bi) {
                return stream;
            }
            self.turn();
        }
    }

    /// Writes all of `chunks` and finishes.
    pub(super) fn write(&mut self, side: Side, stream: StreamId, chunks: &[Bytes]) {
        let mut stream = self.end(side).proto().send_stream(stream);
        for chunk in chunks {
            let written = stream.write_chunks(&mut [chunk.clone()]).expect("an open stream");
            assert_eq!(written.bytes, chunk.len(), "an exchange fits the window");
        }
        stream.finish().expect("an open stream");
    }

    /// Reads to the end, however many turns it takes, and gives every chunk to `take`.
    pub(super) fn read(&mut self, side: Side, stream: StreamId, mut take: impl FnMut(Bytes)) {
        loop {
            let mut receiving = self.end(side).proto().recv_stream(stream);
            let mut chunks = receiving.read(true).expect("an open stream");
            let is_over = loop {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => take(chunk.bytes),
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            let _ = chunks.finalize();
            if is_over {
                return;
            }
            self.turn();
        }
    }

    /// Everything that is ready crosses once in each direction.
    fn turn(&mut self) {
        for from in [Side::Edge, Side::Connector] {
            let (sender, receiver) = match from {
                Side::Edge => (&mut self.edge, &mut self.connector),
                Side::Connector => (&mut self.connector, &mut self.edge),
            };
            self.now += ONE_WAY;
            sender.send_to(receiver, self.now, &mut self.buffer);
        }
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Edge => &mut self.edge,
            Side::Connector => &mut self.connector,
        }
    }
}

impl End {
    fn new(port: u16, server: Option<Arc<ServerConfig>>) -> Self {
        let mut config = EndpointConfig::default();
        config.rng_seed(Some([7; 32]));
        Self {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            endpoint: Endpoint::new(Arc::new(config), server, true, None),
            connection: None,
            is_connected: false,
        }
    }

    fn proto(&mut self) -> &mut Connection {
        let (_, connection) = self.connection.as_mut().expect("a connection");
        connection
    }

    fn send_to(&mut self, receiver: &mut Self, now: Instant, buffer: &mut Vec<u8>) {
        if self.connection.is_none() {
            return;
        }
        if self.proto().poll_timeout().is_some_and(|due| due <= now) {
            self.proto().handle_timeout(now);
        }
        loop {
            buffer.clear();
            let Some(transmit) = self.proto().poll_transmit(now, SEGMENTS_MAX, buffer) else {
                break;
            };
            let mut batch = BytesMut::from(&buffer[..transmit.size]);
            let stride = transmit.segment_size.unwrap_or(transmit.size);
            while !batch.is_empty() {
                let datagram = batch.split_to(stride.min(batch.len()));
                receiver.receive(now, self.address, datagram);
            }
        }
        self.settle();
        receiver.settle();
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, datagram: BytesMut) {
        let mut answer = Vec::new();
        match self.endpoint.handle(now, from, None, None, datagram, &mut answer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => self.proto().handle_event(event),
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = self.endpoint.accept(incoming, now, &mut answer, None);
                self.connection = Some(accepted.map_err(|error| error.cause).expect("a good dial"));
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
    }

    /// Passes events on between connection and endpoint, and takes those that are for the application.
    fn settle(&mut self) {
        let Some((handle, connection)) = &mut self.connection else {
            return;
        };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::ConnectionLost { reason } => panic!("nothing is lost in memory: {reason}"),
                Event::Stream(StreamEvent::Stopped { .. }) => panic!("nobody stops a stream"),
                Event::Stream(_)
                | Event::HandshakeDataReady
                | Event::DatagramReceived
                | Event::DatagramsUnblocked => {}
            }
        }
    }
}

fn configurations() -> (ServerConfig, ClientConfig) {
    let identity = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der());
    let certificate = identity.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let protocols = vec![b"argotunnel".to_vec()];
    let mut server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .expect("a key for the certificate");
    server.alpn_protocols.clone_from(&protocols);
    let mut client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = protocols;
    let server = QuicServerConfig::try_from(server).expect("TLS 1.3");
    let client = QuicClientConfig::try_from(client).expect("TLS 1.3");
    let mut server = ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport());
    let mut client = ClientConfig::new(Arc::new(client));
    client.transport_config(transport());
    (server, client)
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(4 * STREAM_WINDOW_BYTES))
        .send_window(2 * u64::from(STREAM_WINDOW_BYTES))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    Arc::new(transport)
}
