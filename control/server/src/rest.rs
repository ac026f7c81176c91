//! The REST API: cloudflared's own shapes under `/client/v4`, so that its command line works against it.
//!
//! ```text
//! listen (limits) ─► router ─► auth (whose token?) ─► read facts, or State::write ─► envelope
//! ```
//! `POST /tunnel` is where quick tunnels are asked for, without a token, if they are offered. `/healthz` and
//! `/metrics` are beside it, without a token: the listener is for this machine unless configured otherwise.

use std::sync::Arc;
use std::time::Duration;

use adit_control_api::management::Signer;
use adit_control_api::problem::Code;
use axum::Extension;
use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use tokio::net::TcpListener;

use crate::metrics::Gauges;
use crate::quick::Desk;
use crate::state::State;

mod answer;
mod auth;
mod input;
mod listen;
mod silent;
mod tunnels;
mod connections;
mod routes;
mod configurations;
mod quick;
mod management;

/// Where the API begins.
pub(crate) const BASE: &str = "/client/v4";

/// How long one request may take, body and disk included.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Serves until `stop` resolves, then finishes what runs within `stop_time`.
pub(crate) async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    desk: Option<Arc<Desk>>,
    signer: Arc<Signer>,
    stop: impl Future<Output = ()>,
    stop_time: Duration,
) {
    let metrics = state.clone();
    listen::serve(
        listener,
        router(state, desk, signer),
        stop,
        stop_time,
        move || metrics.metrics.accept_failed(),
    )
    .await;
}

fn router(state: Arc<State>, desk: Option<Arc<Desk>>, signer: Arc<Signer>) -> Router {
    let quick = desk.map_or_else(Router::new, |desk| {
        Router::new()
            .route("/tunnel", post(quick::create))
            .with_state(desk)
    });
    let api = Router::new()
        .route(
            "/accounts/{account}/cfd_tunnel",
            get(tunnels::list).post(tunnels::create),
        )
        .route(
            "/accounts/{account}/cfd_tunnel/{id}",
            get(tunnels::show).delete(tunnels::delete),
        )
        .route("/accounts/{account}/cfd_tunnel/{id}/token", get(tunnels::token))
        .route(
            "/accounts/{account}/cfd_tunnel/{id}/connections",
            get(connections::list).delete(connections::cleanup),
        )
        .route(
            "/accounts/{account}/cfd_tunnel/{id}/configurations",
            get(configurations::show).put(configurations::put),
        )
        .route(
            "/accounts/{account}/cfd_tunnel/{id}/management",
            post(management::issue_several),
        )
        .route(
            "/accounts/{account}/cfd_tunnel/{id}/management/{resource}",
            post(management::issue_one),
        )
        .route("/zones/{zone}/tunnels/routes", get(routes::list))
        .route(
            "/zones/{zone}/tunnels/{id}/routes",
            put(routes::put).post(routes::put_all),
        )
        .route(
            "/zones/{zone}/tunnels/{id}/routes/{hostname}",
            axum::routing::delete(routes::remove),
        );
    Router::new()
        .nest(BASE, api)
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .fallback(async || answer::refuse(Code::NotFound.error("there is nothing at this path")))
        .method_not_allowed_fallback(async || {
            answer::refuse(Code::MethodNotAllowed.error("this path does not take this method"))
        })
        .layer(Extension(signer))
        .with_state(state.clone())
        .merge(quick)
        .layer(from_fn_with_state(state, bounded))
}

/// Ends a request that takes too long, and counts all of them.
async fn bounded(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            state.metrics.request_timed_out();
            answer::refuse(Code::Unavailable.error("the request took too long"))
        }
    };
    state.metrics.request_answered(response.status().as_u16());
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered an API request");
    response
}

async fn health(Shared(state): Shared<Arc<State>>) -> Response {
    let (edges, ..) = state.ask(|registrar| registrar.counts());
    let generation = state.facts().generation;
    axum::Json(serde_json::json!({"status": "ok", "generation": generation, "edges": edges})).into_response()
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    let facts = state.facts();
    let (edges, attached, pending) = state.ask(|registrar| registrar.counts());
    let gauges = Gauges {
        generation: facts.generation,
        tunnels: facts.living_count_of_all(),
        routes: facts.routes.size(),
        quick_tunnels: facts.quick_count(),
        edges,
        attached,
        pending,
    };
    (
        StatusCode::OK,
        [("content-type", "text/plain; version=0.0.4")],
        state.metrics.render(&gauges),
    )
        .into_response()
}
