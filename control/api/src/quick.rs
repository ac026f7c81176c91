//! REST body about quick tunnels: made for anybody who asks, for a while, under a random hostname.

use std::fmt;

use adit_wire::ids::{AccountTag, TunnelId};
use serde::{Deserialize, Serialize};

/// Result of `POST /tunnel`. Stock clients read the first five fields.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuickTunnelView {
    /// The tunnel.
    pub id: TunnelId,
    /// Its name in listings.
    pub name: String,
    /// Where visitors reach it.
    pub hostname: String,
    /// The account it counts to.
    pub account_tag: AccountTag,
    /// What its connector presents, in padded standard base64.
    pub secret: String,
    /// Where edges take its connector, as `host:port`; other servers do not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<String>,
    /// Who signs those edges' certificates, in PEM; other servers do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Without the secret.
impl fmt::Debug for QuickTunnelView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuickTunnelView")
            .field("id", &self.id)
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}
