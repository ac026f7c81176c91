//! REST bodies about tunnels.

use adit_wire::ids::{AccountTag, TunnelId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::replica::ConnectionView;

/// Body of `POST /accounts/A/cfd_tunnel` as SDKs may write it. Other fields are refused: a misspelt
/// `tunnel_secret` would else count as none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    /// As in [`CreateTunnel`].
    pub name: String,
    /// As in [`CreateTunnel`]; without it control draws one.
    #[serde(default)]
    pub tunnel_secret: Option<String>,
    /// Read and without effect: a tunnel is remotely managed from its first stored configuration on.
    #[serde(default)]
    pub config_src: Option<ConfigSource>,
}

/// Who is meant to hold a tunnel's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigSource {
    /// Its connectors.
    Local,
    /// Control.
    Cloudflare,
}

/// Body of `POST /accounts/A/cfd_tunnel` as the command line writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateTunnel {
    /// Unique among the account's living tunnels; not a UUID.
    pub name: String,
    /// At least 32 bytes in padded standard base64.
    pub tunnel_secret: String,
}

/// A tunnel as REST shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelView {
    /// Its id for ever.
    pub id: TunnelId,
    /// The account that owns it; other servers may not tell.
    #[serde(default, rename = "account_tag")]
    pub account: Option<AccountTag>,
    /// Its name; a deleted tunnel's name may be used again.
    pub name: String,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was deleted, if it was.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub deleted_at: Option<OffsetDateTime>,
    /// Whether control holds its ingress rules.
    #[serde(default)]
    pub remote_config: bool,
    /// Its live connections.
    #[serde(default)]
    pub connections: Vec<ConnectionView>,
}

/// Answer to the creation of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedTunnel {
    /// The tunnel.
    #[serde(flatten)]
    pub tunnel: TunnelView,
    /// What `tunnel run --token` takes.
    pub token: String,
}
