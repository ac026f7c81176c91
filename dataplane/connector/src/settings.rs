//! What every core of a connector knows: who it is, what it serves and its limits.
//!
//! All of it is fixed at start but the ingress, which an edge may replace as a whole: versions only grow,
//! and the local configuration, which its file may replace, has the lowest one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adit_driver::quic::WindowBudget;
use adit_proto::error_chain::chain;
use adit_proto::flow_policy::FlowPolicy;
use adit_proto::ingress::Ingress;
use adit_wire::config_push::{ConfigApplied, ConfigUpdate, VERSION_NONE};
use adit_wire::registration::{ClientInfo, OriginHealth, TunnelAuth};
use adit_wire::{ConnIndex, TunnelId};
use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use rustls::RootCertStore;
use tokio::sync::watch;

use crate::config::{Readiness, remote};
use crate::edge_proxy::EdgeProxy;
use crate::ingress_state::IngressState;
use crate::local_configuration;
use crate::management::Management;
use crate::origin::group::Groups;

/// Shared by all cores.
pub(crate) struct Settings {
    pub(crate) tunnel_id: TunnelId,
    pub(crate) auth: TunnelAuth,
    pub(crate) client: ClientInfo,
    /// The ingress in force.
    pub(crate) ingress: ArcSwap<IngressState>,
    /// The addresses of its origins.
    pub(crate) groups: Groups,
    /// Held while it is replaced: several edges may push at the same moment.
    pub(crate) replacing: Mutex<()>,
    /// Says that it was replaced.
    pub(crate) changes: watch::Sender<()>,
    /// Says that the local ingress was replaced.
    pub(crate) local_changes: watch::Sender<()>,
    /// Which origins are down, as edges of ours are told.
    pub(crate) origin_health: watch::Sender<OriginHealth>,
    /// What edges may have dialled by naming it.
    pub(crate) flows: FlowPolicy,
    /// Who may sign an edge's certificate.
    pub(crate) roots: RootCertStore,
    /// The file that some of them came from.
    pub(crate) cacert: Option<PathBuf>,
    /// Through which edges are reached.
    pub(crate) proxy: Option<EdgeProxy>,
    /// The names of edges that a proxy resolves, by the address that stands for each here.
    pub(crate) edge_names: BTreeMap<SocketAddr, String>,
    /// Local address of connections to the edge.
    pub(crate) bind: Option<IpAddr>,
    /// Offer only key exchanges that resist quantum computers.
    pub(crate) is_post_quantum: bool,
    /// Limit of one call to an edge.
    pub(crate) rpc_timeout: Duration,
    /// How long exchanges may go on after a drain began.
    pub(crate) grace_period: Duration,
    /// Interval of PINGs on an idle connection to an edge of ours.
    pub(crate) idle_ping_interval: Duration,
    /// For what windows of streams grow by, over all connections.
    pub(crate) windows: Arc<WindowBudget>,
    /// What makes this connector ready.
    pub(crate) readiness: Readiness,
    /// Where visitors reach a quick tunnel; empty for others.
    pub(crate) quick_hostname: String,
    /// Connections wanted, which take turns with those PINGs.
    pub(crate) connections: usize,
    /// Where those turns are counted from.
    pub(crate) started_at: Instant,
    /// Told to origins with every request.
    pub(crate) added_headers: Vec<(HeaderName, HeaderValue)>,
    /// Answers what edges ask of the connector itself.
    pub(crate) management: Management,
    /// Where the log is also written.
    pub(crate) log_file: Option<PathBuf>,
    /// Flags told to the edge with the local configuration.
    pub(crate) reported_flags: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Time from `now` to a slot's first PING by the clock, and the interval of those that follow.
    pub(crate) fn idle_pings(&self, index: ConnIndex, now: Instant) -> (Duration, Duration) {
        let interval = self.idle_ping_interval;
        let turns = u32::try_from(self.connections).unwrap_or(u32::MAX).max(1);
        let turn = interval / turns * (u32::from(index.0) % turns);
        let elapsed = now.saturating_duration_since(self.started_at) + interval - turn;
        let into = elapsed.as_nanos() % interval.as_nanos().max(1);
        let first = interval - Duration::from_nanos(u64::try_from(into).unwrap_or(0));
        (first, interval)
    }

    /// Puts an edge's configuration in force if it is valid and newer, and says which version is in force.
    pub(crate) fn apply(&self, update: &ConfigUpdate) -> ConfigApplied {
        let in_force = self.ingress.load().version;
        if update.version <= in_force {
            return applied(in_force, String::new());
        }
        let ingress = match remote::parse(&update.config) {
            Ok(ingress) => ingress,
            Err(error) => {
                let text = chain(&error);
                tracing::error!(
                    version = update.version,
                    error = text,
                    "Failed to update configuration"
                );
                return applied(in_force, text);
            }
        };
        if self.replace(update.version, ingress, |in_force| in_force < update.version) {
            tracing::info!(version = update.version, "Updated to new configuration");
        }
        applied(self.ingress.load().version, String::new())
    }

    /// Puts an ingress in force if that in force has a version that `may_give_way`; whether it did.
    fn replace(&self, version: i32, ingress: Ingress, may_give_way: impl FnOnce(i32) -> bool) -> bool {
        let _turn = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.ingress.load();
        if !may_give_way(current.version) {
            return false;
        }
        let groups = self.groups.follow(&ingress, &current.groups);
        self.ingress.store(Arc::new(IngressState {
            version,
            ingress,
            groups,
        }));
        self.changes.send_replace(());
        self.look_at_origins();
        true
    }

    /// Tells edges of ours which origins are down, if that has changed.
    pub(crate) fn look_at_origins(&self) {
        self.origin_health.send_if_modified(|told| {
            let rules = self.ingress.load().health();
            if rules == told.rules {
                return false;
            }
            let revision = told.revision + 1;
            *told = OriginHealth { revision, rules };
            true
        });
    }

    /// Puts other local rules in force, unless those in force are an edge's; whether it did.
    pub(crate) fn replace_local(&self, ingress: Ingress) -> bool {
        let is_local = self.replace(VERSION_NONE, ingress, |in_force| in_force == VERSION_NONE);
        if is_local {
            self.local_changes.send_replace(());
        }
        is_local
    }

    /// What the edge is told of a locally configured tunnel, as JSON. `None` once rules of an edge are in
    /// force.
    pub(crate) fn local_configuration(&self) -> Option<Vec<u8>> {
        let state = self.ingress.load();
        let is_local = state.version == VERSION_NONE;
        is_local.then(|| local_configuration::render(&state.ingress, &self.reported_flags))
    }
}

fn applied(latest_version: i32, error: String) -> ConfigApplied {
    ConfigApplied {
        latest_version,
        error,
    }
}
