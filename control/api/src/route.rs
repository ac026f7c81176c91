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

/// Hostnames that one bulk request may name. The difference that they make to a snapshot fits in one message
/// to an edge, unless the names are longer than they usually are.
pub const ROUTES_PER_CALL_MAX: usize = 4_000;

/// Body of `POST /zones/Z/tunnels/{id}/routes`: all of the hostnames lead to the tunnel, or none does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkRouteRequest {
    /// The hostnames, or `*.` and a suffix; at most [`ROUTES_PER_CALL_MAX`].
    pub hostnames: Vec<String>,
    /// Whether they may be taken from other tunnels of the account.
    #[serde(default)]
    pub overwrite_existing: bool,
}

/// Answer to a bulk request: how many hostnames fared how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkRouteResult {
    /// They led nowhere before.
    pub new: usize,
    /// They led to another tunnel.
    pub updated: usize,
    /// They led here already.
    pub unchanged: usize,
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
