//! The edge of the test: accepts one tunnel connection over HTTP/2, registers it and sends exchanges.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use adit_wire::http2::Headers;
use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::registrar::{self, Registrar};

/// Where the connector dials from: not where it would without being told.
pub(crate) const BIND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// More than the windows that HTTP/2 starts with.
const LARGE_BODY_BYTES: usize = 5 << 20;

const KIND: &str = "cf-cloudflared-proxy-connection-upgrade";
const META: &str = "cf-cloudflared-response-meta";
const HEADERS: &str = "cf-cloudflared-response-headers";

/// What the edge has reached.
#[derive(Debug)]
pub(crate) enum Step {
    Listening(SocketAddr),
    Served,
}

pub(crate) struct Certificate {
    pub(crate) pem: String,
    tls: Arc<rustls::ServerConfig>,
}

impl Certificate {
    /// A server that has nothing to say in ALPN and speaks only what resists quantum computers.
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["h2.cftunnel.com".into()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768];
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self {
            pem: made.cert.pem(),
            tls: Arc::new(tls),
        }
    }
}

/// Runs until the connector has unregistered and is gone.
pub(crate) async fn serve(certificate: Certificate, told: mpsc::Sender<Step>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    told.send(Step::Listening(listener.local_addr().unwrap()))
        .unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip(), BIND);
    let stream = TlsAcceptor::from(certificate.tls).accept(stream).await.unwrap();
    assert_eq!(stream.get_ref().1.server_name(), Some("h2.cftunnel.com"));
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    let connection = spawn_local(connection);
    let mut edge = Edge(send.ready().await.unwrap());
    let registrar = Rc::new(Registrar::default());
    edge.control(registrar.clone()).await;
    registrar.configured.notified().await;
    assert!(registrar.local_config.borrow().contains("http_status:404"));

    edge.exchanges().await;
    edge.failures().await;
    edge.cancelled().await;
    edge.unread().await;
    edge.websocket().await;
    edge.flow().await;
    edge.push().await;
    let (unfinished, mut answer) = edge.open(get("/sse").body(()).unwrap(), true);
    let (head, mut events) = unfinished.await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    told.send(Step::Served).unwrap();
    registrar.unregistered.notified().await;
    // An exchange under way is finished before the connector leaves.
    for _ in 0..2 {
        let event = events.data().await.unwrap().unwrap();
        events.flow_control().release_capacity(event.len()).unwrap();
    }
    answer.send_reset(Reason::CANCEL);
    connection.await.unwrap().unwrap();
}

/// An answer that has arrived whole.
struct Answer {
    head: Response<()>,
    body: Bytes,
    trailers: Option<http::HeaderMap>,
}

impl Answer {
    /// The origin's headers as they came.
    fn origin_header(&self, name: &str) -> Option<String> {
        let serialised = Headers::decode(self.head.headers()[HEADERS].as_bytes()).unwrap();
        let mut pairs = serialised.iter();
        let found = pairs.find(|(found, _)| *found == name.as_bytes())?;
        Some(String::from_utf8(found.1.to_vec()).unwrap())
    }

    fn meta(&self) -> &str {
        self.head.headers()[META].to_str().unwrap()
    }
}

fn get(path: &str) -> http::request::Builder {
    on("app.test", path)
}

fn on(host: &str, path: &str) -> http::request::Builder {
    Request::builder().uri(format!("https://{host}{path}"))
}

struct Edge(SendRequest<Bytes>);

impl Edge {
    fn open(&mut self, request: Request<()>, is_whole: bool) -> (ResponseFuture, SendStream<Bytes>) {
        self.0.send_request(request, is_whole).unwrap()
    }

    async fn ask(&mut self, request: Request<()>, body: Bytes) -> Answer {
        let (answer, mut sending) = self.open(request, body.is_empty());
        // The origin echoes while it reads, so both directions move at once.
        let writing = async {
            if !body.is_empty() {
                write(&mut sending, body, true).await;
            }
        };
        let reading = async {
            let (head, mut stream) = answer.await.unwrap().into_parts();
            let body = read(&mut stream).await.unwrap();
            Answer {
                head: Response::from_parts(head, ()),
                body,
                trailers: stream.trailers().await.unwrap(),
            }
        };
        tokio::join!(writing, reading).1
    }

