//! Under which name edges reach the connector's management service, and what it tells of the host.

use std::net::SocketAddr;

/// Where the local address is looked for when nobody says otherwise: any address that is not of this network.
pub(crate) const SERVICE_ADDRESS: &str = "198.41.200.113:80";

/// The hostname of the service when nobody says otherwise.
pub(crate) const HOSTNAME: &str = "management.argotunnel.com";

/// Settings of the service.
#[derive(Debug, Clone)]
pub(crate) struct ManagementSettings {
    /// Requests for this host are for the service.
    pub(crate) hostname: String,
    /// Told in place of the host's name.
    pub(crate) label: Option<String>,
    /// `host:port`; the address that leads there is told.
    pub(crate) service_address: String,
    /// Edges; without a way to that address, the one that leads to one of these is told.
    pub(crate) edges: Vec<SocketAddr>,
}
