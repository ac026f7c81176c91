//! The connector: beside the origin, it dials edges and answers what they send with the origin's help.
//!
//! ```text
//! service thread: configuration, signals, supervisor, metrics server
//!        │ commands, by mailbox                ▲ events, by mailbox
//!        ▼                                     │
//! core threads: connections ─► control stream, data streams ─► exchange task ─► origin
//! ```
//! Call [`Config::resolve`], then [`run`].
//!
//! Does not: listen for visitors, know the control API, keep anything on disk.

#![forbid(unsafe_code)]

// Modules in the order of a connector's life, then of an exchange.
pub mod config;
mod settings;
mod ingress_state;
mod error;
pub mod run;
mod status;
mod metrics;
mod metrics_server;
mod local_configuration;
mod connections;
mod control_stream;
mod edge_stream;
pub mod edge_proxy;
mod exchange_task;
mod access;
mod management;
mod rules;
mod origin;
mod origin_check;

pub use config::{Config, ConfigError, Flags, Identity, QuickTunnel};
pub use error::ConnectorError;
pub use management::{LiveLog, LogEvent, LogLevel, LogLine};
pub use run::run;
