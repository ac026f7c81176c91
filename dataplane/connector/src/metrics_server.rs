//! The operator's HTTP server: readiness, counters and the configuration in force.
//!
//! | path | answer |
//! |---|---|
//! | `/ready` | 200 with a registered connection and no rule whose origin is down by its checks, else 503 |
//! | `/healthcheck` | `OK` |
//! | `/metrics` | counters in Prometheus' text format ([`exposition`]) |
//! | `/config` | the ingress in force, as JSON |
//! | `/quicktunnel` | `{"hostname":"…"}`, empty for tunnels that have a name |
//! | `/diag/configuration`, `/diag/tunnel`, `/diag/system` | see [`diagnostics`] |
//!
//! It lives on the service thread: a slow scrape takes nothing from exchanges.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::ingress::Rule;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::error::ConnectorError;
use crate::ingress_state::hostname;
use crate::local_configuration;
use crate::metrics::CoreMetrics;
use crate::settings::Settings;
use crate::status::Status;

mod diagnostics;
mod exposition;
mod process;

/// Tried in order when no address is configured, so that a person finds it; then any free port.
const DEFAULT_PORTS: [u16; 6] = [20241, 20242, 20243, 20244, 20245, 0];

/// Scrapers connected at once; more wait for their turn.
const CONNECTIONS_MAX: usize = 32;

/// Longest life of one connection.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause after a failed accept, which is nearly always for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server shows.
pub(crate) struct View {
    pub(crate) status: Rc<RefCell<Status>>,
    /// By core.
    pub(crate) metrics: Vec<Arc<CoreMetrics>>,
    pub(crate) settings: Arc<Settings>,
}

/// The open listener.
pub(crate) struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsServer {
    /// Listens on `address`, or on a default port of localhost.
    pub(crate) async fn bind(address: Option<&str>) -> Result<Self, ConnectorError> {
        let shown = || address.unwrap_or("localhost").to_owned();
        let failed = |source| ConnectorError::Metrics {
            address: shown(),
            source,
        };
        let listener = match address {
            Some(address) => TcpListener::bind(address).await,
            None => bind_default().await,
        };
        let listener = listener.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, "Starting metrics server");
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    pub(crate) async fn serve(self, view: Rc<View>) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let view = view.clone();
                    // Ends within CONNECTION_TIME_MAX.
                    spawn_local(async move {
                        answer(stream, view).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "Metrics server cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn bind_default() -> io::Result<TcpListener> {
    let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
    for port in DEFAULT_PORTS {
        match TcpListener::bind(("localhost", port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn answer(stream: TcpStream, view: Rc<View>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let target = request
            .uri()
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let response = respond(&view, request.method(), target);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIME_MAX, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "metrics connection failed"),
    }
}

fn respond(view: &View, method: &Method, target: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/ready" => ready(view, query),
        "/healthcheck" => text(StatusCode::OK, "OK\n"),
        "/metrics" => {
            let mut response = text(StatusCode::OK, exposition::render(view));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        "/config" => {
            let state = view.settings.ingress.load();
            json(StatusCode::OK, &local_configuration::describe(&state))
        }
        "/quicktunnel" => {
            let hostname = &view.settings.quick_hostname;
            json(StatusCode::OK, &serde_json::json!({"hostname": hostname}))
        }
        "/diag/configuration" => json(StatusCode::OK, &diagnostics::configuration(view)),
        "/diag/tunnel" => json(StatusCode::OK, &diagnostics::tunnel(view)),
        "/diag/system" => json(StatusCode::OK, &diagnostics::system()),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// Ready with the wanted connections and while no rule's origin is down. `origins=ignore` looks at
/// connections alone.
fn ready(view: &View, query: &str) -> Response<Full<Bytes>> {
    let status = view.status.borrow();
    let count = status.ready_count();
    let locations: BTreeSet<&str> = status
        .connections()
        .map(|(_, connection)| connection.location.as_str())
        .collect();
    let wanted = view.settings.readiness;
    let is_connected = count >= wanted.connections && locations.len() >= wanted.locations;
    let are_origins_ignored = query.split('&').any(|pair| pair == "origins=ignore");
    let down: Vec<_> = view.settings.ingress.load().down().map(rule_name).collect();
    let status = if is_connected && (are_origins_ignored || down.is_empty()) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut body = serde_json::json!({
        "status": status.as_u16(),
        "readyConnections": count,
        "connectorId": view.settings.client.connector_id,
    });
    if !down.is_empty() {
        body["originsDown"] = down.into();
    }
    json(status, &body)
}

/// What a person finds a rule by in the configuration.
fn rule_name(rule: &Rule) -> serde_json::Value {
    serde_json::json!({
        "hostname": hostname(rule),
        "path": rule.path.as_ref().map(|path| path.as_str()),
        "service": rule.service.to_string(),
    })
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = text(status, body.to_string());
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
