//! One core with a fake connector behind the mailbox of a second one.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_control_api::snapshot::{RouteSnapshot, RouteTarget};
use adit_driver::core::{CoreContext, CoreId};
use adit_driver::kernel::IoMode;
use adit_driver::mailbox;
use adit_driver::pipe::{PipeReader, PipeWriter};
use adit_proto::directory::{Live, Slot};
use adit_proto::ejection;
use adit_proto::exchange::edge::{Scheme, Visitor};
use adit_wire::connect::{ConnectRequest, ConnectResponse, ConnectionType, decode_request};
use adit_wire::{ConnIndex, ConnectionId, ConnectorId, TunnelId};
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use uuid::Uuid;

use crate::access_log::AccessLog;
use crate::config::{Config, LiveConfig};
use crate::core::Core;
use crate::cross_core::CoreMessage;
use crate::metrics::CoreMetrics;
use crate::open::stream::LOST;
use crate::public::{http2::StreamTasks, listen};
use crate::tunnels::connection::Transport;
use crate::tunnels::routes::Routes;
use crate::tunnels::{CoreNews, Handle, Tunnels};

/// No test takes this long.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) const TUNNEL: TunnelId = TunnelId(Uuid::from_u128(1));

pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// What a connector does with every exchange.
#[derive(Clone, Copy)]
pub(super) enum Script {
    /// Answers 200 with the request's body.
    Echo,
    /// Hands the exchange to the test.
    Hold,
    /// Loses the connection before an answer.
    Lose,
    /// Was gone before the stream was opened.
    Gone,
    /// Reports that the origin does not answer.
    Refuse,
    /// Says something that is no response.
    Babble,
    /// Never answers.
    Silent,
    /// Becomes a byte flow that returns what it gets.
    Upgrade,
}

/// An exchange in the hands of the test.
pub(super) struct Held {
    pub(super) request: PipeReader,
    pub(super) response: PipeWriter,
}

impl Held {
    pub(super) async fn answer(&mut self, lines: &[(&str, &str)]) {
        answer(&mut self.response, lines).await;
    }
}

/// A connection, what it does, and where the test takes its exchanges from.
type Connector = (ConnectionId, Script, mpsc::Sender<Held>);

pub(super) struct Lab {
    pub(super) core: Rc<Core>,
    scripts: Rc<RefCell<Vec<Connector>>>,
    heads: Rc<RefCell<Vec<ConnectRequest>>>,
}

impl Lab {
    /// A core whose visitors do not wait for a tunnel without connection.
    pub(super) fn start() -> Self {
        Self::start_with(Duration::ZERO)
    }

    pub(super) fn start_with(reconnect_wait: Duration) -> Self {
        let config = Config::parse(Path::new("edge.yml"), "control: {socket: s}\ncolo: lab01").unwrap();
        let (mailboxes, mut inboxes): (Vec<_>, Vec<_>) =
            (0..2).map(|_| mailbox::mailbox::<CoreMessage>(64)).unzip();
        let context = CoreContext {
            id: CoreId(0),
            count: 2,
            io: IoMode::Portable,
        };
        let tunnels = Rc::new(Tunnels::new(
            context,
            mailboxes,
            7,
            reconnect_wait,
            ejection::Settings::default(),
        ));
        let mut snapshot = RouteSnapshot {
            generation: 1,
            ..Default::default()
        };
        snapshot
            .routes
            .insert_mut("app.example".parse().unwrap(), RouteTarget::Tunnel(TUNNEL));
        snapshot.routes.insert_mut(
            "newer.example".parse().unwrap(),
            serde_json::from_str(r#"{"pool":"blue"}"#).unwrap(),
        );
        tunnels.set_routes(Arc::new(Routes::of(&snapshot)));
        let log = AccessLog::open(None).unwrap();
        let core = Core::new(
            context,
            LiveConfig::new(Arc::new(config)),
            tunnels,
            Arc::<CoreMetrics>::default(),
            log,
            None,
        );
        let lab = Self {
            core,
            scripts: Rc::default(),
            heads: Rc::default(),
        };
        let mut inbox = inboxes.pop().unwrap();
        let (scripts, heads) = (lab.scripts.clone(), lab.heads.clone());
        spawn_local(async move {
            while let Some(message) = inbox.recv().await {
                if let CoreMessage::Open {
                    id,
                    request,
                    response,
                } = message
                {
                    let found = scripts.borrow().iter().find(|(known, ..)| *known == id).cloned();
                    let (_, script, held) = found.unwrap();
                    spawn_local(play(script, held, heads.clone(), request, response));
                }
            }
        });
        lab
    }

    /// Changes the configuration; only before the first visitor.
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = (*self.core.config).clone();
        change(&mut config);
        let core = &self.core;
        self.core = Core::new(
            core.context,
            LiveConfig::new(Arc::new(config)),
            core.tunnels.clone(),
            core.metrics.clone(),
            core.log.clone(),
            None,
        );
    }

    /// Registers a connection of its own replica that lives on the other core.
    pub(super) fn connector(&self, number: u8, script: Script) -> mpsc::Receiver<Held> {
        let id = ConnectionId(Uuid::from_u128(u128::from(number)));
        let connector = ConnectorId(Uuid::from_u128(u128::from(number) << 64));
        let (held, given) = mpsc::channel(16);
        self.scripts.borrow_mut().push((id, script, held));
        self.core.tunnels.on_news(CoreNews::Joined(Live {
            id,
            slot: Slot {
                tunnel: TUNNEL,
                connector,
                index: ConnIndex(0),
            },
            order: u64::from(number),
            core: 1,
            is_draining: false,
            is_doubted: false,
            carries_trailers: true,
            is_of_ours: true,
            handle: Handle::new(Transport::Quic),
        }));
        given
    }

