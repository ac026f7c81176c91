//! Control as a process of its own, over its real sockets: REST, edges, kills and restarts.
//!
//! Each test starts this very program again and asks it for [`lab::control_process`] alone. That runs control
//! in a directory of its own until it is told to stop or killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "process/lab.rs"]
mod lab;
#[path = "process/rest.rs"]
mod rest;
#[path = "process/crash.rs"]
mod crash;
#[path = "process/edges.rs"]
mod edges;
