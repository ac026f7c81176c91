//! Tunnels: create, list, show, delete, token.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_control_api::TunnelId;
use adit_control_api::problem::{ApiError, Code};
use adit_control_api::tunnel::{CreateBody, CreateTunnel, CreatedTunnel, TunnelView};
use adit_wire::token::TunnelToken;
use axum::extract::{Path, State as Shared};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::answer::{self, Answer};
use super::auth::Caller;
use super::connections::connection_views;
use super::input::{Body, Paging, PagingParams, Params, tunnel_id};
use crate::change::tunnels as change;
use crate::facts::{Facts, Tunnel};
use crate::state::State;

/// Filters of the list, as the stock command line and SDKs send them. Others are refused: a caller that
/// deletes what a filter leaves must not get everything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filters {
    is_deleted: Option<bool>,
    name: Option<String>,
    name_prefix: Option<String>,
    /// What SDKs call `name_prefix`.
    include_prefix: Option<String>,
    exclude_prefix: Option<String>,
    existed_at: Option<String>,
    uuid: Option<String>,
    // Not flattened: the query's decoder would then know numbers only as text.
    page: Option<u64>,
    per_page: Option<u64>,
}

/// Parameters of a deletion.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deletion {
    cascade: Option<bool>,
}

pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path(account): Path<String>,
    Body(body): Body<CreateBody>,
) -> Answer {
    caller.in_account(&account)?;
    let request = CreateTunnel {
        name: body.name,
        tunnel_secret: match body.tunnel_secret {
            Some(secret) => secret,
            None => drawn_secret()?,
        },
    };
    let owner = caller.account;
    let id = TunnelId(Uuid::new_v4());
    let now = OffsetDateTime::now_utc();
    let tunnel = state
        .write(move |facts| change::create(facts, &owner, &request, id, now))
        .await?;
    tracing::info!(tunnel = %tunnel.id, name = tunnel.name, "a tunnel is created");
    let token = token_of(&tunnel);
    let created = CreatedTunnel {
        tunnel: view(&state, &state.facts(), &tunnel),
        token,
    };
    Ok(answer::one(created))
}

pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path(account): Path<String>,
    Params(filters): Params<Filters>,
) -> Answer {
    caller.in_account(&account)?;
    let paging = filters.paging()?;
    let chosen = filters.choose(caller.facts.tunnels_of(&caller.account))?;
    let views = chosen
        .into_iter()
        .map(|tunnel| view(&state, &caller.facts, tunnel))
        .collect();
    Ok(answer::page::<TunnelView>(views, paging))
}

pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path((account, id)): Path<(String, String)>,
) -> Answer {
    caller.in_account(&account)?;
    let id = tunnel_id(&id)?;
    let tunnel = caller
        .facts
        .tunnel(&caller.account, id)
        .ok_or_else(|| change::not_found(id))?;
    Ok(answer::one(view(&state, &caller.facts, tunnel)))
}

pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    caller: Caller,
    Path((account, id)): Path<(String, String)>,
    Params(deletion): Params<Deletion>,
) -> Answer {
    caller.in_account(&account)?;
    let (owner, id) = (caller.account, tunnel_id(&id)?);
    let now = OffsetDateTime::now_utc();
    let cascade = deletion.cascade.unwrap_or(false);
    let live = state.clone();
    let tunnel = state
        .write(move |facts| {
            let decision = change::delete(facts, &owner, id, now)?;
            if !cascade && live.ask(|registrar| registrar.is_connected(id)) {
                return Err(Code::TunnelInUse.error(
                    "the tunnel has active connections; stop its connectors, or repeat with --force",
                ));
            }
            Ok(decision)
        })
        .await?;
    // After the new snapshot is out: whoever registers from here on is refused.
    state.cleanup(id, None, "the tunnel is deleted");
    tracing::info!(tunnel = %tunnel.id, name = tunnel.name, "a tunnel is deleted");
    Ok(answer::one(view(&state, &state.facts(), &tunnel)))
}

pub(super) async fn token(caller: Caller, Path((account, id)): Path<(String, String)>) -> Answer {
    caller.in_account(&account)?;
    let tunnel = change::living(&caller.facts, &caller.account, tunnel_id(&id)?)?;
    Ok(answer::one(token_of(tunnel)))
}

impl Filters {
    fn paging(&self) -> Result<Paging, ApiError> {
        PagingParams::new(self.page, self.per_page).resolve()
    }

    /// The tunnels that pass, oldest first, so that pages do not shift when one is added.
    fn choose<'a>(&self, tunnels: impl Iterator<Item = &'a Tunnel>) -> Result<Vec<&'a Tunnel>, ApiError> {
        let existed_at = self.existed_at.as_deref().map(parse_time).transpose()?;
        let uuid = self.uuid.as_deref().map(tunnel_id).transpose()?;
        let begins =
            |name: &str, prefix: &Option<String>| prefix.as_deref().map(|prefix| name.starts_with(prefix));
        let passes = |tunnel: &&Tunnel| {
            self.is_deleted
                .is_none_or(|deleted| deleted != tunnel.is_living())
                && self.name.as_ref().is_none_or(|name| *name == tunnel.name)
                && begins(&tunnel.name, &self.name_prefix) != Some(false)
                && begins(&tunnel.name, &self.include_prefix) != Some(false)
                && begins(&tunnel.name, &self.exclude_prefix) != Some(true)
                && uuid.is_none_or(|id| id == tunnel.id)
                && existed_at.is_none_or(|at| {
                    tunnel.created_at <= at && tunnel.deleted_at.is_none_or(|deleted| deleted > at)
                })
        };
        let ordered: BTreeMap<_, _> = tunnels
            .filter(passes)
            .map(|tunnel| ((tunnel.created_at, tunnel.id), tunnel))
            .collect();
        Ok(ordered.into_values().collect())
    }
}

/// A secret for a tunnel whose maker brought none: its token is all that connectors need.
fn drawn_secret() -> Result<String, ApiError> {
    let mut secret = [0; change::SECRET_BYTES_MIN];
    aws_lc_rs::rand::fill(&mut secret)
        .map_err(|_| Code::Unavailable.error("no random bytes are available"))?;
    Ok(STANDARD.encode(secret))
}

fn parse_time(text: &str) -> Result<OffsetDateTime, ApiError> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| Code::Malformed.error(format!("{text:?} is not an RFC 3339 time")))
}

fn view(state: &State, facts: &Facts, tunnel: &Tunnel) -> TunnelView {
    TunnelView {
        id: tunnel.id,
        account: Some(tunnel.account.clone()),
        name: tunnel.name.clone(),
        created_at: tunnel.created_at,
        deleted_at: tunnel.deleted_at,
        remote_config: facts.configurations.contains_key(&tunnel.id),
        connections: connection_views(state, tunnel.id),
    }
}

fn token_of(tunnel: &Tunnel) -> String {
    TunnelToken {
        account_tag: tunnel.account.clone(),
        secret: tunnel.secret.clone(),
        tunnel_id: tunnel.id,
        endpoint: String::new(),
    }
    .encode()
}
