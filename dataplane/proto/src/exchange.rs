//! One request and its response (or one byte flow) on one data stream: the rules of both roles.
//!
//! Heads are translated here, byte streams are not touched: bodies pass through the drivers.

pub mod edge;
pub mod connector;
pub mod interim;
pub mod reach;
pub mod retry;
pub mod switch;
pub mod delivery;
pub mod held_body;
pub mod error_code;
pub mod framed_body;
mod codings;
mod hop_by_hop;
pub(crate) mod look_alike;
mod names;
