//! The edge of the test: accepts one tunnel connection, registers it and sends exchanges.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use adit_driver::core::CoreContext;
use adit_driver::quic::{
    Connection, Endpoint, EndpointOptions, ReadError, RecvStream, SendStream, ServerConfig,
    TransportSettings, server_config,
};
use adit_driver::udp;
use adit_wire::config_push::{ConfigApplied, ConfigUpdate};
use adit_wire::connect::{ConnectResponse, ConnectionType, Entry, decode_response, encode_request};
use adit_wire::framing::RPC_READER_OPTIONS;
use adit_wire::signature::RPC_STREAM;
use adit_wire::tunnelrpc_capnp::configuration_manager;
use bytes::{Bytes, BytesMut};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::spawn_local;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::registrar::{self, Registrar};

/// Large enough to need many packets, and more than one stream window.
const LARGE_BODY_BYTES: usize = 5 << 20;

/// What the edge has reached.
#[derive(Debug)]
pub(crate) enum Step {
    Listening(SocketAddr),
    Served,
}

pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) server: ServerConfig,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["quic.cftunnel.com".into()]).unwrap();
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        tls.alpn_protocols = vec![b"argotunnel".to_vec()];
        Self {
            pem: made.cert.pem(),
            server: server_config(tls, &TransportSettings::default()).unwrap(),
        }
    }
}

/// Runs until the connector has unregistered and is gone.
pub(crate) async fn serve(context: CoreContext, server: ServerConfig, told: mpsc::Sender<Step>) {
    let socket = udp::bind_group(([127, 0, 0, 1], 0).into(), 1).unwrap().remove(0);
    let endpoint = Endpoint::listen(socket, server, EndpointOptions::new(context)).unwrap();
    told.send(Step::Listening(endpoint.local_addr())).unwrap();
    // The connector sees that this edge is none of ours, hangs up, and dials again as a stock one does. It is
    // a matter of time whether that first connection is still there to be accepted.
    let (connection, (send, recv)) = loop {
        let connection = endpoint.accept().await.unwrap();
        if let Ok(control) = connection.accept_bi().await {
            break (connection, control);
        }
    };
    let registrar = Rc::new(Registrar::default());
    registrar::serve(registrar.clone(), send, recv);
    registrar.configured.notified().await;
    let config = registrar.local_config.borrow().clone();
    assert!(config.contains("http_status:404"), "{config}");

    exchanges(&connection).await;
    origins(&connection).await;
    fickle_origin(&connection).await;
    cancelled(&connection).await;
    websocket(&connection).await;
    flow(&connection).await;
    push(&connection).await;
    unknown_stream(&connection).await;
    let unfinished = Unfinished::start(&connection).await;
    told.send(Step::Served).unwrap();
    registrar.unregistered.notified().await;
    // An exchange under way is finished before the connector leaves.
    unfinished.finish().await;
    connection.closed().await;
}

async fn exchanges(connection: &Connection) {
    let (head, body) = request(connection, "app.test", "GET", "/x", Bytes::new()).await;
    assert_eq!(status(&head), "200");
    assert_eq!(body, "hello");
    assert!(has_header(&head, "HttpHeader:X-Origin"));
    assert!(!has_header(&head, "HttpHeader:Keep-Alive"));
    let (_, body) = request(connection, "app.test", "GET", "/host", Bytes::new()).await;
    assert_eq!(body, "app.test");

    let large: Bytes = (0..LARGE_BODY_BYTES)
        .map(|at| (at % 251) as u8)
        .collect::<Vec<_>>()
        .into();
    let (_, body) = request(connection, "app.test", "POST", "/echo", large.clone()).await;
    assert!(body == large, "the body came back changed");

    // Trailers are for edges of ours: one that has not agreed on it may ask, and gets plain bytes.
    let (head, body) = request(connection, "app.test", "GET", "/trailers", Bytes::new()).await;
    assert_eq!(
        (body.as_ref(), has_header(&head, "AditTrailers")),
        (&b"hello"[..], false)
    );

    let (head, body) = request(connection, "hello.test", "GET", "/hi", Bytes::new()).await;
    assert_eq!(status(&head), "200");
    assert!(String::from_utf8(body.to_vec()).unwrap().contains("Adit"));

    let (head, body) = request(connection, "other.test", "GET", "/", Bytes::new()).await;
    assert_eq!((status(&head).as_str(), body.len()), ("404", 0));

    let (_, mut recv) = open(
        connection,
        ConnectionType::Http,
        "app.test",
        "GET",
        "/broken",
        None,
    )
    .await;
    assert!(matches!(drain(&mut recv).await, Err(ReadError::Reset(0))));
}

