//! A connection to an edge over HTTP/2. We dial TCP and TLS; then the edge is the client and we are the
//! server.
//!
//! ```text
//! dial ─► TLS ─► preface of the edge ─► requests: control stream ─► handed to whoever registers
//!                                         │       configuration ─► applied
//!                                         └       anything else ─► exchange task
//! ```
//! The kernel notices the loss of an idle TCP connection late or never. So the edge is pinged: seldom while
//! nothing happens, often while exchanges wait for it.
//!
//! Does not: carry datagrams, which this transport has no place for.
//!
//! Source: docs/protocol/transport-http2.md; cloudflared `connection/http2.go`.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_driver::shared_window::{CONNECTION_WINDOW_BYTES, SharedWindow};
use adit_driver::stream::Stream;
use adit_driver::tcp::{self, DialOptions};
use adit_driver::time::{sleep, timeout, timeout_at};
use adit_proto::exchange::connector::http2::Kind;
use adit_proto::exchange::reach::Reach;
use adit_proto::limits::{HEAD_BYTES_MAX, SILENCE_MAX};
use adit_proto::supervisor::End;
use adit_wire::ConnIndex;
use adit_wire::http2::{EDGE_OF_OURS, SERVER_NAME};
use adit_wire::metadata::TRUE;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Ping, PingPong, Reason};
use http::Request;
use rustls_pki_types::ServerName;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, spawn_local};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::in_flight::{Guard, InFlight};
use super::{Core, EXCHANGES_PER_CONNECTION_MAX, FLUSH_TIME_MAX};
use crate::edge_proxy::TraversalError;
use crate::edge_stream::http2::{Bodies, Http2Answer};
use crate::edge_stream::{EdgeKind, Excuse, ToEdge as _};
use crate::exchange_task::serve_http2;
use control::{Http2Reader, Http2Writer};
use heard::Heard;

mod configuration;
mod control;
mod heard;

/// What an edge may send ahead of an exchange while there are few; as over QUIC.
const STREAM_WINDOW_BYTES_MAX: u32 = 4 << 20;

/// Kept of one answer until the edge has room for it, so that a frame is always ready to be sealed.
const SEND_BUFFER_BYTES_MAX: usize = 1 << 20;

/// How long that may take to leave when the connection is closed.
const SEND_TIME_MAX: Duration = Duration::from_secs(4);

/// Larger frames than the least that every peer takes spare headers, but hold up other exchanges.
const FRAME_BYTES_MAX: u32 = 64 << 10;

/// Exchanges an edge may open and give up before we look at them, in one go: visitors do leave in crowds.
const RESETS_WAITING_MAX: usize = 1024;

/// For TCP and TLS together, as the stock connector has it.
const DIAL_TIME_MAX: Duration = Duration::from_secs(15);

/// An edge that has completed TLS says at once that it speaks HTTP/2, and opens the control stream.
const OPENING_TIME_MAX: Duration = Duration::from_secs(10);

/// Time between PINGs while exchanges are under way.
const BUSY_PING_INTERVAL: Duration = SILENCE_MAX;

