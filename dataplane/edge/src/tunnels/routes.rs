//! Routes as a core looks them up: the snapshot's, filed by hostname.
//!
//! Built once per snapshot on the service thread and shared by all cores, which never change it.

use adit_control_api::snapshot::{RouteSnapshot, RouteTarget};
use adit_proto::host_map::HostMap;
use adit_wire::{Hostname, TunnelId};

/// Where each hostname leads.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) generation: u64,
    targets: HostMap<TunnelId>,
}

impl Routes {
    pub(crate) fn of(snapshot: &RouteSnapshot) -> Self {
        let targets = snapshot.routes.iter().map(|(pattern, target)| match target {
            RouteTarget::Tunnel(tunnel) => (pattern.clone(), *tunnel),
        });
        Self {
            generation: snapshot.generation,
            targets: targets.collect(),
        }
    }

    /// The tunnel that serves `host`: an exact route first, then the longest wildcard.
    pub(crate) fn tunnel(&self, host: &Hostname) -> Option<TunnelId> {
        self.targets.get(host).copied()
    }
}
