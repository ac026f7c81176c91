//! The admin listener: `/metrics`, `/ready`, `/healthz`. On the service thread, away from the cores.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use crate::access_log::AccessLog;
use crate::control_link::Service;
use crate::metrics::{CoreMetrics, Scrape, render};

/// Connections at once: scrapers and health checks are few.
const CONNECTIONS_MAX: usize = 64;

/// Time for a request head, and between two.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Pause after accepting failed, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin listener tells about.
pub(crate) struct Admin {
    pub(crate) cores: Vec<Arc<CoreMetrics>>,
    pub(crate) service: Rc<Service>,
    pub(crate) log: AccessLog,
    /// All cores listen and none drains.
    pub(crate) is_serving: Cell<bool>,
}

/// Serves until the process ends.
pub(crate) async fn run(admin: Rc<Admin>, listener: TcpListener) {
    let seats = Rc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if seats.available_permits() == 0 {
            continue;
        }
        let (admin, seats) = (admin.clone(), seats.clone());
        // Ends with the connection, which has a time for every head.
        spawn_local(async move {
            let _seat = seats.try_acquire();
            let service = service_fn(move |request| {
                let response = answer(&admin, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
}

fn answer(admin: &Admin, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if *request.method() != Method::GET && *request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    match request.uri().path() {
        "/metrics" => {
            let scrape = Scrape {
                cores: &admin.cores,
                service: &admin.service.metrics,
                log: admin.log.metrics(),
            };
            let mut response = text(StatusCode::OK, render(&scrape));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        "/ready" => ready(admin),
        "/healthz" => text(StatusCode::OK, "ok\n".into()),
        _ => text(
            StatusCode::NOT_FOUND,
            "/metrics, /ready and /healthz are here\n".into(),
        ),
    }
}

/// Ready for visitors: every core listens, none drains, and routes are known, if only the last ones.
fn ready(admin: &Admin) -> Response<Full<Bytes>> {
    let generation = admin.service.metrics.generation.get();
    let is_ready = admin.is_serving.get() && generation > 0;
    let tunnels: u64 = admin
        .cores
        .iter()
        .map(|core| core.tunnel_connections_open.get())
        .sum();
    let value = serde_json::json!({
        "ready": is_ready,
        "controlAttached": admin.service.is_attached(),
        "generation": generation,
        "tunnelConnections": tunnels,
    });
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut response = text(status, format!("{value}\n"));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
