//! `tunnel delete` and `tunnel cleanup`.

use adit_control_api::{ConnectorId, TunnelId};
use anyhow::{Context as _, anyhow};

use super::api_access::ApiAccess;
use super::resolve::tunnel_ids;
use super::{credentials, search};
use crate::args::leaf::Chosen;
use crate::failure::Failure;

/// Deletes tunnels and the credentials files that belong to them.
pub(super) async fn delete(chosen: &Chosen<'_>, access: &ApiAccess) -> Result<(), Failure> {
    let force = chosen.own.switch("force")?.unwrap_or(false);
    for id in tunnel_ids(access, &chosen.arguments).await? {
        let tunnel = access
            .api
            .tunnel(id)
            .await
            .map_err(|error| access.explain(error))?;
        if tunnel.deleted_at.is_some() {
            return Err(anyhow!("Tunnel {id} has already been deleted").into());
        }
        if let Err(error) = access.api.delete_tunnel(id, force).await {
            let failure = access.explain(error);
            let in_use = !force && !tunnel.connections.is_empty();
            return Err(if in_use {
                failure.next(format!("adit tunnel delete -f {id}"))
            } else {
                failure
            });
        }
        remove_file(chosen, access, id);
    }
    Ok(())
}

/// Disconnects the connectors of tunnels.
pub(super) async fn cleanup(chosen: &Chosen<'_>, access: &ApiAccess) -> Result<(), Failure> {
    let connector = chosen.own.text("connector-id").map(|id| {
        let parsed = id.parse::<ConnectorId>();
        parsed.with_context(|| format!("{id} is not a valid client ID (must be a UUID)"))
    });
    let connector = connector.transpose()?;
    let only = connector
        .map(|id| format!(" for connector-id {id}"))
        .unwrap_or_default();
    let mut failed = Ok(());
    for id in tunnel_ids(access, &chosen.arguments).await? {
        tracing::info!("Cleanup connection for tunnel {id}{only}");
        // One that cannot be cleaned up keeps none of the others from it.
        if let Err(error) = access.api.cleanup(id, connector).await {
            tracing::error!("Error cleaning up connections for tunnel {id}: {error}");
            failed = Err(access.explain(error));
        }
    }
    failed
}

/// The tunnel is gone already, so a file that stays is only told.
fn remove_file(chosen: &Chosen<'_>, access: &ApiAccess, id: TunnelId) {
    let given = chosen
        .tunnel
        .text("credentials-file")
        .map(|path| search::expand(&path));
    let Some(path) = given.or_else(|| credentials::find(Some(access.directory()), id)) else {
        return;
    };
    let belongs = credentials::read(&path).is_ok_and(|found| found.tunnel_id == Some(id));
    let removed = if belongs {
        std::fs::remove_file(&path).context("cannot remove it")
    } else {
        Err(anyhow!("it does not hold the credentials of this tunnel"))
    };
    if let Err(error) = removed {
        let path = path.display();
        tracing::info!(
            "Tunnel {id} was deleted, but we could not remove its credentials file {path}: {error:#}. Consider deleting this file manually."
        );
    }
}
