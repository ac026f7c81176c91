//! REST bodies about public hostnames.

use adit_wire::hostname::HostPattern;
use adit_wire::ids::TunnelId;
use serde::{Deserialize, Serialize};

/// Body of `PUT /zones/Z/tunnels/{id}/routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RouteRequest {
    /// A hostname leads to the tunnel.
    Dns {
        /// The hostname, or `*.` and a suffix.
        user_hostname: String,
        /// Whether it may be taken from another tunnel of the account.
        #[serde(default)]
        overwrite_existing: bool,
    },
}

/// Answer to a DNS route request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRouteResult {
    /// What happened to the route.
    pub cname: RouteChange,
    /// The hostname as stored.
    pub name: String,
}

/// What a route request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteChange {
    /// The hostname led nowhere before.
    New,
    /// The hostname led to another tunnel.
    Updated,
    /// It led here already.
    Unchanged,
}

/// One hostname of an account, in answers to `GET /zones/Z/tunnels/routes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// The hostname, or `*.` and a suffix.
    pub hostname: HostPattern,
    /// The tunnel it leads to.
    pub tunnel_id: TunnelId,
    /// That tunnel's name.
    pub tunnel_name: String,
}
