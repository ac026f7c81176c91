//! A tunnel's name or id, as given on the command line, to its id.

use adit_control_api::TunnelId;
use anyhow::anyhow;

use super::api_access::ApiAccess;
use crate::failure::Failure;
use crate::rest::Query;

/// Takes an id as it is and asks the API for a name.
pub(in crate::cmd) async fn tunnel_id(access: &ApiAccess, name_or_id: &str) -> Result<TunnelId, Failure> {
    if let Ok(id) = name_or_id.parse() {
        return Ok(id);
    }
    match named(access, name_or_id).await? {
        Some(id) => Ok(id),
        None => {
            let text = format!("{name_or_id} is neither the ID nor the name of any of your tunnels");
            Err(Failure::from(anyhow!(text)).next("adit tunnel list"))
        }
    }
}

/// The living tunnel of this name, if there is one.
pub(super) async fn named(access: &ApiAccess, name: &str) -> Result<Option<TunnelId>, Failure> {
    let query = Query::default().and("is_deleted", "false").and("name", name);
    let found = access
        .api
        .tunnels_matching(&query)
        .await
        .map_err(|error| access.explain(error))?;
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.id)),
        many => {
            let text = format!(
                "there should only be 1 non-deleted Tunnel named {name}, there are {}",
                many.len()
            );
            Err(Failure::from(anyhow!(text)).next("adit tunnel list, then use the id"))
        }
    }
}

/// Resolves several; the first that cannot be resolved ends it before anything is done.
pub(super) async fn tunnel_ids(access: &ApiAccess, names: &[String]) -> Result<Vec<TunnelId>, Failure> {
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        let id = match name.parse() {
            Ok(id) => Some(id),
            Err(_) => named(access, name).await?,
        };
        ids.push(id.ok_or_else(|| {
            let text = format!("there should only be 1 non-deleted Tunnel named {name}, there is none");
            Failure::from(anyhow!(text)).next("adit tunnel list")
        })?);
    }
    Ok(ids)
}
