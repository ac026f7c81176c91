//! What cores of one edge say to each other and to the service thread, and the exchanges they carry for
//! one another.
//!
//! An exchange whose visitor is on core A and whose connection lives on core B crosses by two pipes under
//! credit. B opens the stream and copies nothing: the same `Bytes` travel from QUIC to the visitor's socket.
//! Over HTTP/2 even an exchange of B itself travels by pipes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_driver::mailbox;
use adit_driver::pipe::{PipeReader, PipeWriter};
use adit_driver::quic::{self, ReadError, RecvStream, SendStream, StrayPacket, WriteError};
use adit_wire::{ConnectionId, ConnectorId, TunnelId};
use tokio::task::spawn_local;

use crate::tunnel_http2;
use crate::tunnels::connection::Connection;
use crate::tunnels::routes::Routes;
use crate::tunnels::stream::{LOST, NOT_OPENED};
use crate::tunnels::{CoreNews, Tunnels};

/// Messages that may wait for one core.
pub(crate) const MAILBOX_MESSAGES_MAX: usize = 8_192;

/// Messages handled per wakeup before other tasks run.
const MESSAGES_PER_TURN_MAX: usize = 256;

/// Pause before what waits is offered again to a full mailbox.
const WAITING_RETRY: Duration = Duration::from_millis(5);

/// Messages that wait for room in one core's mailbox, per sender. A core this far behind is stuck for good.
const WAITING_MAX: usize = 65_536;

/// One message to a core.
pub(crate) enum CoreMessage {
    /// Routes as control planned them.
    Routes(Arc<Routes>),
    /// A connection came, went or changed.
    News(CoreNews),
    /// An exchange for a connection that lives there.
    Open {
        id: ConnectionId,
        request: PipeReader,
        response: PipeWriter,
    },
    /// A QUIC datagram that the kernel delivered to the wrong core.
    Stray(StrayPacket),
    /// The network says that a connector is not there; see [`quic::Endpoint::handle_unreachable`].
    Unreachable { peer: SocketAddr, is_port: bool },
    /// Control wants connections closed.
    Disconnect {
        tunnel: TunnelId,
        connector: Option<ConnectorId>,
        connection: Option<ConnectionId>,
    },
    /// The process ends: take nothing new.
    Drain,
}

/// Handles messages for as long as the core lives; `on_drain` runs once.
pub(crate) async fn run(
    mut inbox: mailbox::Receiver<CoreMessage>,
    tunnels: Rc<Tunnels>,
    endpoint: quic::Endpoint,
    on_drain: impl Fn(),
) {
    let mut batch = Vec::new();
    while inbox.recv_many(&mut batch, MESSAGES_PER_TURN_MAX).await > 0 {
        for message in batch.drain(..) {
            match message {
                CoreMessage::Routes(routes) => tunnels.set_routes(routes),
                CoreMessage::News(news) => tunnels.on_news(news),
                CoreMessage::Open {
                    id,
                    request,
                    response,
                } => {
                    let connection = tunnels.here(id);
                    // Ends with the exchange: both pipes and both stream halves report their ends.
                    spawn_local(carry(connection, request, response));
                }
                CoreMessage::Stray(packet) => endpoint.handle_stray(packet),
                CoreMessage::Unreachable { peer, is_port } => endpoint.handle_unreachable(peer, is_port),
                CoreMessage::Disconnect {
                    tunnel,
                    connector,
                    connection,
                } => {
                    tunnels.disconnect(tunnel, connector, connection);
                }
                CoreMessage::Drain => on_drain(),
            }
        }
    }
}

/// The way to one core's mailbox for messages that must arrive, and in the order they were given.
///
/// What finds the mailbox full waits here, and all that comes later waits behind it: news of a connection's
/// end must not overtake that of its beginning. One per sender and core; not `Send`.
#[derive(Clone)]
pub(crate) struct Outbox {
    mailbox: mailbox::Sender<CoreMessage>,
    waiting: Rc<RefCell<VecDeque<CoreMessage>>>,
}