/// Every way to reach an origin, and what is refused.
async fn origins(connection: &Connection) {
    for host in ["unix.test", "trusting.test", "pooled.test"] {
        let (head, body) = request(connection, host, "GET", "/", Bytes::new()).await;
        assert_eq!(head.error, "", "{host}");
        assert_eq!(body, "hello", "{host}");
    }
    for (host, cause) in [("down.test", "refused"), ("strict.test", "certificate")] {
        let (head, body) = request(connection, host, "GET", "/", Bytes::new()).await;
        let error = String::from_utf8(head.error.to_vec()).unwrap();
        assert!(
            error.starts_with("Unable to reach the origin service."),
            "{error}"
        );
        assert!(error.contains(cause), "{error}");
        assert!(body.is_empty() && head.metadata.is_empty());
    }
    let (_, body) = request(connection, "internal.test", "GET", "/host", Bytes::new()).await;
    assert_eq!(body, "inside");
}

/// A kept-alive connection that its origin closes is replaced, for requests that may be sent twice.
async fn fickle_origin(connection: &Connection) {
    for _ in 0..3 {
        let (head, body) = request(connection, "app.test", "GET", "/fickle", Bytes::new()).await;
        assert_eq!((status(&head).as_str(), &body[..]), ("200", &b"hello"[..]));
    }
}

/// The origin learns that the visitor has gone.
async fn cancelled(connection: &Connection) {
    let hung_up = async || {
        let (_, body) = request(connection, "app.test", "GET", "/hung-up", Bytes::new()).await;
        String::from_utf8(body.to_vec()).unwrap()
    };
    let before = hung_up().await;
    let (mut send, mut recv) = open(connection, ConnectionType::Http, "app.test", "GET", "/hang", None).await;
    read_head(&mut recv, &mut BytesMut::new()).await;
    send.reset(0);
    recv.stop(0);
    while hung_up().await == before {}
}

async fn websocket(connection: &Connection) {
    let (mut send, mut recv) = open(
        connection,
        ConnectionType::WebSocket,
        "app.test",
        "GET",
        "/ws",
        None,
    )
    .await;
    let mut buffer = BytesMut::new();
    let head = read_head(&mut recv, &mut buffer).await;
    assert_eq!(status(&head), "101");
    send.write(Bytes::from_static(b"ping")).await.unwrap();
    while buffer.len() < b"first:ping".len() {
        buffer.extend_from_slice(&recv.read_chunk().await.unwrap().unwrap());
    }
    assert_eq!(buffer, "first:ping");
    send.finish();
    assert!(recv.read_chunk().await.unwrap().is_none());
}

/// A flow goes to the address that the edge names, and only to an address.
async fn flow(connection: &Connection) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.ok();
    });
    let open = async |dest: &str| {
        let head = encode_request(dest, ConnectionType::Tcp, &[Entry::new("FlowID", "7")]).unwrap();
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write(head).await.unwrap();
        (send, recv)
    };
    let (mut send, mut recv) = open(&address.to_string()).await;
    let mut buffer = BytesMut::new();
    let head = read_head(&mut recv, &mut buffer).await;
    assert!(head.error.is_empty() && head.metadata.iter().next().is_none());
    send.write(Bytes::from_static(b"echo")).await.unwrap();
    while buffer.len() < b"echo".len() {
        buffer.extend_from_slice(&recv.read_chunk().await.unwrap().unwrap());
    }
    assert_eq!(buffer, "echo");
    send.finish();
    assert!(recv.read_chunk().await.unwrap().is_none());
    let (_send, mut recv) = open("localhost:1").await;
    let head = read_head(&mut recv, &mut BytesMut::new()).await;
    assert_eq!(head.error, &b"ParseAddr(\"localhost:1\"): unable to parse IP"[..]);
    // Of the special addresses only the one that the file names is dialled.
    for special in [
        "127.0.0.2:1",
        "[::1]:1",
        "169.254.169.254:80",
        "[::ffff:169.254.169.254]:80",
    ] {
        let (_send, mut recv) = open(special).await;
        let head = read_head(&mut recv, &mut BytesMut::new()).await;
        let error = String::from_utf8_lossy(&head.error);
        assert!(error.contains("warp-routing.also-allow"), "{special}: {error}");
    }
}

