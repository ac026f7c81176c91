//! What is new with each start: the replica's id and the seed of its choices; and what follows from them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use adit_driver::quic::{GROWN_BYTES_MAX, WindowBudget};
use adit_wire::ConnectorId;
use adit_wire::registration::ClientInfo;
use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{Config, ConfigError};
use crate::ingress_state::IngressState;
use crate::management::{LiveLog, Management};
use crate::origin::group::Groups;
use crate::settings::Settings;

/// Tells origins which replica asks.
const ID_TAG: HeaderName = HeaderName::from_static("cf-warp-tag-id");

/// The settings of this run.
pub(super) fn settings(config: &Config, live_log: LiveLog) -> Result<Settings, ConfigError> {
    let connector_id = ConnectorId(Uuid::new_v4());
    tracing::info!(
        tunnelID = %config.identity.tunnel_id, connectorID = %connector_id,
        version = env!("CARGO_PKG_VERSION"), "Starting tunnel"
    );
    let id_value = HeaderValue::from_str(&connector_id.to_string()).expect("a UUID is a valid header value");
    let mut added_headers = vec![(ID_TAG, id_value)];
    added_headers.extend(config.tags.iter().cloned());
    let groups = Groups::new(Arc::default(), seed());
    Ok(Settings {
        tunnel_id: config.identity.tunnel_id,
        auth: config.identity.auth.clone(),
        client: ClientInfo {
            connector_id,
            features: config.features.iter().cloned().collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arch: arch(),
        },
        ingress: ArcSwap::from_pointee(IngressState::local(config.ingress.clone(), &groups)),
        groups,
        replacing: Mutex::default(),
        changes: watch::Sender::default(),
        local_changes: watch::Sender::default(),
        origin_health: watch::Sender::default(),
        flows: config.flows.clone(),
        roots: config.roots()?,
        cacert: config.cacert.clone(),
        proxy: config.proxy.clone(),
        edge_names: BTreeMap::new(),
        bind: config.bind,
        is_post_quantum: config.is_post_quantum,
        rpc_timeout: config.rpc_timeout,
        grace_period: config.grace_period,
        idle_ping_interval: config.idle_ping_interval,
        windows: WindowBudget::new(GROWN_BYTES_MAX),
        connections: config.connections,
        readiness: config.readiness,
        quick_hostname: config.quick_hostname.clone().unwrap_or_default(),
        started_at: Instant::now(),
        added_headers,
        management: Management {
            settings: config.management.clone(),
            live_log,
        },
        log_file: config.log_file.clone(),
        reported_flags: config.reported_flags.clone(),
    })
}

/// A seed for choices that need to differ between replicas, not to be secret.
pub(super) fn seed() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

/// Operating system and processor in Go's words, which listings of replicas show.
fn arch() -> String {
    let processor = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}_{processor}", std::env::consts::OS)
}