impl Outbox {
    pub(crate) fn new(mailbox: mailbox::Sender<CoreMessage>) -> Self {
        Self {
            mailbox,
            waiting: Rc::default(),
        }
    }

    /// Sends now if there is room, else from a task of its own as soon as there is.
    pub(crate) fn send(&self, message: CoreMessage) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            let Err(mailbox::Full(message)) = self.mailbox.try_send(message) else {
                return;
            };
            waiting.push_back(message);
            // Ends when nothing waits any more.
            spawn_local(self.clone().deliver());
        } else if waiting.len() < WAITING_MAX {
            waiting.push_back(message);
        } else {
            tracing::error!(
                waiting = WAITING_MAX,
                "a core does not read its mailbox; news for it dropped"
            );
        }
    }

    /// Sends now or not at all, without regard to what waits.
    pub(crate) fn try_send(&self, message: CoreMessage) -> Result<(), mailbox::Full<CoreMessage>> {
        self.mailbox.try_send(message)
    }

    async fn deliver(self) {
        loop {
            adit_driver::time::sleep(WAITING_RETRY).await;
            let mut waiting = self.waiting.borrow_mut();
            while let Some(message) = waiting.pop_front() {
                if let Err(mailbox::Full(back)) = self.mailbox.try_send(message) {
                    waiting.push_front(back);
                    break;
                }
            }
            if waiting.is_empty() {
                return;
            }
        }
    }
}

async fn carry(connection: Option<Connection>, mut request: PipeReader, mut response: PipeWriter) {
    let opened = match connection {
        Some(Connection::Quic(connection)) => connection.open_bi().await.ok(),
        Some(Connection::Http2(connection)) => {
            return tunnel_http2::exchange::carry(connection, request, response).await;
        }
        None => None,
    };
    let Some((send, recv)) = opened else {
        request.stop(NOT_OPENED);
        response.abort(NOT_OPENED);
        return;
    };
    let (mut sending, mut answering) = (
        pin!(carry_request(request, send)),
        pin!(carry_response(recv, response)),
    );
    tokio::select! {
        biased;
        // Nobody waits for a connector to take what nobody wants answered: dropped, it is reset.
        answered = &mut answering => if answered == Answered::ToTheEnd {
            sending.await;
        },
        () = &mut sending => {
            answering.await;
        }
    }
}

/// How the answer's direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    /// As the connector ended it.
    ToTheEnd,
    /// Nobody reads it any more.
    InVain,
}

async fn carry_request(mut request: PipeReader, mut send: SendStream) {
    loop {
        match request.read().await {
            Ok(Some(data)) => match send.write(data).await {
                Ok(()) => {}
                Err(WriteError::Stopped(code)) => return request.stop(code_of(code)),
                Err(WriteError::ConnectionLost(_) | WriteError::Closed | WriteError::Stalled(_)) => {
                    return request.stop(LOST);
                }
            },
            Ok(None) => return send.finish(),
            Err(aborted) => return send.reset(aborted.code),
        }
    }
}

async fn carry_response(mut recv: RecvStream, mut response: PipeWriter) -> Answered {
    loop {
        let read = tokio::select! {
            biased;
            code = response.closed() => {
                recv.stop(code);
                return Answered::InVain;
            }
            read = recv.read_chunks() => read,
        };
        match read {
            Ok(Some(mut chunks)) => {
                while let Some(data) = chunks.pop() {
                    if let Err(closed) = response.write(data).await {
                        recv.stop(closed.code);
                        return Answered::InVain;
                    }
                }
                continue;
            }
            Ok(None) => response.finish(),
            Err(ReadError::Reset(code)) => response.abort(code_of(code)),
            Err(ReadError::ConnectionLost(_) | ReadError::Closed) => response.abort(LOST),
        }
        return Answered::ToTheEnd;
    }
}

/// Stream codes of this protocol are 0; anything that does not fit is as meaningless.
fn code_of(code: u64) -> u32 {
    u32::try_from(code)
        .ok()
        .filter(|code| *code < NOT_OPENED)
        .unwrap_or(0)
}
