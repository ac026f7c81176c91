//! Where the edges are: their names are looked up here, or left to the proxy through which they are reached.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use adit_proto::traversal::split_port;
use tokio::time::timeout;

use super::ConnectorError;
use crate::config::Config;

/// How long looking up the edges may take.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(15);

/// Addresses taken of one edge's name. More would only be tried after all others have failed.
const ADDRESSES_PER_EDGE_MAX: usize = 1;

/// Addresses that nobody has (RFC 6666), which stand for names that only a proxy resolves.
const STAND_IN: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0);

/// The edges in the given order.
pub(super) struct Edges {
    /// Those that cannot be resolved are left out.
    pub(super) addresses: Vec<SocketAddr>,
    /// By the address that stands for it.
    pub(super) names: BTreeMap<SocketAddr, String>,
}

impl Edges {
    pub(super) async fn resolve(config: &Config) -> Result<Self, ConnectorError> {
        let mut edges = Self {
            addresses: Vec::with_capacity(config.edges.len()),
            names: BTreeMap::new(),
        };
        for edge in &config.edges {
            match split_port(edge, 0) {
                Some((host, port)) if is_left_to_a_proxy(config, host, port) => edges.add_name(host, port),
                Some(_) | None => edges.look_up(edge, config).await,
            }
        }
        if edges.addresses.is_empty() {
            return Err(ConnectorError::NoEdgeAddress);
        }
        Ok(edges)
    }

    fn add_name(&mut self, host: &str, port: u16) {
        let held = self
            .names
            .iter()
            .find(|(address, name)| address.port() == port && *name == host);
        let address = held.map(|(address, _)| *address).unwrap_or_else(|| {
            let number = self.names.len() as u128 + 1;
            SocketAddr::new(Ipv6Addr::from_bits(STAND_IN.to_bits() + number).into(), port)
        });
        self.names.insert(address, host.to_owned());
        self.addresses.push(address);
    }

    async fn look_up(&mut self, edge: &str, config: &Config) {
        match timeout(RESOLVE_TIME_MAX, tokio::net::lookup_host(edge)).await {
            Ok(Ok(found)) => {
                let fit = found.filter(|address| config.ip_version.admits(address));
                let before = self.addresses.len();
                self.addresses.extend(fit.take(ADDRESSES_PER_EDGE_MAX));
                if self.addresses.len() == before {
                    tracing::error!(edge, "An edge has no address of the wanted kind");
                }
            }
            Ok(Err(error)) => tracing::error!(edge, %error, "Cannot resolve an edge"),
            Err(_) => tracing::error!(edge, limit = ?RESOLVE_TIME_MAX, "Resolving an edge takes too long"),
        }
    }
}

/// Names of edges behind a proxy are often known to it alone, and asking for them here could take long.
fn is_left_to_a_proxy(config: &Config, host: &str, port: u16) -> bool {
    let is_proxied = config
        .proxy
        .as_ref()
        .is_some_and(|proxy| proxy.is_for(host, port));
    is_proxied && host.parse::<IpAddr>().is_err()
}
