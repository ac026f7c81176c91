//! The link between one edge and control: what is said on it, and thin typed wrappers around the calls.
//!
//! ```text
//! edge                                         control
//!   Link::over(reader, writer)                   serves EdgeGate
//!   EdgeGate::attach(info, receiver) ─────────►  EdgeSession
//!   receiver.handle_snapshot ◄─────────────────  snapshot parts, always first
//!   EdgeSession::report_connections ──────────►  what lives on this edge
//!   EdgeSession::register … ──────────────────►
//!   receiver.handle_delta / handle_disconnect ◄
//!   receiver.handle_replaced ◄─────────────────  at most once, then the link ends
//! ```
//! The edge spawns [`Link`]'s driver on its own thread, because nothing here is `Send`. When the driver ends
//! it starts over with a new link. [`MESSAGE_BYTES_MAX`] bounds every message before memory is taken for it.
//!
//! Does not: dial, listen, speak TLS, or retry.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use adit_wire::ids::{AccountTag, ConnIndex, ConnectionId, ConnectorId, TunnelId};
use capnp::message::ReaderOptions;
use uuid::Uuid;

mod codec;
mod link;
mod parts;
mod receiver;
mod session;

pub use codec::{
    read_configuration_state, read_connection, read_edge_info, read_key, read_tunnel, write_accepted,
    write_certificate, write_key, write_refused,
};
pub use link::{EdgeGate, Link};
pub use parts::{PartError, SnapshotAssembly, SnapshotPart, split_snapshot};
pub use receiver::{EdgeReceiver, ReceiverHandle};
pub use session::EdgeSession;

/// ALPN of the link over TLS.
pub const ALPN: &[u8] = b"adit-link/1";

/// DNS name in control's link certificate; edges ask for it whatever address they dial.
pub const CONTROL_TLS_NAME: &str = "control.adit.internal";

/// Largest message either side accepts. Snapshots and reports travel in parts well below it.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Size at which a snapshot is cut into parts, and above which a delta is replaced by a snapshot.
pub const PART_BYTES_MAX: usize = 512 * 1024;

/// Connections in one part of a report: each is below 1 KiB, so a part stays below [`PART_BYTES_MAX`].
pub const REPORT_CONNECTIONS_MAX: usize = 500;

/// How long an edge waits for control's word on a registration before it decides by itself.
pub const REGISTER_DEADLINE: Duration = Duration::from_secs(2);

/// How often control pings an attached edge; twice this without an answer ends the session.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Longest text in a connection's description (version, arch, one feature, edge name).
pub const TEXT_BYTES_MAX: usize = 256;

/// Longest reason of a refused configuration that is kept.
pub const REFUSAL_BYTES_MAX: usize = 1_024;

/// Most features of one connector that are kept.
pub const FEATURES_MAX: usize = 32;

/// Limits for every message on the link; capnp refuses a larger one before it takes memory for it.
pub fn reader_options() -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options
        .traversal_limit_in_words(Some(MESSAGE_BYTES_MAX / 8))
        .nesting_limit(16);
    options
}

/// Who attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeInfo {
    /// Its configured name, unique in the installation; over TLS also the certificate's name.
    pub name: String,
    /// Its site.
    pub colo: String,
    /// Its failure domain.
    pub region: String,
    /// Made at start of the edge process.
    pub run: Uuid,
    /// The newest generation it holds; 0 for none.
    pub generation: u64,
    /// Its version.
    pub version: String,
}

/// Another process that attached under an edge's name and so took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// How it presents itself.
    pub edge: EdgeInfo,
    /// Where it dialled control from, in words for the log.
    pub address: String,
}

/// Names one QUIC connection of one replica.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The replica.
    pub connector: ConnectorId,
    /// Its slot in the replica.
    pub index: ConnIndex,
    /// This very connection; a reconnect of the slot has another id.
    pub connection: ConnectionId,
}

/// A connection that registers, or that lives on an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Which one.
    pub key: ConnectionKey,
    /// The account its connector claims.
    pub account: AccountTag,
    /// The connector's version.
    pub version: String,
    /// The connector's system.
    pub arch: String,
    /// What the connector can do.
    pub features: Vec<String>,
    /// Where it dialled from.
    pub origin_address: IpAddr,
    /// When the edge accepted it.
    pub opened_at: SystemTime,
}

/// Control's word on a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterOutcome {
    /// The connection may serve.
    Accepted(Accepted),
    /// It may not.
    Refused(Refused),
}

/// What the edge tells an accepted connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Whether the edge pushes a configuration (see [`EdgeSession::configuration`]).
    pub remotely_managed: bool,
    /// Version of that configuration; -1 when there is none.
    pub config_version: i32,
}

/// Why a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Text for the connector; `Unauthorized: …` makes stock connectors retry with back-off.
    pub cause: String,
    /// Stable reason for logs and metrics, such as `bad-secret`.
    pub code: String,
    /// Whether trying again may help.
    pub should_retry: bool,
    /// After how long.
    pub retry_after: Duration,
}

/// A reported connection that must be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which one.
    pub key: ConnectionKey,
    /// Why.
    pub refused: Refused,
}

/// Connections an edge must close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Of this tunnel.
    pub tunnel: TunnelId,
    /// Of this replica only, or of all.
    pub connector: Option<ConnectorId>,
    /// This connection only, or all.
    pub connection: Option<ConnectionId>,
    /// For the log.
    pub reason: String,
}

/// A certificate for the tunnel listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Leaf first, without the root.
    pub chain_pem: String,
    /// The root that connectors are given.
    pub root_pem: String,
    /// When the leaf expires; the edge asks again when a third of the time is left.
    pub not_after: SystemTime,
}

/// A tunnel's remote configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteConfiguration {
    /// Its version.
    pub version: i32,
    /// Its JSON.
    pub config: Vec<u8>,
}

/// What became of the remote configuration at one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationState {
    /// The version in force; -1 for the replica's own.
    pub applied: i32,
    /// What it would not take, if the newest it was given is such.
    pub refusal: Option<ConfigurationRefusal>,
}

/// A version that a replica would not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationRefusal {
    /// Which.
    pub version: i32,
    /// In the replica's words, at most [`REFUSAL_BYTES_MAX`] bytes.
    pub error: String,
}

/// A call on the link failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side is gone, refused the call or broke the protocol.
    #[error("the control link call failed")]
    Rpc(#[from] capnp::Error),
    /// A field does not hold what it should.
    #[error("the control link message has a bad {field}: {reason}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts of a snapshot do not fit together.
    #[error("the snapshot's parts are unusable")]
    Parts(#[from] PartError),
    /// A body is not the JSON it should be.
    #[error("the control link body is not valid")]
    Json(#[from] serde_json::Error),
}

impl From<LinkError> for capnp::Error {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Rpc(error) => error,
            LinkError::Field { .. } => Self::failed(error.to_string()),
            LinkError::Parts(ref source) => Self::failed(format!("{error}: {source}")),
            LinkError::Json(ref source) => Self::failed(format!("{error}: {source}")),
        }
    }
}

#[cfg(test)]
mod tests;
