//! Control: knows accounts, tunnels, secrets and routes, tells edges, and answers the REST API.
//!
//! ```text
//! REST request ─► change (pure) ─► store (durable) ─► facts ─► plan (pure) ─► snapshot ─► every edge
//! edge ─► edge_link ─► registrar (pure) ─► accepted / refused
//! ```
//! The answer to a write leaves only after the store has the write on disk. Living connections are not
//! stored: edges know them, and report them whenever they attach.
//!
//! Does not: see a visitor's request, speak to a connector, or stand in the way of either when it is down.
#![forbid(unsafe_code)]

// In the order a write travels, then what edges ask, then the process around it.
pub mod config;
pub mod facts;
pub mod change;
pub mod store;
pub mod plan;
pub mod registrar;
pub mod ca;
mod management;
mod files;
mod state;
mod quick;
mod rest;
mod edge_link;
mod metrics;
mod bootstrap;
mod run;

pub use bootstrap::BootstrapError;
pub use ca::{CaError, issue_edge_files};
pub use config::{Config, ConfigError, QuickTunnels};
pub use edge_link::TlsError;
pub use management::ManagementKeyError;
pub use run::{ControlError, run};
