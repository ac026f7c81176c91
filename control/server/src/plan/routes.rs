//! Plans the route snapshot: living tunnels with their digests, and the routes that lead to them.

use adit_control_api::digest::SecretDigest;
use adit_control_api::management::ManagementKey;
use adit_control_api::snapshot::{RouteSnapshot, RouteTarget, TunnelEntry};

use crate::facts::{Facts, Route, Tunnel};

/// What the planner takes from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        .filter_map(|route| Some((route.pattern.clone(), target(facts, route)?)))
        .collect();
    let tunnels = facts
        .tunnels
        .values()
        .filter(|tunnel| tunnel.is_living())
        .map(|tunnel| (tunnel.id, tunnel_entry(facts, tunnel, settings)))
        .collect();
    RouteSnapshot {
        generation: facts.generation,
        routes,
        tunnels,
        management_key: settings.management_key,
    }
}

/// Where edges take this route, if anywhere.
pub(super) fn target(facts: &Facts, route: &Route) -> Option<RouteTarget> {
    facts
        .tunnel(&route.account, route.tunnel)
        .filter(|tunnel| tunnel.is_living())
        .map(|tunnel| RouteTarget::Tunnel(tunnel.id))
}

/// What edges know of this living tunnel.
pub(super) fn tunnel_entry(facts: &Facts, tunnel: &Tunnel, settings: PlanSettings) -> TunnelEntry {
    let version = facts.configurations.get(&tunnel.id).map(|held| held.version);
    TunnelEntry {
        account: tunnel.account.clone(),
        name: tunnel.name.clone(),
        secret_digest: SecretDigest::from_bytes(tunnel.secret.digest()),
        remotely_managed: version.is_some(),
        config_version: version.unwrap_or(-1),
        replicas_max: settings.replicas_max,
    }
}
