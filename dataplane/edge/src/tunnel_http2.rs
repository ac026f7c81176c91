//! Tunnel connections over HTTP/2: what a connector dials when UDP does not get through.
//!
//! ```text
//! connector ── TCP ─► TLS ─► accept ─► registration   the connector is HTTP/2's server, we its client
//!                                 └─► exchange  (one request per exchange)
//! ```
//! The connector has dialled, and yet the edge opens every stream: the control stream first, on which the
//! connector registers, then one for each exchange. Heads are translated (proto, `exchange::edge`). The rest
//! of the edge sees pipes with the bytes of a QUIC data stream, as it does for connections of other cores.
//!
//! Costs per exchange: two pipes and a task. No byte is copied between TLS and the visitor's socket.
//!
//! Does not: carry datagrams, which HTTP/2 has not.
//!
//! Source: docs/protocol/transport-http2.md.

pub(crate) mod accept;
mod answer;
pub(crate) mod byte_stream;
mod call;
pub(crate) mod exchange;
mod keeper;
mod watched;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_driver::quic::WindowBudget;
use adit_driver::shared_window::{CONNECTION_WINDOW_BYTES, SharedWindow};
use adit_driver::time::timeout;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use watched::{Pulse, Watched};

/// Bytes a connector may send ahead on a stream while there are few: what one needs at the round-trip times
/// of another continent.
const STREAM_WINDOW_BYTES_MAX: u32 = 2 << 20;

/// Largest frame we take. Stock connectors fill 4 KiB, ours as much as they have.
const FRAME_BYTES_MAX: u32 = 64 << 10;

/// Bytes of one request that wait for the connector's window.
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;

/// Headers of an answer: the largest head of a data stream in base64, and what is around it.
const HEAD_LIST_BYTES_MAX: u32 = 128 << 10;

/// Streams we have reset whose frames are still ignored, and for how long. Visitors that leave in the middle
/// of a download make them.
const RESET_STREAMS_MAX: usize = 1_024;
const RESET_STREAMS_TIME: Duration = Duration::from_secs(10);

/// Frames for forgotten streams over the life of a connection. Each is answered, and an honest connector
/// hardly ever sends one. The connection is closed when there are more.
const STRAY_FRAMES_MAX: usize = 16_384;

/// Time for what is written to leave when we close.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Why a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    #[error("closed by this edge: {0}")]
    Closed(&'static str),
    #[error("closed by the connector")]
    ByConnector,
    #[error("no sign of life from the connector")]
    Silent,
    #[error("{0}")]
    Failed(String),
}

/// A connection's handle; clones are of the same connection. Lives on one core.
#[derive(Clone)]
pub(crate) struct Connection(Rc<Shared>);

struct Shared {
    requests: SendRequest<Bytes>,
    remote: SocketAddr,
    pulse: Rc<Pulse>,
    /// Whether the connector is ours, as it says on its control stream.
    is_of_ours: Cell<bool>,
    /// What we close for.
    closing: Cell<Option<&'static str>>,
    is_closing: Notify,
    lost: RefCell<Option<Lost>>,
    is_lost: Notify,
    /// The connector takes no more requests.
    is_leaving: Notify,
}

impl Connection {
    /// Begins HTTP/2 on a stream that a connector has dialled. The future that comes with the handle carries
    /// the connection, and ends with it.
    ///
    /// # Errors
    /// What the stream says.
    pub(crate) async fn over<S>(
        stream: S,
        remote: SocketAddr,
        windows: Arc<WindowBudget>,
    ) -> Result<(Self, impl Future<Output = ()> + use<S>), h2::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let pulse = Rc::<Pulse>::default();
        let (requests, mut connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES_MAX)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .max_header_list_size(HEAD_LIST_BYTES_MAX)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .reset_stream_duration(RESET_STREAMS_TIME)
            .max_local_error_reset_streams(Some(STRAY_FRAMES_MAX))
            .enable_push(false)
            .handshake(Watched::new(stream, pulse.clone()))
            .await?;
        let shared = Rc::new(Shared {
            requests,
            remote,
            pulse,
            is_of_ours: Cell::new(false),
            closing: Cell::new(None),
            is_closing: Notify::new(),
            lost: RefCell::default(),
            is_lost: Notify::new(),
            is_leaving: Notify::new(),
        });
        let handle = Self(shared.clone());
        let carried = async move {
            let pings = connection.ping_pong();
            let mut window = SharedWindow::new(STREAM_WINDOW_BYTES_MAX, windows);
            let connection = poll_fn(|cx| {
                let open = shared.pulse.in_flight();
                if let Some(bytes) = window.poll_wanted(open)
                    // Asked again once the connector has acknowledged an earlier one.
                    && connection.set_initial_window_size(bytes).is_ok()
                {
                    window.set_told(bytes);
                }
                Pin::new(&mut connection).poll(cx)
            });
            let mut connection = std::pin::pin!(connection);
            let lost = tokio::select! {
                biased;
                reason = shared.told_to_close() => {
                    shared.pulse.end();
                    // A connector that takes nothing more is dropped with what it was to be sent.
                    let _ = timeout(CLOSE_TIME, connection).await;
                    Lost::Closed(reason)
                }
                ended = &mut connection => match ended {
                    Ok(()) => Lost::ByConnector,
                    Err(error) => Lost::Failed(error.to_string()),
                },
                () = keeper::until_silent(pings, &shared.pulse) => Lost::Silent,
            };
            *shared.lost.borrow_mut() = Some(lost);
            shared.is_lost.notify_waiters();
        };
        Ok((handle, carried))
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.0.remote
    }

    /// Whether the connector is ours. Known once the control stream is open.
    pub(crate) fn is_of_ours(&self) -> bool {
        self.0.is_of_ours.get()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closing.get().is_some() || self.0.lost.borrow().is_some()
    }

    /// Waits for the end.
    pub(crate) async fn closed(&self) -> Lost {
        loop {
            let lost = self.0.is_lost.notified();
            if let Some(lost) = &*self.0.lost.borrow() {
                return lost.clone();
            }
            lost.await;
        }
    }

    /// Ends the connection once what is written has left. The first reason stays.
    pub(crate) fn close(&self, reason: &'static str) {
        if self.0.closing.get().is_none() {
            self.0.closing.set(Some(reason));
            self.0.is_closing.notify_one();
        }
    }

    /// Waits until the connector is found to take no more requests although the connection lives.
    pub(crate) async fn leaving(&self) {
        self.0.is_leaving.notified().await;
    }

    /// Asks for a sign of life now.
    pub(crate) fn check(&self) {
        self.0.pulse.ask();
    }

    /// Waits until the connector is late with an answer.
    pub(crate) async fn doubted(&self) {
        self.0.pulse.until_late(true).await;
    }

    /// Whether the connector is late with an answer.
    pub(crate) fn is_doubted(&self) -> bool {
        self.0.pulse.is_late()
    }

    /// Waits until the connector is not late any more. Never ends if the connection ends before.
    pub(crate) async fn cleared(&self) {
        self.0.pulse.until_late(false).await;
    }
}

impl Shared {
    async fn told_to_close(&self) -> &'static str {
        loop {
            if let Some(reason) = self.closing.get() {
                return reason;
            }
            self.is_closing.notified().await;
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("remote", &self.0.remote)
            .field("lost", &self.0.lost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
