//! Plans what one write changes, from the keys that it touches alone. Pure.
//!
//! The invariant: a held plan, patched by [`step`], is the plan of everything ([`super::plan`]).
//! It holds while both are made with the same settings; a change of those needs a plan of everything.

use std::collections::BTreeSet;

use adit_control_api::snapshot::{RouteSnapshot, SnapshotDelta};
use adit_control_api::{HostPattern, TunnelId};

use super::PlanSettings;
use super::routes::{target, tunnel_entry};
use crate::facts::{Change, Facts};

/// The keys whose plan a write may change.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    /// Tunnels that came, went or have another configuration.
    tunnels: BTreeSet<TunnelId>,
    /// Those of them whose routes may come or go with them.
    lives: BTreeSet<TunnelId>,
    routes: BTreeSet<HostPattern>,
}

impl Touched {
    /// Collects the keys of these changes.
    pub fn by(changes: &[Change]) -> Self {
        let mut touched = Self::default();
        for change in changes {
            match change {
                Change::Generation(_) | Change::PutAccount(_) => {}
                Change::PutTunnel(tunnel) => touched.on_life(tunnel.id),
                Change::RemoveTunnel(id) => touched.on_life(*id),
                Change::PutRoute(route) => {
                    touched.routes.insert(route.pattern.clone());
                }
                Change::RemoveRoute(pattern) => {
                    touched.routes.insert(pattern.clone());
                }
                Change::PutConfiguration(configuration) => {
                    touched.tunnels.insert(configuration.tunnel);
                }
                Change::RemoveConfiguration(tunnel) => {
                    touched.tunnels.insert(*tunnel);
                }
            }
        }
        touched
    }

    fn on_life(&mut self, tunnel: TunnelId) {
        self.tunnels.insert(tunnel);
        self.lives.insert(tunnel);
    }
}

/// Plans the step from `held` to the plan of `facts`, which differ from those of `held` in touched keys only.
///
/// A tunnel that comes or goes costs its own routes; nothing is proportional to the facts.
pub fn step(
    held: &RouteSnapshot,
    facts: &Facts,
    mut touched: Touched,
    settings: PlanSettings,
) -> SnapshotDelta {
    for tunnel in &touched.lives {
        touched.routes.extend(facts.routes_to(*tunnel).cloned());
    }
    let mut delta = SnapshotDelta {
        from: held.generation,
        to: facts.generation,
        management_key: settings
            .management_key
            .filter(|key| held.management_key != Some(*key)),
        ..SnapshotDelta::default()
    };
    for pattern in touched.routes {
        match facts.routes.get(&pattern).and_then(|route| target(facts, route)) {
            Some(target) => {
                delta.routes_set.insert(pattern, target);
            }
            None if held.routes.contains_key(&pattern) => delta.routes_removed.push(pattern),
            None => {}
        }
    }
    for id in touched.tunnels {
        match facts.tunnels.get(&id).filter(|tunnel| tunnel.is_living()) {
            Some(tunnel) => {
                delta
                    .tunnels_set
                    .insert(id, tunnel_entry(facts, tunnel, settings));
            }
            None if held.tunnels.contains_key(&id) => delta.tunnels_removed.push(id),
            None => {}
        }
    }
    delta
}
