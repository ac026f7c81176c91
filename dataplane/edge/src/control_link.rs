//! The edge's tie to control: routes and verdicts in, registrations and living connections out.
//!
//! Lives on the service thread, never on a core. Cores ask through [`ServiceHandle`] (a bounded mailbox);
//! what control says is broadcast to the cores' mailboxes.
//!
//! ```text
//!            ┌── attached: control decides registrations (2 s), sends snapshots, deltas, disconnects
//! dialling ──┤
//!            └── away: the last snapshot on disk routes and decides; retried with jittered back-off,
//!                      which is longer when another process of this edge's name has taken its place
//! ```
//! Does not: serve requests. Nothing a visitor waits for passes through here.

mod admission;
pub(crate) mod certificate;
mod dial;
mod pause;
mod service;
mod session;

pub use admission::decide as decide_alone;
pub(crate) use service::{Service, ServiceHandle, ServiceMetrics, ServiceSettings};

#[cfg(test)]
mod tests;
