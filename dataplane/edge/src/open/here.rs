//! A stream of a QUIC connection of this core. No task and no queue lies between it and the exchange.

use adit_driver::quic;

use super::OpenError;
use super::stream::{ExchangeStream, InFlight, RecvHalf, SendHalf};

/// Waits for the peer's leave to open one more stream.
pub(super) async fn open(connection: quic::Connection, guard: InFlight) -> Result<ExchangeStream, OpenError> {
    let (send, recv) = connection.open_bi().await.map_err(|_| OpenError::Gone)?;
    Ok(ExchangeStream {
        send: SendHalf::Here(send),
        recv: RecvHalf::Here(recv),
        guard,
    })
}
