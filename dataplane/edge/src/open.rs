//! Opens the data stream of one attempt at the place where its connection lives.
//!
//! ```text
//! this core  ─► QUIC: a stream, driven directly (here)
//!            └► HTTP/2: two pipes, and a task that translates (http2)
//! other core ─► two pipes; their other ends go there by mailbox (other_core)
//! ```
//! Does not: choose the connection (see [`Tunnels`]), send a head, or try another one.

pub(crate) mod stream;
mod here;
mod http2;
pub(crate) mod other_core;

use adit_driver::pipe::{PipeReader, PipeWriter, pipe};

use crate::tunnels::connection::Connection;
use crate::tunnels::{Choice, Place, Tunnels};
use stream::{ExchangeStream, InFlight, RecvHalf, SendHalf};

/// Bytes of one direction of an exchange that may wait between two cores, or before HTTP/2.
const PIPE_CREDIT_BYTES: usize = 128 << 10;

/// A stream could not be opened; another connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the connection is gone")]
    Gone,
    #[error("the owning core's mailbox is full")]
    MailboxFull,
}

/// Opens a data stream on the chosen connection. It counts as work of the connection while it lives.
pub(crate) async fn open(tunnels: &Tunnels, choice: &Choice) -> Result<ExchangeStream, OpenError> {
    let guard = InFlight::enter(choice.load());
    match tunnels.place(choice).ok_or(OpenError::Gone)? {
        Place::Here(Connection::Quic(connection)) => here::open(connection, guard).await,
        Place::Here(Connection::Http2(connection)) => Ok(http2::open(connection, guard)),
        Place::OtherCore(owner) => other_core::open(owner, choice.id, guard),
    }
}

/// A stream whose other ends are given to whoever carries the exchange.
fn piped(guard: InFlight) -> (ExchangeStream, PipeReader, PipeWriter) {
    let (request, request_there) = pipe(PIPE_CREDIT_BYTES);
    let (response_there, response) = pipe(PIPE_CREDIT_BYTES);
    let stream = ExchangeStream {
        send: SendHalf::There(request),
        recv: RecvHalf::There(response),
        guard,
    };
    (stream, request_there, response_there)
}
