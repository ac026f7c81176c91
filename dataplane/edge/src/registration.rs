//! One accepted tunnel connection from its handshake to its end.
//!
//! ```text
//! handshake ─► first stream = control stream ─► registered ─► serving ─► unregistered ─► drained ─► closed
//!                 └ 5 s without registration: closed        └ connection lost: forgotten
//! ```
//! Over QUIC the connector opens the control stream. It may open RPC streams beside it (see [`side`]) and
//! send datagrams. Over HTTP/2 the edge opens every stream.

mod control_stream;
mod gated;
mod local_config;
mod places;
mod push;
mod side;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adit_control_api::edge_link::ConnectionKey;
use adit_driver::quic::{self, WindowBudget};
use adit_driver::time::{Instant, sleep, timeout, timeout_at};
use adit_proto::directory::Slot;
use adit_proto::limits::REGISTRATION_DEADLINE;
use adit_wire::{ConnectionId, alpn};
use tokio::task::JoinHandle;

use crate::control_link::ServiceHandle;
use crate::metrics::CoreMetrics;
use crate::peers::{Known, Peers};
use crate::tunnel_http2;
use crate::tunnels::connection::Connection;
use crate::tunnels::{CoreNews, Handle, LiveConnection, Tunnels};
use control_stream::Registration;
pub(crate) use places::{Place, Places, Unregistered};

/// Why a connection is closed that has not registered after its time.
const LATE: &str = "no registration in time";

/// Said to connections that come while too many have not registered.
const CROWDED: &str = "too many connections have not registered";

/// Time for a refused connector to read the cause and close by itself.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Time for the answer to `unregisterConnection` to arrive before an idle connection is closed.
const UNREGISTER_ANSWER_TIME: Duration = Duration::from_millis(200);

/// Connections registered by this process, over all cores: tells them which of two came later.
static REGISTRATIONS: AtomicU64 = AtomicU64::new(0);

/// How often a draining connection is looked at.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// What registration needs of its core.
pub(crate) struct CoreState {
    pub(crate) tunnels: Rc<Tunnels>,
    pub(crate) service: ServiceHandle,
    pub(crate) metrics: Arc<CoreMetrics>,
    /// For what windows of streams grow by.
    pub(crate) windows: Arc<WindowBudget>,
    /// Who must be told when this edge is killed and starts anew.
    pub(crate) peers: Arc<Peers>,
    /// Shown by connectors as their location.
    pub(crate) colo: String,
    /// Connections over QUIC that have not registered.
    pub(crate) unregistered_quic: Unregistered,
    /// Longest time an unregistered connection may finish its exchanges in.
    pub(crate) grace_period: Duration,
}

/// Serves a connection over QUIC until it is closed.
pub(crate) async fn serve(connection: quic::Connection, core: Rc<CoreState>) {
    core.metrics.tunnel_connections_accepted.add(1);
    let Some(unregistered) = core.unregistered_quic.take() else {
        core.metrics.registrations_crowded.add(1);
        return Connection::Quic(connection).close(CROWDED);
    };
    if connection.alpn().as_deref() == Some(alpn::ADIT) {
        connection.allow_silence();
    }
    let deadline = Instant::now() + REGISTRATION_DEADLINE;
    let opened = tokio::select! {
        opened = timeout_at(deadline, connection.accept_bi()) => opened,
        reason = connection.closed() => {
            // Pre-check probes close by themselves without opening a stream; silence to the end is as late
            // as the deadline, which comes at the same moment.
            core.metrics.registrations_timed_out.add(u64::from(reason.is_timeout()));
            return;
        }
    };
    let either = Connection::Quic(connection.clone());
    let Ok(Ok((send, recv))) = opened else {
        core.metrics.registrations_timed_out.add(1);
        return either.close(LATE);
    };
    let registration = Registration::new(core.clone(), either.clone());
    let mut rpc = control_stream::spawn(&registration, send, recv);
    if !await_registration(&registration, &mut rpc, &either, deadline).await {
        rpc.abort();
        return;
    }
    drop(unregistered);
    let streams = side::spawn_streams(connection.clone(), core.clone());
    let datagrams = side::spawn_datagrams(connection, core.clone(), registration.speaks_datagrams_v3());
    until_lost(&registration, &either, &core).await;
    for task in [rpc, streams, datagrams] {
        task.abort();
    }
}

/// Serves a connection over HTTP/2 until it is closed. Gives its place among the unregistered back once it
/// has registered.
pub(crate) async fn serve_http2(
    connection: tunnel_http2::Connection,
    unregistered: Place,
    core: Rc<CoreState>,
) {
    core.metrics.tunnel_connections_accepted.add(1);
    let deadline = Instant::now() + REGISTRATION_DEADLINE;
    let opened = tokio::select! {
        opened = timeout_at(deadline, connection.open_control()) => opened,
        // Pre-check probes say nothing but TLS.
        _ = connection.closed() => return,
    };
    let (recv, send) = match opened {
        Ok(Ok(control)) => control,
        Ok(Err(error)) => {
            tracing::debug!(remote = %connection.remote_address(), %error, "control stream not opened");
            return connection.close("control stream not opened");
        }
        Err(_) => {
            core.metrics.registrations_timed_out.add(1);
            return connection.close(LATE);
        }
    };
    let connection = Connection::Http2(connection);
    let registration = Registration::new(core.clone(), connection.clone());
    let mut rpc = control_stream::spawn(&registration, send, recv);
    if await_registration(&registration, &mut rpc, &connection, deadline).await {
        drop(unregistered);
        core.metrics.tunnel_http2_connections_open.add(1);
        until_lost(&registration, &connection, &core).await;
        core.metrics.tunnel_http2_connections_open.take();
    }
    rpc.abort();
}