    async fn control(&mut self, registrar: Rc<Registrar>) {
        let request = on("edge.test", "/")
            .header(KIND, "control-stream")
            .body(())
            .unwrap();
        let (answer, sending) = self.open(request, false);
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key(META));
        // The RPC system wants byte streams, and a pipe is one.
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let mut receiving = answer.into_body();
        spawn_local(async move {
            while let Some(Ok(chunk)) = receiving.data().await {
                receiving.flow_control().release_capacity(chunk.len()).unwrap();
                writer.write_all(&chunk).await.unwrap();
            }
        });
        spawn_local(async move {
            let mut sending = sending;
            let mut buffer = BytesMut::new();
            while reader.read_buf(&mut buffer).await.unwrap() > 0 {
                sending.send_data(buffer.split().freeze(), false).unwrap();
            }
        });
        let (recv, send) = tokio::io::split(ours);
        registrar::serve(registrar, send, recv);
    }

    async fn exchanges(&mut self) {
        let answer = self.ask(get("/x").body(()).unwrap(), Bytes::new()).await;
        assert_eq!(
            (answer.head.status().as_u16(), &answer.body[..]),
            (200, &b"hello"[..])
        );
        assert_eq!(answer.meta(), r#"{"src":"origin"}"#);
        assert_eq!(answer.origin_header("X-Origin").as_deref(), Some("yes"));
        assert_eq!(answer.head.headers()["content-length"], "5");
        assert_eq!(answer.origin_header("Keep-Alive"), None);
        let answer = self.ask(get("/host").body(()).unwrap(), Bytes::new()).await;
        assert_eq!(answer.body, "app.test");

        let large: Bytes = (0..LARGE_BODY_BYTES)
            .map(|at| (at % 251) as u8)
            .collect::<Vec<_>>()
            .into();
        let post = get("/echo").method("POST").header("content-length", large.len());
        let answer = self.ask(post.body(()).unwrap(), large.clone()).await;
        assert!(answer.body == large, "the body came back changed");

        let answer = self.ask(get("/trailers").body(()).unwrap(), Bytes::new()).await;
        assert_eq!(answer.body, "hello");
        assert_eq!(answer.trailers.as_ref().unwrap()["x-sum"], "7");
        assert_eq!(answer.origin_header("Trailer"), None);

        let answer = self
            .ask(on("other.test", "/").body(()).unwrap(), Bytes::new())
            .await;
        assert_eq!((answer.head.status().as_u16(), answer.body.len()), (404, 0));
        assert_eq!(answer.head.headers()[HEADERS], "");
    }

    async fn failures(&mut self) {
        for host in ["down.test", "strict.test"] {
            let answer = self.ask(on(host, "/").body(()).unwrap(), Bytes::new()).await;
            assert_eq!((answer.head.status().as_u16(), answer.body.len()), (502, 0));
            assert_eq!(answer.meta(), r#"{"src":"cloudflared"}"#);
            assert!(!answer.head.headers().contains_key(HEADERS));
        }
        let (answer, _) = self.open(get("/broken").body(()).unwrap(), true);
        let mut stream = answer.await.unwrap().into_body();
        let broken = read(&mut stream).await.unwrap_err();
        assert_eq!(broken.reason(), Some(Reason::INTERNAL_ERROR));
    }

    /// The origin learns that the visitor has gone.
    async fn cancelled(&mut self) {
        let hung_up = async |edge: &mut Self| {
            edge.ask(get("/hung-up").body(()).unwrap(), Bytes::new())
                .await
                .body
        };
        let before = hung_up(self).await;
        let (answer, mut sending) = self.open(get("/hang").body(()).unwrap(), true);
        assert_eq!(answer.await.unwrap().status(), 200);
        sending.send_reset(Reason::CANCEL);
        while hung_up(self).await == before {}
    }

    /// What lies unread for one origin, in very many small pieces, costs the other exchanges nothing.
    async fn unread(&mut self) {
        const PIECES: usize = 300_000;
        const PIECE: &[u8] = &[b'x'; 32];
        let post = get("/deaf")
            .method("POST")
            .header("content-length", PIECES * PIECE.len());
        let (_answer, mut sending) = self.open(post.body(()).unwrap(), false);
        for _ in 0..PIECES {
            sending.send_data(Bytes::from_static(PIECE), false).unwrap();
        }
        for _ in 0..100 {
            let answer = self.ask(get("/host").body(()).unwrap(), Bytes::new()).await;
            assert_eq!(answer.body, "app.test");
        }
        sending.send_reset(Reason::CANCEL);
    }

    async fn websocket(&mut self) {
        let request = get("/ws")
            .header(KIND, "websocket")
            .header("sec-websocket-key", "k");
        let (answer, mut sending) = self.open(request.body(()).unwrap(), false);
        let (head, mut stream) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        let serialised = Headers::decode(head.headers[HEADERS].as_bytes()).unwrap();
        assert!(serialised.iter().any(|pair| pair == (b"Upgrade", b"websocket")));
        write(&mut sending, Bytes::from_static(b"ping"), false).await;
        assert_eq!(read_some(&mut stream, b"first:ping".len()).await, "first:ping");
        sending.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), "");
    }

    /// A flow goes to the address that the edge names, and only to an address.
    async fn flow(&mut self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut reader, mut writer) = stream.split();
            tokio::io::copy(&mut reader, &mut writer).await.ok();
        });
        let flow = |to: &str| {
            let request = on(to, "/").header("cf-cloudflared-proxy-src", "tcp");
            request.body(()).unwrap()
        };
        let (answer, mut sending) = self.open(flow(&address), false);
        let (head, mut stream) = answer.await.unwrap().into_parts();
        assert_eq!(
            (head.status.as_u16(), head.headers[HEADERS].as_bytes()),
            (200, &b""[..])
        );
        assert_eq!(head.headers[META], r#"{"src":"origin"}"#);
        write(&mut sending, Bytes::from_static(b"echo"), false).await;
        assert_eq!(read_some(&mut stream, b"echo".len()).await, "echo");
        sending.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), "");
        for refused in ["localhost:1", "127.0.0.2:1", "169.254.169.254:80"] {
            let answer = self.ask(flow(refused), Bytes::new()).await;
            assert_eq!(answer.head.status(), 502, "{refused}");
        }
    }

    async fn push(&mut self) {
        let mut push = async |body: &'static str| {
            let request = on("edge.test", "/")
                .method("POST")
                .header(KIND, "update-configuration");
            self.ask(request.body(()).unwrap(), Bytes::from_static(body.as_bytes()))
                .await
        };
        let refused = push(r#"{"version":1,"config":{"ingress":[{"service":"nothing"}]}}"#).await;
        let refused: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(refused["lastAppliedVersion"], -1);
        assert!(refused["err"].is_string());
        let applied = push(r#"{"version":5,"config":{"ingress":[{"service":"hello_world"}]}}"#).await;
        assert_eq!(applied.head.status(), 200);
        assert_eq!(applied.body, r#"{"err":null,"lastAppliedVersion":5}"#);
        let unreadable = push("{").await;
        assert_eq!(unreadable.head.status(), 502);
        assert_eq!(unreadable.meta(), r#"{"src":"cloudflared"}"#);
        let answer = self.ask(get("/uptime").body(()).unwrap(), Bytes::new()).await;
        assert_eq!(
            answer.origin_header("Content-Type").as_deref(),
            Some("application/json")
        );
    }
}

async fn write(stream: &mut SendStream<Bytes>, mut bytes: Bytes, is_last: bool) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = match stream.capacity() {
            0 => poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap(),
            room => room,
        };
        let part = bytes.split_to(room.min(bytes.len()));
        stream.send_data(part, is_last && bytes.is_empty()).unwrap();
    }
}

async fn read(stream: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

async fn read_some(stream: &mut RecvStream, count: usize) -> BytesMut {
    let mut read = BytesMut::new();
    while read.len() < count {
        read.extend_from_slice(&stream.data().await.unwrap().unwrap());
    }
    read
}
