//! Hostnames: route, list, free.

use std::sync::Arc;

use adit_control_api::route::{BulkRouteRequest, RouteRequest, RouteView};
use axum::extract::{Path, State as Shared};
use time::OffsetDateTime;

use super::answer::{self, Answer};
use super::auth::Caller;
use super::input::{Body, PagingParams, Params, tunnel_id};
use crate::change::routes as change;
use crate::state::State;

pub(super) async fn put(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path((zone, id)): Path<(String, String)>,
    Body(request): Body<RouteRequest>,
) -> Answer {
    caller.in_zone(&zone)?;
    let (owner, id) = (caller.account, tunnel_id(&id)?);
    let RouteRequest::Dns {
        user_hostname,
        overwrite_existing,
    } = request;
    let now = OffsetDateTime::now_utc();
    let result = state
        .write(move |facts| change::put(facts, &owner, id, &user_hostname, overwrite_existing, now))
        .await?;
    tracing::info!(hostname = result.name, tunnel = %id, "a hostname leads to a tunnel");
    Ok(answer::one(result))
}

pub(super) async fn put_all(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path((zone, id)): Path<(String, String)>,
    Body(request): Body<BulkRouteRequest>,
) -> Answer {
    caller.in_zone(&zone)?;
    let (owner, id) = (caller.account, tunnel_id(&id)?);
    let BulkRouteRequest {
        hostnames,
        overwrite_existing,
    } = request;
    let now = OffsetDateTime::now_utc();
    let result = state
        .write(move |facts| change::put_all(facts, &owner, id, &hostnames, overwrite_existing, now))
        .await??;
    tracing::info!(new = result.new, updated = result.updated, tunnel = %id, "hostnames lead to a tunnel");
    Ok(answer::one(result))
}

pub(super) async fn list(
    caller: Caller,
    Path(zone): Path<String>,
    Params(paging): Params<PagingParams>,
) -> Answer {
    caller.in_zone(&zone)?;
    let paging = paging.resolve()?;
    let name_of = |id| {
        caller
            .facts
            .tunnels
            .get(&id)
            .map(|tunnel| tunnel.name.clone())
            .unwrap_or_default()
    };
    let views: Vec<RouteView> = caller
        .facts
        .routes
        .values()
        .filter(|route| route.account == caller.account)
        .map(|route| RouteView {
            hostname: route.pattern.clone(),
            tunnel_id: route.tunnel,
            tunnel_name: name_of(route.tunnel),
        })
        .collect();
    Ok(answer::page(views, paging))
}

pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path((zone, id, hostname)): Path<(String, String, String)>,
) -> Answer {
    caller.in_zone(&zone)?;
    let (owner, id) = (caller.account, tunnel_id(&id)?);
    let pattern = state
        .write(move |facts| change::remove(facts, &owner, id, &hostname))
        .await?;
    tracing::info!(hostname = %pattern, tunnel = %id, "a hostname is freed");
    Ok(answer::one(serde_json::json!({"name": pattern})))
}
