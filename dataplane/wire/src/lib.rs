//! Bytes to types: everything that edge and connector say to each other, and the names both use.
//!
//! A decoder takes bytes and gives a value or an error; an encoder takes a value and gives bytes.
//! There is no state beyond a half-read message, no I/O and no clock, so every decoder here can be
//! fuzzed (`tests/fuzz`). Bytes are the peer's and may be hostile: each decoder has a named limit and
//! never allocates more than a small multiple of what it was given.
//!
//! Compatible with cloudflared on the wire. The Cap'n Proto schemas lie in `schema/`, their generated
//! code is checked in under `src/generated/` so that a build needs no `capnp` tool, and
//! `fixtures/` holds captures of the stock connector that the unit tests decode and encode again.
#![forbid(unsafe_code)]

// In the order of a connection's life: names, the first bytes of a stream, registration, exchanges,
// datagrams; then what is kept in files.
pub mod ids;
pub mod hostname;
pub mod alpn;
pub mod signature;
pub mod framing;
pub mod registration;
pub mod config_push;
pub mod connect;
pub mod metadata;
pub mod http2;
pub mod datagram;
pub mod secret;
pub mod token;
pub mod credentials;
pub mod origin_cert;
mod json_object;

/// Types of the Cap'n Proto RPC between edge and connector, generated from `schema/tunnelrpc.capnp`.
#[path = "generated/tunnelrpc_capnp.rs"]
#[allow(warnings, reason = "generated code")]
#[rustfmt::skip]
pub mod tunnelrpc_capnp;

/// Heads of data streams, generated from `schema/quic_metadata_protocol.capnp`.
#[path = "generated/quic_metadata_protocol_capnp.rs"]
#[allow(warnings, reason = "generated code")]
#[rustfmt::skip]
pub mod quic_metadata_protocol_capnp;

pub use hostname::{HostPattern, Hostname};
pub use ids::{AccountTag, ConnIndex, ConnectionId, ConnectorId, TunnelId};
pub use secret::TunnelSecret;