/// After a PING, a connection without a byte from the edge for this long is lost. It is twice what QUIC
/// waits, because all that was sent before has to arrive first.
const PONG_TIME_MAX: Duration = SILENCE_MAX.saturating_mul(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Http2Error {
    #[error("failed to dial to edge with http2")]
    Dial(#[source] io::Error),
    #[error("failed to dial to edge with http2")]
    Proxy(#[source] TraversalError),
    #[error("TLS handshake with edge error")]
    Tls(#[source] io::Error),
    #[error("failed to dial to edge with http2: no TLS handshake within {DIAL_TIME_MAX:?}")]
    DialDeadline,
    #[error("the edge does not speak HTTP/2")]
    Handshake(#[source] h2::Error),
    #[error("the edge did not open a control stream within {OPENING_TIME_MAX:?}")]
    OpeningDeadline,
    #[error("connection with edge closed")]
    Closed,
}

/// How a connection came to its end.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) reason: String,
    pub(super) end: End,
}

/// A connection that is being served. Dropped, it is closed; exchanges under way fail then.
pub(super) struct Http2Connection {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    in_flight: Rc<InFlight>,
    heard: Heard,
    ping_pong: RefCell<Option<PingPong>>,
    lost: RefCell<Option<Lost>>,
    /// Rung when `lost` is known.
    ended: Notify,
    /// Rung when we shall close.
    closing: Notify,
}

/// The control stream as the edge has opened it, and who the edge is.
type Opened = (Http2Reader, Http2Writer, EdgeKind);

/// The next request, unless the connection is over.
type Accepted = Option<Result<(Request<h2::RecvStream>, SendResponse<Bytes>), h2::Error>>;

type Served = h2::server::Connection<heard::Watched<TlsStream<Stream>>, Bytes>;

impl Http2Connection {
    /// Dials and waits for the control stream.
    pub(super) async fn dial(
        core: &Rc<Core>,
        index: ConnIndex,
        address: SocketAddr,
    ) -> Result<(Self, Opened), Http2Error> {
        let stream = match timeout(DIAL_TIME_MAX, connect(core, address)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Http2Error::DialDeadline),
        };
        let heard = Heard::default();
        let opening = async {
            let handshake = builder().handshake(heard.watch(stream));
            let mut connection: Served = handshake.await.map_err(Http2Error::Handshake)?;
            let shared = Rc::new(Shared {
                in_flight: Rc::default(),
                heard,
                ping_pong: RefCell::new(connection.ping_pong()),
                lost: RefCell::default(),
                ended: Notify::new(),
                closing: Notify::new(),
            });
            let (control, opened) = oneshot::channel();
            let requests = Requests {
                core: core.clone(),
                index,
                in_flight: shared.in_flight.clone(),
                edge: EdgeKind::Stock,
                bodies: Bodies::default(),
                window: SharedWindow::new(STREAM_WINDOW_BYTES_MAX, core.settings.windows.clone()),
                control: Some(control),
            };
            // Ends with the connection, and is aborted when that is dropped.
            let task = spawn_local(requests.serve(connection, shared.clone()));
            let connection = Self { shared, task };
            match opened.await {
                Ok(opened) => Ok((connection, opened)),
                Err(_) => Err(Http2Error::Closed),
            }
        };
        match timeout(OPENING_TIME_MAX, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Http2Error::OpeningDeadline),
        }
    }

    /// Waits for the end.
    pub(super) async fn closed(&self) -> Lost {
        loop {
            if let Some(lost) = &*self.shared.lost.borrow() {
                return lost.clone();
            }
            self.shared.ended.notified().await;
        }
    }

    /// Waits until nothing is being served.
    pub(super) async fn idle(&self) {
        self.shared.in_flight.idle().await;
    }

    /// Closes and waits until that is on its way.
    pub(super) async fn close(&self) {
        self.shared.closing.notify_one();
        if timeout(SEND_TIME_MAX + FLUSH_TIME_MAX, self.closed())
            .await
            .is_err()
        {
            tracing::debug!("a closed connection lingers");
        }
    }

    /// Pings the edge now and then, and when it is doubted, until it fails to answer.
    pub(super) async fn watch(&self, core: &Core) -> Infallible {
        let taken = self.shared.ping_pong.take();
        let Some(mut ping_pong) = taken else {
            return std::future::pending().await;
        };
        let busy = async || {
            self.shared.in_flight.busy().await;
            sleep(BUSY_PING_INTERVAL).await;
        };
        loop {
            tokio::select! {
                () = sleep(core.settings.idle_ping_interval) => {}
                () = busy() => {}
                () = core.checks.notified() => {}
            }
            if !self.shared.answers(&mut ping_pong).await {
                self.shared.end(Lost {
                    reason: format!("timeout: the edge was silent for {PONG_TIME_MAX:?}"),
                    end: End::Silent,
                });
                return std::future::pending().await;
            }
        }
    }
}

impl Drop for Http2Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn end(&self, lost: Lost) {
        self.lost.borrow_mut().get_or_insert(lost);
        self.ended.notify_waiters();
    }

    /// Whether the edge is alive. Any byte from it proves that, while its answer may wait behind a long
    /// transfer.
    async fn answers(&self, ping_pong: &mut PingPong) -> bool {
        let mut answering = std::pin::pin!(ping_pong.ping(Ping::opaque()));
        loop {
            let before = self.heard.turns();
            match timeout(PONG_TIME_MAX, &mut answering).await {
                Ok(Ok(_)) => return true,
                // The connection is over, which whoever serves it tells.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) if self.heard.turns() != before => {}
                Err(_) => return false,
            }
        }
    }
}

fn builder() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        // A head of the largest size, and what an edge adds to it.
        .max_header_list_size(u32::try_from(4 * HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_concurrent_streams(EXCHANGES_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(RESETS_WAITING_MAX);
    builder
}

/// Opens the way to an address, directly or through a proxy. The proxy is told the edge's name if only the
/// proxy can resolve it.
async fn reach(core: &Core, address: SocketAddr) -> Result<Stream, Http2Error> {
    let settings = &core.settings;
    let port = address.port();
    let named = settings.edge_names.get(&address).cloned();
    let host = named.unwrap_or_else(|| address.ip().to_string());
    let proxy = settings.proxy.as_ref().filter(|proxy| proxy.is_for(&host, port));
    if let Some(proxy) = proxy {
        let dialled = proxy.dial(core.context.io, settings.bind, (&host, port), DIAL_TIME_MAX);
        return dialled.await.map_err(Http2Error::Proxy);
    }
    let options = DialOptions {
        connect_timeout: DIAL_TIME_MAX,
        bind: core.bind(address),
        ..DialOptions::default()
    };
    tcp::dial(core.context.io, address, &options)
        .await
        .map_err(Http2Error::Dial)
}

async fn connect(core: &Core, address: SocketAddr) -> Result<TlsStream<Stream>, Http2Error> {
    let stream = reach(core, address).await?;
    let name = ServerName::try_from(SERVER_NAME).expect("a constant that is a host name");
    TlsConnector::from(core.http2.clone())
        .connect(name, stream)
        .await
        .map_err(Http2Error::Tls)
}

/// Hands out what the edge asks for.
struct Requests {
    core: Rc<Core>,
    index: ConnIndex,
    in_flight: Rc<InFlight>,
    edge: EdgeKind,
    bodies: Bodies,
    window: SharedWindow,
    /// Until there is a control stream.
    control: Option<oneshot::Sender<Opened>>,
}

impl Requests {
    async fn serve(mut self, mut connection: Served, shared: Rc<Shared>) {
        let reason = loop {
            tokio::select! {
                request = poll_fn(|cx| self.poll_accept(&mut connection, &shared.heard, cx)) => match request {
                    Some(Ok((request, respond))) => self.handle(request, respond),
                    Some(Err(error)) => break error.to_string(),
                    None => break Http2Error::Closed.to_string(),
                },
                () = shared.closing.notified() => {
                    // Whoever closes has waited for what was under way, but not for its last bytes.
                    if timeout(SEND_TIME_MAX, self.send_all(&mut connection, &shared.heard)).await.is_err() {
                        tracing::debug!(connIndex = self.index.0, "the end of an answer did not get through in time");
                    }
                    shared.heard.linger();
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                    let deadline = adit_driver::time::now() + FLUSH_TIME_MAX;
                    while let Ok(Some(_)) = timeout_at(deadline, connection.accept()).await {}
                    break Http2Error::Closed.to_string();
                }
            }
        };
        shared.end(Lost {
            reason,
            end: End::Closed,
        });
    }

    /// Takes the next request, and what lies there for exchanges that are busy.
    fn poll_accept(
        &mut self,
        connection: &mut Served,
        heard: &Heard,
        cx: &mut Context<'_>,
    ) -> Poll<Accepted> {
        if let Some(bytes) = self.window.poll_wanted(self.in_flight.count())
            // Asked again once the edge has acknowledged an earlier one.
            && connection.set_initial_window_size(bytes).is_ok()
        {
            self.window.set_told(bytes);
        }
        let accepted = connection.poll_accept(cx);
        if heard.is_gathering_due() {
            self.bodies.gather(cx);
        }
        accepted
    }

    /// Waits until all that exchanges have written is in the socket. The library keeps up to
    /// [`SEND_BUFFER_BYTES_MAX`] of each, which an abrupt end would throw away.
    async fn send_all(&mut self, connection: &mut Served, heard: &Heard) {
        poll_fn(|cx| {
            loop {
                match self.poll_accept(connection, heard, cx) {
                    // The edge knows that it must ask no more. Requests that come all the same are dropped,
                    // which refuses them.
                    Poll::Ready(Some(Ok(_late))) => {}
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    Poll::Pending if heard.is_write_blocked() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    fn handle(&mut self, request: Request<h2::RecvStream>, respond: SendResponse<Bytes>) {
        let (index, edge) = (self.index, self.edge);
        match Kind::of(request.headers()) {
            Kind::ControlStream => {
                let Some(control) = self.control.take() else {
                    tracing::debug!(connIndex = index.0, "the edge opened a second control stream");
                    spawn_local(refuse(respond));
                    return;
                };
                if request
                    .headers()
                    .get(EDGE_OF_OURS)
                    .is_some_and(|value| value == TRUE)
                {
                    self.edge = EdgeKind::Ours;
                }
                match control::open(request, respond, self.edge) {
                    // Nobody waits for it if the attempt was given up.
                    Ok(opened) => drop(control.send(opened)),
                    Err(error) => tracing::debug!(connIndex = index.0, %error, "control stream ended"),
                }
            }
            Kind::Configuration => {
                let guard = Guard::new(self.in_flight.clone());
                let exchanges = self.core.exchanges.clone();
                // Ends in time.
                spawn_local(async move {
                    configuration::serve(&exchanges, request, respond).await;
                    drop(guard);
                });
            }
            Kind::WebSocket | Kind::Flow | Kind::Http => {
                let guard = Guard::new(self.in_flight.clone());
                let exchanges = self.core.exchanges.clone();
                let request = request.map(|body| self.bodies.arriving(body));
                // Ends with the stream, which ends with the connection.
                spawn_local(async move {
                    serve_http2(exchanges, index, request, Http2Answer::new(respond, edge)).await;
                    drop(guard);
                });
            }
        }
    }
}

async fn refuse(respond: SendResponse<Bytes>) {
    let excuse = Excuse {
        text: String::new(),
        reach: Reach::Unknown,
    };
    Http2Answer::new(respond, EdgeKind::Stock)
        .fail(Some(&excuse))
        .await;
}
