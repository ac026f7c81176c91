//! The public side: where visitors come in, over HTTP/1.1 and HTTP/2, in clear and over TLS, and on raw
//! ports.
//!
//! ```text
//! accept ─► [PROXY header] ─► [name in the ClientHello] ─► TLS, ALPN ─► HTTP/2 ─┐
//!                         ├► first bytes ─► whole heads ─► HTTP/1.1 ────────────┴► exchange_task per request
//!                         └► raw port, or a name of passthrough ─► exchange_task::flow per connection
//! ```
//! Limits: visitors per core, time for a handshake and for a head, idle time, streams, resets and idle frames
//! per HTTP/2 connection, head size. Each has a counter or an error code.

pub(crate) mod tls;
pub(crate) mod listen;
mod certificates;
mod ahead;
mod first_bytes;
mod heads;
mod refusal;
mod activity;
mod io;
mod remainder;
mod visitor_body;
mod calm;
mod http1;
pub(crate) mod interim;
mod http2;
mod raw;

pub(crate) use activity::InFlight;
pub(crate) use visitor_body::VisitorBody;

#[cfg(test)]
mod tests;
