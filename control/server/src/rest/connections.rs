//! Live connections: list by replica, and cleanup.

use std::sync::Arc;

use adit_control_api::problem::Code;
use adit_control_api::replica::{ClientView, ConnectionView, RefusedView};
use adit_control_api::{ConnectorId, TunnelId};
use axum::extract::{Path, State as Shared};
use serde::Deserialize;
use time::OffsetDateTime;

use super::answer::{self, Answer};
use super::auth::Caller;
use super::input::{Params, tunnel_id};
use crate::change::tunnels as change;
use crate::registrar::{Live, Replica};
use crate::state::State;

/// Parameters of a cleanup.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cleanup {
    client_id: Option<String>,
}

pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path((account, id)): Path<(String, String)>,
) -> Answer {
    caller.in_account(&account)?;
    let id = tunnel_id(&id)?;
    caller
        .facts
        .tunnel(&caller.account, id)
        .ok_or_else(|| change::not_found(id))?;
    let clients: Vec<ClientView> = state.ask(|registrar| {
        registrar
            .replicas(id)
            .filter_map(|(connector, replica)| client_view(connector, replica))
            .collect()
    });
    Ok(answer::one(clients))
}

pub(super) async fn cleanup(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path((account, id)): Path<(String, String)>,
    Params(params): Params<Cleanup>,
) -> Answer {
    caller.in_account(&account)?;
    let id = tunnel_id(&id)?;
    change::living(&caller.facts, &caller.account, id)?;
    let connector = match params.client_id.as_deref() {
        None => None,
        Some(text) => Some(
            text.parse::<ConnectorId>()
                .map_err(|_| Code::Malformed.error(format!("client_id {text:?} is not a connector's id")))?,
        ),
    };
    state.cleanup(id, connector, "cleaned up on request");
    tracing::info!(tunnel = %id, "a tunnel's connections are cleaned up");
    Ok(answer::one(serde_json::Value::Null))
}

/// All connections of a tunnel, oldest first.
pub(super) fn connection_views(state: &State, tunnel: TunnelId) -> Vec<ConnectionView> {
    state.ask(|registrar| {
        by_age(
            registrar
                .replicas(tunnel)
                .flat_map(|(_, replica)| replica.connections.values()),
        )
    })
}

fn client_view(id: ConnectorId, replica: &Replica) -> Option<ClientView> {
    let newest = replica
        .connections
        .values()
        .max_by_key(|live| live.connection.opened_at)?;
    let conns = by_age(replica.connections.values());
    let refused = replica
        .configuration
        .as_ref()
        .and_then(|state| state.refusal.as_ref());
    Some(ClientView {
        id,
        features: newest.connection.features.clone(),
        version: newest.connection.version.clone(),
        arch: newest.connection.arch.clone(),
        run_at: conns.first()?.opened_at,
        conns,
        config_version: replica.configuration.as_ref().map(|state| state.applied),
        config_refused: refused.map(|refusal| RefusedView {
            version: refusal.version,
            error: refusal.error.clone(),
        }),
    })
}

fn by_age<'a>(lives: impl Iterator<Item = &'a Live>) -> Vec<ConnectionView> {
    let mut views: Vec<_> = lives
        .map(|live| ConnectionView {
            colo_name: live.colo.to_string(),
            id: live.connection.key.connection,
            is_pending_reconnect: live.pending_since.is_some(),
            origin_ip: live.connection.origin_address,
            opened_at: OffsetDateTime::from(live.connection.opened_at),
        })
        .collect();
    views.sort_by_key(|view| (view.opened_at, view.id));
    views
}