/// From the registration to the end of the connection, which is then forgotten.
async fn until_lost(registration: &Rc<Registration>, connection: &Connection, core: &CoreState) {
    let known = match connection {
        Connection::Quic(quic) => core.peers.enter(quic.remote_address(), quic.reset_id()),
        // The kernel tells a connector that comes over TCP.
        Connection::Http2(_) => None,
    };
    let reason = tokio::select! {
        biased;
        reason = connection.closed() => reason,
        never = tell_doubts(registration, connection, core, known.as_ref()) => match never {},
        never = drain_leaving(registration, connection) => match never {},
    };
    let Some(live) = registration.take_live() else {
        return;
    };
    let slot = live.slot;
    tracing::info!(
        tunnel = %slot.tunnel, replica = %slot.connector, conn_index = slot.index.0,
        transport = connection.transport().as_str(), core = %core.tunnels.context().id, %reason,
        "tunnel connection ended"
    );
    core.tunnels.disown(live.id);
    core.service.left(ConnectionKey {
        tunnel: slot.tunnel,
        connector: slot.connector,
        index: slot.index,
        connection: live.id,
    });
}

/// Steers exchanges away from a connection whose connector is late with an answer, until it is heard again.
/// Asks on the replica's other connections too, so that a visitor does not find them dead one after the
/// other.
async fn tell_doubts(
    registration: &Registration,
    connection: &Connection,
    core: &CoreState,
    known: Option<&Known>,
) -> Infallible {
    loop {
        connection.doubted().await;
        if let Some(known) = known {
            known.moved(connection.remote_address());
        }
        let Some((id, slot)) = registration.place() else {
            continue;
        };
        if connection.is_doubted() {
            core.metrics.tunnel_doubts.add(1);
            core.tunnels.announce(&CoreNews::Doubted(id));
            connection.cleared().await;
            core.tunnels.announce(&CoreNews::Cleared(id));
        } else {
            // Seen at a new address, or heard again before anybody was told.
            let (tunnel, connector) = (slot.tunnel, slot.connector);
            core.tunnels.announce(&CoreNews::Suspected { tunnel, connector });
        }
    }
}

/// A connector that takes no more exchanges, and says nothing on its control stream, is treated as if it had
/// unregistered.
async fn drain_leaving(registration: &Rc<Registration>, connection: &Connection) -> Infallible {
    loop {
        connection.leaving().await;
        registration.drain();
    }
}

/// Waits for the registration; closes a connection that does not get through with it and returns false.
async fn await_registration(
    registration: &Registration,
    rpc: &mut JoinHandle<()>,
    connection: &Connection,
    deadline: Instant,
) -> bool {
    let reason = tokio::select! {
        biased;
        decided = timeout_at(deadline, registration.decided()) => match decided {
            Ok(true) => return true,
            Ok(false) => {
                // The connector reads the cause and leaves; one that stays has no more to say.
                if timeout(REFUSAL_TIME, connection.closed()).await.is_ok() {
                    return false;
                }
                "registration refused"
            }
            Err(_) => {
                registration.count_timeout();
                LATE
            }
        },
        _ = connection.closed() => return false,
        _ = rpc => "control stream ended before registration",
    };
    connection.close(reason);
    false
}

/// A new connection's entry for the directory.
pub(crate) fn live_connection(
    core: &CoreState,
    slot: Slot,
    id: ConnectionId,
    connection: &Connection,
) -> LiveConnection {
    LiveConnection {
        id,
        slot,
        order: REGISTRATIONS.fetch_add(1, Ordering::Relaxed),
        core: core.tunnels.context().id.0,
        is_draining: false,
        is_doubted: false,
        carries_trailers: connection.carries_trailers(),
        is_of_ours: connection.is_of_ours(),
        handle: Handle::new(connection.transport()),
    }
}

/// Stops new exchanges on a connection and closes it once the running ones are done.
pub(crate) async fn drain(core: Rc<CoreState>, live: LiveConnection, connection: Connection) {
    core.tunnels.announce(&CoreNews::Draining(live.id));
    sleep(UNREGISTER_ANSWER_TIME).await;
    let finished = async {
        while live.handle.in_flight.load(Ordering::Relaxed) > 0 {
            sleep(DRAIN_LOOK).await;
        }
    };
    tokio::select! {
        done = timeout(core.grace_period, finished) => if done.is_err() {
            tracing::warn!(tunnel = %live.slot.tunnel, replica = %live.slot.connector,
                conn_index = live.slot.index.0, "exchanges outlived the grace period");
        },
        _ = connection.closed() => return,
    }
    connection.close("unregistered");
}

#[cfg(test)]
mod tests;
