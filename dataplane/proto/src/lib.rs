//! Choices and state machines of both roles of a tunnel, without I/O.
//!
//! Everything here is a pure function of *bytes + time + seed*: callers pass the clock and the seed in
//! and perform the effects that come out. The crate never names a socket, a file, a runtime or a clock,
//! which `.clippy.toml` and the tidy test enforce.

#![forbid(unsafe_code)]

// Modules in the order a request meets them.
pub mod limits;
pub mod error_chain;
pub mod host_map;
pub mod directory;
pub mod ejection;
pub mod steering;
pub mod absence;
pub mod cidr;
pub mod proxy_protocol;
pub mod client_hello;
pub mod request_head;
pub mod frame_watch;
pub mod sent_frames;
pub mod shares;
pub mod exchange;
pub mod ingress;
pub mod origin_pool;
pub mod websocket;
pub mod socks;
pub mod flow_policy;
pub mod traversal;

// What keeps a connector connected.
pub mod backoff;
pub mod edge_addrs;
pub mod supervisor;
