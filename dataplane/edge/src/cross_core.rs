//! What cores of one edge say to each other and to the service thread. The exchanges that they carry for one
//! another are in [`other_core`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_driver::mailbox;
use adit_driver::pipe::{PipeReader, PipeWriter};
use adit_driver::quic::{self, StrayPacket};
use adit_wire::{ConnectionId, ConnectorId, TunnelId};
use tokio::task::spawn_local;

use crate::open::other_core;
use crate::tunnels::routes::Routes;
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
                    let connection = tunnels.registry.here(id);
                    // Ends with the exchange: both pipes and both stream halves report their ends.
                    spawn_local(other_core::carry(connection, request, response));
                }
                CoreMessage::Stray(packet) => endpoint.handle_stray(packet),
                CoreMessage::Unreachable { peer, is_port } => endpoint.handle_unreachable(peer, is_port),
                CoreMessage::Disconnect {
                    tunnel,
                    connector,
                    connection,
                } => {
                    tunnels.registry.disconnect(tunnel, connector, connection);
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
