//! Routes as a core looks them up: the snapshot's, filed by hostname.
//!
//! Built from a whole snapshot, or patched by a delta, on the service thread and shared by all cores, which
//! never change it. A patched one shares with the one before what the delta did not touch.

use adit_control_api::snapshot::{RouteSnapshot, SnapshotDelta};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::host_map::ShardedHostMap;
use adit_wire::{Hostname, TunnelId};

/// Where each hostname leads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    pub(crate) generation: u64,
    /// `None` for what only a newer edge can serve.
    targets: ShardedHostMap<Option<TunnelId>>,
}

impl Routes {
    pub(crate) fn of(snapshot: &RouteSnapshot) -> Self {
        let targets = snapshot.routes.iter();
        let targets = targets.map(|(pattern, target)| (pattern.clone(), target.tunnel()));
        Self {
            generation: snapshot.generation,
            targets: targets.collect(),
        }
    }

    /// These routes after a delta that starts from their generation.
    pub(crate) fn patched(&self, delta: &SnapshotDelta) -> Self {
        let mut routes = self.clone();
        for pattern in &delta.routes_removed {
            routes.targets.remove(pattern);
        }
        for (pattern, target) in &delta.routes_set {
            routes.targets.insert(pattern.clone(), target.tunnel());
        }
        routes.generation = delta.to;
        routes
    }

    /// The tunnel that serves `host`: an exact route first, then the longest wildcard.
    ///
    /// # Errors
    /// [`ErrorCode::HostnameUnknown`]; [`ErrorCode::NeedsNewerEdge`] for a route that this edge cannot read.
    pub(crate) fn tunnel(&self, host: &Hostname) -> Result<TunnelId, ErrorCode> {
        let target = self.targets.get(host).ok_or(ErrorCode::HostnameUnknown)?;
        target.ok_or(ErrorCode::NeedsNewerEdge)
    }
}
