//! REST bodies about replicas (running connectors) and their connections.

use std::net::IpAddr;

use adit_wire::ids::{ConnectionId, ConnectorId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// One QUIC connection of a replica to an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// The edge site it ends at.
    pub colo_name: String,
    /// Its id, new with every reconnect.
    pub id: ConnectionId,
    /// Whether its edge is out of control's sight; it may well be serving.
    pub is_pending_reconnect: bool,
    /// Where the connector dialled from.
    pub origin_ip: IpAddr,
    /// When it registered.
    #[serde(with = "time::serde::rfc3339")]
    pub opened_at: OffsetDateTime,
}

/// One replica: a running connector process with its connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// The connector's id, new with every start of its process.
    pub id: ConnectorId,
    /// What it can do.
    #[serde(default)]
    pub features: Vec<String>,
    /// Its version.
    pub version: String,
    /// Its system, such as `linux_amd64`.
    pub arch: String,
    /// When its oldest living connection registered.
    #[serde(with = "time::serde::rfc3339")]
    pub run_at: OffsetDateTime,
    /// Its connections by age.
    pub conns: Vec<ConnectionView>,
    /// The version of the remote configuration in force; -1 for its own, nothing if it was never given any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_version: Option<i32>,
    /// The newest configuration, if the replica would not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_refused: Option<RefusedView>,
}

/// A version of the remote configuration that a replica would not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// Which.
    pub version: i32,
    /// In the replica's words.
    pub error: String,
}
