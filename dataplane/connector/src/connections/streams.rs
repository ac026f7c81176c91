//! The streams and datagrams that an edge opens on one connection.
//!
//! A stream's first bytes say what it is for: an exchange, or a call. Anything else is reset with code 0 and
//! disturbs nothing (docs/protocol/transport-quic.md §5). Datagrams belong to UDP sessions, which are not
//! offered. They are read, so that they take no memory, and dropped.

use std::rc::Rc;
use std::time::Duration;

use adit_driver::quic::{Connection, RecvStream, SendStream};
use adit_driver::time::timeout;
use adit_wire::ConnIndex;
use adit_wire::signature::{SIGNATURE_SIZE, StreamKind};
use tokio::io::AsyncReadExt;
use tokio::task::{JoinHandle, spawn_local};

use super::edge_calls;
use super::in_flight::{Guard, InFlight};
use crate::edge_stream::EdgeKind;
use crate::edge_stream::over_quic::QuicAnswer;
use crate::exchange_task::{self, ExchangeCore};

/// An opener writes the signature with its first bytes.
const SIGNATURE_DEADLINE: Duration = Duration::from_secs(10);

/// Tasks that serve one connection; they end when this is dropped, exchanges under way excepted.
pub(super) struct Streams {
    in_flight: Rc<InFlight>,
    tasks: [JoinHandle<()>; 2],
}

impl Streams {
    /// Starts serving.
    pub(super) fn serve(connection: Connection, exchanges: Rc<ExchangeCore>, index: ConnIndex) -> Self {
        let in_flight = Rc::new(InFlight::default());
        // Both end with the connection or with this value.
        let tasks = [
            spawn_local(accept(connection.clone(), exchanges, index, in_flight.clone())),
            spawn_local(drop_datagrams(connection)),
        ];
        Self { in_flight, tasks }
    }

    /// Waits until nothing is being served.
    pub(super) async fn idle(&self) {
        self.in_flight.idle().await;
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The number of streams is limited by the stream limit we announced.
async fn accept(
    connection: Connection,
    exchanges: Rc<ExchangeCore>,
    index: ConnIndex,
    in_flight: Rc<InFlight>,
) {
    let edge = EdgeKind::over_quic(&connection);
    while let Ok((send, recv)) = connection.accept_bi().await {
        let guard = Guard::new(in_flight.clone());
        let exchanges = exchanges.clone();
        // Ends with the stream, which ends with the connection.
        spawn_local(async move {
            serve(exchanges, (index, edge), send, recv).await;
            drop(guard);
        });
    }
}

async fn serve(
    exchanges: Rc<ExchangeCore>,
    (index, edge): (ConnIndex, EdgeKind),
    mut send: SendStream,
    mut recv: RecvStream,
) {
    let mut signature = [0; SIGNATURE_SIZE];
    let read = timeout(SIGNATURE_DEADLINE, recv.read_exact(&mut signature)).await;
    let kind = match read {
        Ok(Ok(_)) => StreamKind::of(&signature),
        Ok(Err(error)) => {
            // A visitor may be gone before anything of the request has left the edge.
            tracing::debug!(connIndex = index.0, %error, "A stream ended before it said what it is for");
            send.reset(0);
            recv.stop(0);
            return;
        }
        Err(_) => None,
    };
    match kind {
        Some(StreamKind::Data) => {
            exchange_task::serve_quic(exchanges, index, QuicAnswer::new(send, edge), recv).await;
        }
        Some(StreamKind::Rpc) => {
            edge_calls::serve(exchanges.settings.clone(), exchanges.metrics.clone(), send, recv).await;
        }
        None => {
            tracing::debug!(connIndex = index.0, ?signature, "unknown signature");
            send.reset(0);
            recv.stop(0);
        }
    }
}

async fn drop_datagrams(connection: Connection) {
    while let Ok(datagram) = connection.read_datagram().await {
        tracing::trace!(size = datagram.len(), "datagram dropped");
    }
}