    /// Takes a connection away again.
    pub(super) fn disconnect(&self, number: u8) {
        let id = ConnectionId(Uuid::from_u128(u128::from(number)));
        self.core.tunnels.on_news(CoreNews::Left(id));
    }

    /// Heads that connectors received.
    pub(super) fn heads(&self) -> Vec<ConnectRequest> {
        self.heads.borrow().clone()
    }

    /// A visitor's end of a new connection.
    pub(super) fn visitor(&self) -> DuplexStream {
        self.visitor_from([192, 0, 2, 1])
    }

    /// The same of one who comes from this address.
    pub(super) fn visitor_from(&self, address: [u8; 4]) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let core = self.core.clone();
        spawn_local(async move {
            let visitor = Visitor {
                address: address.into(),
                scheme: Scheme::Http,
            };
            listen::in_clear(&core, theirs, BytesMut::new(), visitor).await;
        });
        ours
    }
}

/// Runs a test on a runtime like a core's.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(DEADLINE, test)
            .await
            .expect("the test ends in time");
    });
}

async fn play(
    script: Script,
    held: mpsc::Sender<Held>,
    heads: Rc<RefCell<Vec<ConnectRequest>>>,
    mut request: PipeReader,
    mut response: PipeWriter,
) {
    if matches!(script, Script::Gone) {
        request.stop(crate::open::stream::NOT_OPENED);
        return response.abort(crate::open::stream::NOT_OPENED);
    }
    let mut buffer = BytesMut::new();
    let (head, rest) = loop {
        let Ok(Some(chunk)) = request.read().await else {
            return;
        };
        buffer.extend_from_slice(&chunk);
        let mut received = buffer.freeze();
        if let Some(head) = decode_request(&mut received).unwrap() {
            break (head, received);
        }
        buffer = BytesMut::from(received);
    };
    heads.borrow_mut().push(head.clone());
    match script {
        Script::Gone => {}
        Script::Echo => echo(&head, rest, request, response).await,
        Script::Hold => held.send(Held { request, response }).await.unwrap(),
        Script::Lose => {
            request.stop(LOST);
            response.abort(LOST);
        }
        Script::Refuse => {
            let refusal = ConnectResponse {
                error: Bytes::from("dial: refused"),
                ..ConnectResponse::default()
            };
            response.write(refusal.encode().unwrap()).await.unwrap();
            response.finish();
        }
        Script::Babble => {
            response
                .write(Bytes::from(
                    "HTTP/1.1 200 OK

",
                ))
                .await
                .unwrap();
            response.finish();
        }
        Script::Silent => {
            response.closed().await;
        }
        Script::Upgrade => {
            assert_eq!(head.kind, ConnectionType::WebSocket);
            answer(
                &mut response,
                &[
                    ("HttpStatus", "101"),
                    ("HttpHeader:Sec-Websocket-Accept", "proof"),
                ],
            )
            .await;
            while let Ok(Some(chunk)) = request.read().await {
                response.write(chunk).await.unwrap();
            }
            response.finish();
        }
    }
}

async fn echo(head: &ConnectRequest, first: Bytes, mut request: PipeReader, mut response: PipeWriter) {
    let (_, method) = head.metadata.iter().next().unwrap();
    let method = String::from_utf8_lossy(method).into_owned();
    let dest = String::from_utf8_lossy(&head.dest);
    let path = dest.split_once("app.example").unwrap().1;
    let seen = format!("{method} {path}");
    answer(
        &mut response,
        &[("HttpStatus", "200"), ("HttpHeader:X-Seen", &seen)],
    )
    .await;
    let mut next = Some(first);
    loop {
        let chunk = match next.take() {
            Some(chunk) => chunk,
            None => match request.read().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(_) => return response.abort(0),
            },
        };
        if response.write(chunk).await.is_err() {
            return;
        }
    }
    response.finish();
}

async fn answer(response: &mut PipeWriter, lines: &[(&str, &str)]) {
    let head = ConnectResponse {
        error: Bytes::new(),
        metadata: lines.iter().copied().collect(),
    }
    .encode()
    .unwrap();
    response.write(head).await.unwrap();
}

pub(super) async fn connect_h1(lab: &Lab) -> http1::SendRequest<Body> {
    let (sender, connection) = http1::handshake(TokioIo::new(lab.visitor())).await.unwrap();
    spawn_local(connection);
    sender
}

pub(super) async fn connect_h2(lab: &Lab) -> http2::SendRequest<Body> {
    let io = TokioIo::new(lab.visitor());
    let (sender, connection) = http2::handshake(StreamTasks::new(Duration::from_secs(60)), io)
        .await
        .unwrap();
    spawn_local(connection);
    sender
}

pub(super) fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync()
}

/// A body that does not tell its length.
pub(super) fn unsized_body(text: &str) -> Body {
    let chunks: Vec<_> = text
        .as_bytes()
        .chunks(10_000)
        .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    StreamBody::new(futures_util::stream::iter(chunks)).boxed_unsync()
}

pub(super) async fn body_of(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub(super) fn header(response: &Response<Incoming>, name: &str) -> String {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
        .to_owned()
}

/// Reads until what was read ends with `wanted`.
pub(super) async fn read_until(stream: &mut DuplexStream, wanted: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(wanted) {
        let count = stream.read_buf(&mut read).await.unwrap();
        assert!(count > 0, "ended early: {}", String::from_utf8_lossy(&read));
    }
    read
}

/// Statuses as numbers read better.
pub(super) trait IntoStatus {
    fn into_status(self) -> StatusCode;
}

impl IntoStatus for u16 {
    fn into_status(self) -> StatusCode {
        StatusCode::from_u16(self).unwrap()
    }
}
