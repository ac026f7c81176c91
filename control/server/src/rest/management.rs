//! Tokens for the management service of a tunnel's connectors.

use std::sync::Arc;
use std::time::SystemTime;

use adit_control_api::management::{Claims, Resource, Signer, TunnelClaim};
use adit_control_api::problem::Code;
use axum::Extension;
use axum::extract::Path;
use serde::Deserialize;

use super::answer::{self, Answer};
use super::auth::Caller;
use super::input::{Body, tunnel_id};
use crate::change::tunnels as change;

/// The key that signs.
pub(super) type Signing = Extension<Arc<Signer>>;

/// What is asked for, in the form of the public API.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    resources: Vec<Resource>,
}

/// `…/management/{resource}`, as cloudflared asks.
pub(super) async fn issue_one(
    caller: Caller,
    Extension(signer): Signing,
    Path((account, id, resource)): Path<(String, String, String)>,
) -> Answer {
    let wanted = Resource::parse(&resource).ok_or_else(|| {
        Code::Malformed.error(format!(
            "{resource:?} is none of logs, admin, host_details and ping"
        ))
    })?;
    issue(&caller, &signer, &account, &id, vec![wanted])
}

/// `…/management` with the resources in the body.
pub(super) async fn issue_several(
    caller: Caller,
    Extension(signer): Signing,
    Path((account, id)): Path<(String, String)>,
    Body(wanted): Body<Wanted>,
) -> Answer {
    let mut resources = wanted.resources;
    resources.sort_unstable();
    resources.dedup();
    if resources.is_empty() {
        let text = "resources is empty; name at least one of logs, admin, host_details and ping";
        return Err(Code::Invalid.error(text).into());
    }
    issue(&caller, &signer, &account, &id, resources)
}

fn issue(caller: &Caller, signer: &Signer, account: &str, id: &str, mut resources: Vec<Resource>) -> Answer {
    caller.in_account(account)?;
    if resources.contains(&Resource::Unknown) {
        let text = "resources may be logs, admin, host_details and ping";
        return Err(Code::Malformed.error(text).into());
    }
    // Every token opens it, and says so to whoever reads the claims.
    if !resources.contains(&Resource::Ping) {
        resources.push(Resource::Ping);
    }
    let id = tunnel_id(id)?;
    change::living(&caller.facts, &caller.account, id)?;
    let tunnel = TunnelClaim {
        id,
        account_tag: caller.account.clone(),
    };
    // An account has one API token, so all that is known of the person is the account.
    let actor = caller.account.as_str().to_owned();
    tracing::info!(tunnel = %id, ?resources, "issued a management token");
    let claims = Claims::new(tunnel, actor, resources, SystemTime::now());
    let token = signer
        .sign(&claims)
        .map_err(|_| Code::Unavailable.error("the token could not be signed; try again"))?;
    Ok(answer::one(token))
}
