//! A stream of an HTTP/2 connection of this core. A task carries it between pipes and HTTP/2.

use tokio::task::spawn_local;

use super::piped;
use super::stream::{ExchangeStream, InFlight};
use crate::tunnel_http2;

/// Never fails: what cannot be opened ends its pipes.
pub(super) fn open(connection: tunnel_http2::Connection, guard: InFlight) -> ExchangeStream {
    let (stream, request, response) = piped(guard);
    // Ends with the exchange: both pipes report their ends.
    spawn_local(tunnel_http2::exchange::carry(connection, request, response));
    stream
}
