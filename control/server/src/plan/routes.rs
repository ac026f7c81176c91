//! Plans the route snapshot: living tunnels with their digests, and the routes that lead to them.

use adit_control_api::digest::SecretDigest;
use adit_control_api::management::ManagementKey;
use adit_control_api::snapshot::{RouteSnapshot, RouteTarget, TunnelEntry};

use crate::facts::{Facts, Tunnel};

/// What the planner takes from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct PlanSettings {
    /// Replicas each tunnel may have.
    pub replicas_max: u32,
    /// What edges verify management tokens with.
    pub management_key: Option<ManagementKey>,
}

/// Plans the snapshot of these facts; it has their generation.
///
/// A route whose tunnel is deleted, or of another account than the route, is left out: better no answer than
/// somebody else's.
pub fn plan(facts: &Facts, settings: PlanSettings) -> RouteSnapshot {
    let routes = facts
        .routes
        .values()
        .filter(|route| {
            facts
                .tunnel(&route.account, route.tunnel)
                .is_some_and(Tunnel::is_living)
        })
        .map(|route| (route.pattern.clone(), RouteTarget::Tunnel(route.tunnel)))
        .collect();
    let tunnels = facts
        .tunnels
        .values()
        .filter(|tunnel| tunnel.is_living())
        .map(|tunnel| {
            let version = facts.configurations.get(&tunnel.id).map(|held| held.version);
            let entry = TunnelEntry {
                account: tunnel.account.clone(),
                name: tunnel.name.clone(),
                secret_digest: SecretDigest::from_bytes(tunnel.secret.digest()),
                remotely_managed: version.is_some(),
                config_version: version.unwrap_or(-1),
                replicas_max: settings.replicas_max,
            };
            (tunnel.id, entry)
        })
        .collect();
    RouteSnapshot {
        generation: facts.generation,
        routes,
        tunnels,
        management_key: settings.management_key,
    }
}
