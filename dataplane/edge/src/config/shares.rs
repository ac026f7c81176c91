//! The limits of what one address, one tunnel and one connection may take.

use adit_proto::shares::Share;

/// What one address, one tunnel and one connection may take of an edge, or of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShareLimits {
    /// Exchanges of one address at once.
    pub(crate) exchanges_per_address: usize,
    /// Connections of one address at once.
    pub(crate) connections_per_address: usize,
    /// Streams of one HTTP/2 connection at once.
    pub(crate) streams_per_connection: u32,
    /// Of the memory, for one address.
    pub(crate) address_share: Share,
    /// Of the memory, for one tunnel.
    pub(crate) tunnel_share: Share,
}

impl ShareLimits {
    /// One core's part of the limits. Its part of exchanges is at least what one connection may have, because
    /// a connection lives on one core.
    pub(crate) fn of_core(self, cores: usize) -> Self {
        let streams = usize::try_from(self.streams_per_connection).unwrap_or(usize::MAX);
        let exchanges = self.exchanges_per_address;
        Self {
            exchanges_per_address: exchanges.div_ceil(cores).max(exchanges.min(streams)),
            connections_per_address: self.connections_per_address.div_ceil(cores),
            ..self
        }
    }
}
