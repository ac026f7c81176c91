//! REST bodies about the ingress rules that control holds for a tunnel.

use adit_wire::ids::TunnelId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Largest stored configuration in its JSON form: it must fit into one control message.
pub const CONFIGURATION_BYTES_MAX: usize = 512 * 1024;

/// Body of `PUT /accounts/A/cfd_tunnel/{id}/configurations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutConfiguration {
    /// What the connector receives: `ingress`, `originRequest`, `warp-routing`.
    pub config: serde_json::Value,
}

/// A tunnel's configuration as REST shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationView {
    /// Whose configuration it is.
    pub tunnel_id: TunnelId,
    /// Grows by one with every write; 0 for a configuration the connector brought itself.
    pub version: i32,
    /// Who wrote it.
    pub source: ConfigurationSource,
    /// The rules; null when neither side has told any.
    pub config: Option<serde_json::Value>,
    /// When this version was written or reported.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub created_at: Option<OffsetDateTime>,
}

/// Who decides a tunnel's ingress rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigurationSource {
    /// The file beside the connector.
    Local,
    /// Control, through this API.
    Remote,
}
