//! `tunnel route dns`: lets a hostname lead to a tunnel.

use adit_control_api::route::RouteChange;
use adit_control_api::{HostPattern, TunnelId};
use anyhow::Context as _;

use super::api_access::ApiAccess;
use super::resolve::tunnel_id;
use crate::args::leaf::Chosen;
use crate::failure::Failure;

/// Routes a hostname; says in the log what that changed.
pub(super) async fn dns(chosen: &Chosen<'_>, access: &ApiAccess) -> Result<(), Failure> {
    let hostname = chosen.argument(1);
    if hostname.is_empty() {
        let text = "The third argument should be the hostname";
        return Err(Failure::arguments(&chosen.leaf.command(), text));
    }
    let parsed: Result<HostPattern, _> = hostname.parse();
    parsed.with_context(|| format!("{hostname} is not a valid hostname"))?;
    let id = tunnel_id(access, chosen.argument(0)).await?;
    lead(chosen, access, id, hostname).await
}

/// Lets a hostname lead to a tunnel and logs what that changed.
pub(super) async fn lead(
    chosen: &Chosen<'_>,
    access: &ApiAccess,
    id: TunnelId,
    hostname: &str,
) -> Result<(), Failure> {
    let overwrite = chosen.tunnel.switch("overwrite-dns")?.unwrap_or(false);
    let result = access
        .api
        .route_dns(id, hostname, overwrite)
        .await
        .map_err(|error| access.explain(error))?;
    let summary = match result.cname {
        RouteChange::New => format!("Added CNAME {} which will route to this tunnel", result.name),
        RouteChange::Updated => format!("{} updated to route to your tunnel", result.name),
        RouteChange::Unchanged => format!("{} is already configured to route to your tunnel", result.name),
    };
    tracing::info!(tunnelID = %id, "{summary}");
    Ok(())
}
