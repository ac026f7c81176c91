//! Ingress rules that control holds for a tunnel, or that its connector told.

use std::sync::Arc;

use adit_control_api::TunnelId;
use adit_control_api::configuration::{ConfigurationSource, ConfigurationView, PutConfiguration};
use axum::extract::{Path, State as Shared};
use time::OffsetDateTime;

use super::answer::{self, Answer};
use super::auth::Caller;
use super::input::{Body, tunnel_id};
use crate::change::{configurations as change, tunnels};
use crate::facts::Configuration;
use crate::state::State;

pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path((account, id)): Path<(String, String)>,
) -> Answer {
    caller.in_account(&account)?;
    let id = tunnel_id(&id)?;
    tunnels::living(&caller.facts, &caller.account, id)?;
    let view = caller
        .facts
        .configurations
        .get(&id)
        .map_or_else(|| local(&state, id), remote);
    Ok(answer::one(view))
}

pub(super) async fn put(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path((account, id)): Path<(String, String)>,
    Body(request): Body<PutConfiguration>,
) -> Answer {
    caller.in_account(&account)?;
    let (owner, id) = (caller.account, tunnel_id(&id)?);
    let now = OffsetDateTime::now_utc();
    let stored = state
        .write(move |facts| change::put(facts, &owner, id, request.config.clone(), now))
        .await?;
    tracing::info!(tunnel = %id, version = stored.version, "a configuration is stored");
    Ok(answer::one(remote(&stored)))
}

fn remote(held: &Configuration) -> ConfigurationView {
    ConfigurationView {
        tunnel_id: held.tunnel,
        version: held.version,
        source: ConfigurationSource::Remote,
        config: Some(held.config.clone()),
        created_at: Some(held.written_at),
    }
}

/// What a connector told of itself: the first replica that told anything. Not all of them tell valid JSON.
fn local(state: &State, tunnel: TunnelId) -> ConfigurationView {
    let told = state.ask(|registrar| {
        registrar
            .replicas(tunnel)
            .find_map(|(_, replica)| replica.local_configuration.clone())
    });
    ConfigurationView {
        tunnel_id: tunnel,
        version: 0,
        source: ConfigurationSource::Local,
        config: told.and_then(|json| serde_json::from_slice(&json).ok()),
        created_at: None,
    }
}
