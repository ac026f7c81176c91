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
use crate::config::LiveConfig;
use crate::control_link::Service;
use crate::memory;
use crate::metrics::{CoreMetrics, Scrape, render};
use crate::shares::EXCHANGE_BYTES;
use crate::validities::Validities;

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
    pub(crate) validities: Validities,
    /// All cores listen and none drains.
    pub(crate) is_serving: Cell<bool>,
    /// Says what the process may have resident.
    pub(crate) live: LiveConfig,
}

/// Why no visitor should be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotReady {
    /// A core does not listen yet, or the edge drains.
    NotServing,
    NoRoutes,
    /// The process has its memory resident.
    MemoryResident,
    /// Exchanges under way hold all that a core has for them.
    MemoryHeld,
}

impl NotReady {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotServing => "starting or draining",
            Self::NoRoutes => "no routes from control yet",
            Self::MemoryResident => "resident memory is above limits.memory",
            Self::MemoryHeld => "exchanges under way hold all of limits.memory",
        }
    }
}

impl Admin {
    /// Not serving yet.
    pub(crate) fn new(
        live: LiveConfig,
        cores: &[Arc<CoreMetrics>],
        service: &Rc<Service>,
        log: &AccessLog,
        validities: Validities,
    ) -> Self {
        Self {
            cores: cores.to_vec(),
            service: service.clone(),
            log: log.clone(),
            validities,
            is_serving: false.into(),
            live,
        }
    }

    /// The first reason against it; for memory the same as those for which exchanges are refused.
    fn not_ready(&self) -> Option<NotReady> {
        if !self.is_serving.get() {
            return Some(NotReady::NotServing);
        }
        if self.service.metrics.generation.get() == 0 {
            return Some(NotReady::NoRoutes);
        }
        let memory_bytes = self.live.current().limits.memory_bytes;
        if memory::resident().is_some_and(|bytes| bytes > memory_bytes) {
            return Some(NotReady::MemoryResident);
        }
        let is_full = |core: &Arc<CoreMetrics>| {
            core.memory_bytes.get() + EXCHANGE_BYTES > core.memory_share_bytes.get()
        };
        self.cores.iter().any(is_full).then_some(NotReady::MemoryHeld)
    }
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
            let certificates = admin.validities.ends();
            let scrape = Scrape {
                cores: &admin.cores,
                service: &admin.service.metrics,
                log: admin.log.metrics(),
                certificates: &certificates,
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

/// Ready for visitors: every core listens, none drains, routes are known, if only the last ones, and there is
/// memory for another exchange.
fn ready(admin: &Admin) -> Response<Full<Bytes>> {
    let not_ready = admin.not_ready();
    let tunnels: u64 = admin
        .cores
        .iter()
        .map(|core| core.tunnel_connections_open.get())
        .sum();
    let value = serde_json::json!({
        "ready": not_ready.is_none(),
        "reason": not_ready.map(NotReady::as_str),
        "controlAttached": admin.service.is_attached(),
        "generation": admin.service.metrics.generation.get(),
        "tunnelConnections": tunnels,
    });
    let status = if not_ready.is_none() {
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
