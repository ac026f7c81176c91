//! The edge: takes visitors' requests in and sends them down the tunnels that connectors opened.
//!
//! ```text
//! visitor ─► public ─► exchange_task ─► tunnels ─► QUIC stream here,
//!                                                or pipes to the owning core or to tunnel_http2
//! connector ─► (tunnel_http2 ─►) registration ─► tunnels            control ◄─► control_link ─► every core
//! ```
//! Everything but the service thread (`control_link`, `admin`, signals) lives on a core and is not `Send`.
//! Nothing a visitor waits for leaves the cores.

#![forbid(unsafe_code)]

// In the order of a run: configuration, process, core; then the path of a request; then a connection's.
mod config;
mod run;
mod core;
mod drain;
mod public;
mod exchange_task;
mod error_page;
mod tunnels;
mod open;
mod cross_core;
mod tunnel_http2;
mod registration;
mod control_link;
mod state;
mod peers;
mod access_log;
mod management;
mod validity;
mod validities;
mod memory;
mod shares;
mod metrics;
mod admin;

pub use config::{Config, ConfigError};
pub use control_link::decide_alone;
pub use run::{EdgeError, run};