async fn push(connection: &Connection) {
    let moved = br#"{"ingress":[{"service":"http_status:418"}]}"#;
    for (version, config, applied, is_error) in [
        (1, &br#"{"ingress":[{"service":"nothing"}]}"#[..], -1, true),
        (5, &moved[..], 5, false),
        (4, &b"{}"[..], 5, false),
    ] {
        let answer = update(connection, version, config).await;
        assert_eq!(
            (answer.latest_version, !answer.error.is_empty()),
            (applied, is_error)
        );
    }
    let (head, _) = request(connection, "app.test", "GET", "/", Bytes::new()).await;
    assert_eq!(status(&head), "418");
    let back = br#"{"ingress":[{"service":"hello_world"}]}"#;
    assert_eq!(update(connection, 6, back).await.latest_version, 6);
}

async fn update(connection: &Connection, version: i32, config: &[u8]) -> ConfigApplied {
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write(Bytes::from_static(&RPC_STREAM)).await.unwrap();
    let network = twoparty::VatNetwork::new(
        recv.compat(),
        send.compat_write(),
        Side::Client,
        RPC_READER_OPTIONS,
    );
    let mut system = RpcSystem::new(Box::new(network), None);
    let manager: configuration_manager::Client = system.bootstrap(Side::Server);
    let rpc = spawn_local(system);
    let mut call = manager.update_configuration_request();
    let update = ConfigUpdate {
        version,
        config: Bytes::copy_from_slice(config),
    };
    update.write(call.get());
    let answer = call.send().promise.await.unwrap();
    let applied = ConfigApplied::read(answer.get().unwrap().get_result().unwrap()).unwrap();
    rpc.abort();
    applied
}

/// A stream that is for nothing is given back; the connection goes on.
async fn unknown_stream(connection: &Connection) {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write(Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"))
        .await
        .unwrap();
    assert!(matches!(recv.read_chunk().await, Err(ReadError::Reset(0))));
    assert!(!connection.is_closed());
}

/// An exchange that is under way while the connector drains: the event stream of the built-in page.
struct Unfinished {
    send: SendStream,
    recv: RecvStream,
}

impl Unfinished {
    async fn start(connection: &Connection) -> Self {
        let (send, mut recv) = open(connection, ConnectionType::Http, "app.test", "GET", "/sse", None).await;
        let mut buffer = BytesMut::new();
        assert_eq!(status(&read_head(&mut recv, &mut buffer).await), "200");
        Self { send, recv }
    }

    async fn finish(mut self) {
        for _ in 0..2 {
            assert!(
                self.recv.read_chunk().await.unwrap().is_some(),
                "the exchange was cut off"
            );
        }
        self.send.reset(0);
        self.recv.stop(0);
    }
}

async fn request(
    connection: &Connection,
    host: &str,
    method: &str,
    path: &str,
    body: Bytes,
) -> (ConnectResponse, Bytes) {
    let length = (!body.is_empty()).then(|| body.len());
    let (mut send, mut recv) = open(connection, ConnectionType::Http, host, method, path, length).await;
    // The origin echoes while it reads, so both directions move at once.
    let writing = async {
        if length.is_some() {
            send.write(body).await.unwrap();
        }
        send.finish();
    };
    let mut buffer = BytesMut::new();
    let reading = async {
        let head = read_head(&mut recv, &mut buffer).await;
        while let Some(chunk) = recv.read_chunk().await.unwrap() {
            buffer.extend_from_slice(&chunk);
        }
        head
    };
    let ((), head) = tokio::join!(writing, reading);
    (head, buffer.freeze())
}

async fn open(
    connection: &Connection,
    kind: ConnectionType,
    host: &str,
    method: &str,
    path: &str,
    length: Option<usize>,
) -> (SendStream, RecvStream) {
    let dest = format!("https://{host}{path}");
    let length = length.map(|length| length.to_string());
    let mut metadata = vec![
        Entry::new("HttpMethod", method),
        Entry::new("HttpHost", host),
        Entry::header("Accept", "*/*"),
        Entry::new("AditTrailers", "true"),
    ];
    if let Some(length) = &length {
        metadata.push(Entry::header("Content-Length", length));
    }
    let head = encode_request(&dest, kind, &metadata).unwrap();
    let (mut send, recv) = connection.open_bi().await.unwrap();
    send.write(head).await.unwrap();
    (send, recv)
}

async fn read_head(recv: &mut RecvStream, buffer: &mut BytesMut) -> ConnectResponse {
    loop {
        let mut received = std::mem::take(buffer).freeze();
        let head = decode_response(&mut received).unwrap();
        *buffer = BytesMut::from(received);
        if let Some(head) = head {
            return head;
        }
        let chunk = recv.read_chunk().await.unwrap();
        buffer.extend_from_slice(&chunk.expect("a whole head"));
    }
}

async fn drain(recv: &mut RecvStream) -> Result<(), ReadError> {
    while recv.read_chunk().await?.is_some() {}
    Ok(())
}

fn status(head: &ConnectResponse) -> String {
    let (key, value) = head.metadata.iter().next().expect("a status");
    assert_eq!(key, b"HttpStatus");
    String::from_utf8(value.to_vec()).unwrap()
}

fn has_header(head: &ConnectResponse, key: &str) -> bool {
    head.metadata.iter().any(|(found, _)| found == key.as_bytes())
}
