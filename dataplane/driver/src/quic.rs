//! QUIC on one core: quinn-proto's state machines, driven by our own pump.
//!
//! Life of a datagram: [`udp`](crate::udp) receives a batch, the pump (one task per core) hands each
//! datagram to its [`Connection`], wakes the tasks whose streams can move, lets them run once, and then
//! drains every touched connection into GSO batches. Stream tasks act on quinn-proto's state directly:
//! reads take the decrypted bytes without a copy, writes hand over `Bytes` without a copy.
//!
//! Per wakeup: one receive, one pass over the connections touched by it, one system call per 64 KiB sent.
//! Nothing here is shared between cores; datagrams that land on the wrong one leave by the stray sink.

// In the order a datagram meets them.
pub mod cid;
pub(crate) mod pump;
pub mod endpoint;
pub mod connection;
mod waiting;
pub mod watch;
pub mod outcome;
pub mod window;
pub mod stream;
pub mod settings;
pub mod reset;

pub use connection::Connection;
pub(crate) use connection::park;
pub use endpoint::{DialError, Endpoint, EndpointOptions, EndpointStats, StrayPacket, endpoint_config};
pub use outcome::{ConnectionError, ConnectionStats, FrameCounts};
pub use reset::{ResetId, ResetKey};
pub use settings::{
    ClientConfig, ServerConfig, SettingsError, TransportSettings, client_config, server_config,
};
pub use stream::{ReadError, RecvStream, SendStream, WriteError};
pub use window::{GROWN_BYTES_MAX, WindowBudget};
