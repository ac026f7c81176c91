//! One attempt of a slot, from the dial to the end of the connection that came of it.

use std::convert::Infallible;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_driver::quic::{Connection, DialError};
use adit_driver::time::{Instant, sleep, timeout, timeout_at};
use adit_proto::error_chain::chain;
use adit_proto::supervisor::{AttemptId, End, Protocol};
use adit_wire::ConnIndex;
use adit_wire::registration::{ConnectionDetails, ConnectionOptions, RegisterRequest};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::drain_signal::DrainSignal;
use super::http2::{Http2Connection, Http2Error};
use super::link::Link;
use super::streams::Streams;
use super::{Core, Event};
use crate::config::trust;
use crate::control_stream::{ControlError, ControlStream};
use crate::edge_stream::EdgeKind;
use crate::metrics::{CoreMetrics, Sampler};
use crate::status::Registered;

/// A handshake takes a few round trips; an edge that needs longer is as good as none.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// How long a drained connection still takes exchanges that an edge sent off before it knew.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// An edge hears of origins no more often.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// Code and reason of our closes: the protocol knows no others (docs/protocol/transport-quic.md §6).
pub(super) const CLOSE_CODE: u32 = 0;

/// One attempt.
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) index: ConnIndex,
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) previous_attempts: u8,
    pub(super) signal: Rc<DrainSignal>,
    /// The slot's connection so far, which leaves when this one is about to register.
    pub(super) replaces: Option<Rc<DrainSignal>>,
}

#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("failed to dial to edge with quic: no handshake within {HANDSHAKE_DEADLINE:?}")]
    HandshakeDeadline,
    #[error("failed to dial to edge with quic")]
    Dial(#[from] DialError),
    #[error(transparent)]
    Http2(#[from] Http2Error),
    #[error("failed to open a socket")]
    Socket(#[from] std::io::Error),
    #[error("failed to register")]
    Register(#[from] ControlError),
}

impl AttemptError {
    fn end(&self) -> End {
        match self {
            Self::HandshakeDeadline | Self::Dial(_) | Self::Socket(_) => End::DialFailed,
            Self::Http2(Http2Error::OpeningDeadline) => End::Silent,
            // Until the edge has opened the control stream, it may be something else that listens there.
            Self::Http2(_) => End::DialFailed,
            Self::Register(ControlError::Refused(_)) => End::Refused,
            Self::Register(ControlError::Deadline { .. }) => End::Silent,
            Self::Register(ControlError::Open(_) | ControlError::Call(_) | ControlError::Answer(_)) => {
                End::Closed
            }
        }
    }
}

impl Attempt {
    /// Runs the attempt and tells the supervisor how it ended.
    pub(super) async fn run(self, core: Rc<Core>) {
        let connected = tokio::select! {
            connected = self.connect(&core) => connected,
            () = self.signal.drained() => {
                self.end(&core, End::Closed);
                return;
            }
        };
        let end = match connected {
            Ok((link, control, is_remotely_managed)) => {
                self.serve(&core, &link, &control, is_remotely_managed).await
            }
            Err(error) => {
                let ip = self.address.ip();
                let error_text = chain(&error);
                let fix = trust::hint(&error_text, core.settings.cacert.as_deref());
                tracing::error!(connIndex = self.index.0, %ip, error = error_text, fix, "Unable to establish connection with the edge");
                error.end()
            }
        };
        // A connection that was replaced has told so when it left.
        if !(self.signal.is_replaced() && self.signal.has_left()) {
            self.end(&core, end);
        }
    }

    fn end(&self, core: &Core, end: End) {
        self.signal.leave();
        core.tell(Event::Ended {
            id: self.id,
            index: self.index,
            end,
        });
    }

    /// Dials and registers.
    async fn connect(&self, core: &Rc<Core>) -> Result<(Link, ControlStream, bool), AttemptError> {
        let (limit, metrics) = (core.settings.rpc_timeout, core.exchanges.metrics.clone());
        match self.protocol {
            Protocol::Quic => {
                let connection = self.dial(core).await?;
                let mut held = Held {
                    connection: connection.clone(),
                    is_kept: false,
                };
                let control = ControlStream::open(&connection, limit, metrics).await?;
                let details = self.register(core, &control).await?;
                held.is_kept = true;
                let streams = Streams::serve(connection.clone(), core.exchanges.clone(), self.index);
                let link = Link::Quic { connection, streams };
                Ok((link, control, details.is_remotely_managed))
            }
            Protocol::Http2 => {
                let dialling = Http2Connection::dial(core, self.index, self.address);
                let (connection, (recv, send, edge)) = dialling.await?;
                let control = ControlStream::over(recv, send, limit, metrics);
                let details = self.register(core, &control).await?;
                let link = Link::Http2 { connection, edge };
                Ok((link, control, details.is_remotely_managed))
            }
        }
    }

    /// Registers in the slot, and takes the place of the connection that may be there.
    async fn register(
        &self,
        core: &Core,
        control: &ControlStream,
    ) -> Result<ConnectionDetails, AttemptError> {
        let settings = &core.settings;
        let metrics = &core.exchanges.metrics;
        if let Some(replaced) = &self.replaces {
            replaced.replace();
            // An edge that keeps the old connection waiting may have it closed by the new one.
            if timeout(settings.rpc_timeout, replaced.left()).await.is_err() {
                tracing::debug!(
                    connIndex = self.index.0,
                    "the connection to be replaced does not leave"
                );
            }
        }
        let request = RegisterRequest {
            auth: settings.auth.clone(),
            tunnel_id: settings.tunnel_id,
            conn_index: self.index,
            options: ConnectionOptions {
                client: settings.client.clone(),
                // The edge's address, as the stock connector says; informational.
                origin_local_ip: Some(mapped(self.address.ip())),
                replace_existing: false,
                compression_quality: 0,
                num_previous_attempts: self.previous_attempts,
            },
        };
        let details = control.register(&request).await.inspect_err(|error| {
            if error.is_duplicate() {
                metrics.registrations_duplicate.add(1);
            } else {
                metrics.registrations_failed.add(1);
            }
        })?;
        tracing::info!(
            connIndex = self.index.0, connection = %details.id, ip = %self.address.ip(),
            location = details.location, protocol = %self.protocol, "Registered tunnel connection"
        );
        core.tell(Event::Registered {
            id: self.id,
            index: self.index,
            connection: Registered {
                id: details.id,
                location: details.location.clone(),
                address: self.address,
                protocol: self.protocol,
            },
        });
        Ok(details)
    }

    /// Completes a handshake. One that completes after we gave up is closed at once.
    async fn dial(&self, core: &Rc<Core>) -> Result<Connection, AttemptError> {
        let endpoint = core.endpoint(self.address)?;
        let metrics = core.exchanges.metrics.clone();
        let (core, address) = (core.clone(), self.address);
        let (hand_over, dialled) = oneshot::channel();
        // Ends with the handshake, at the latest when the idle timeout ends that.
        spawn_local(async move {
            metrics.connections_dialled.add(1);
            let result = core.dial(&endpoint, address).await;
            match &result {
                Ok(connection) => {
                    spawn_local(count_end(connection.clone(), metrics));
                }
                Err(_) => metrics.connections_closed.add(1),
            }
            if let Err(Ok(connection)) = hand_over.send(result) {
                connection.close(CLOSE_CODE, b"");
            }
        });
        match timeout(HANDSHAKE_DEADLINE, dialled).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) | Err(_) => Err(AttemptError::HandshakeDeadline),
        }
    }

    /// Serves a registered connection until it is closed by either side.
    async fn serve(
        &self,
        core: &Rc<Core>,
        link: &Link,
        control: &ControlStream,
        is_remotely_managed: bool,
    ) -> End {
        let telling = async {
            let mut changes = core.settings.local_changes.subscribe();
            // Each connection may be at another edge, which has to know what is served here. To edges of
            // other makes one tells for all, as stock connectors do.
            let tells = self.index == ConnIndex(0) || link.edge() == EdgeKind::Ours;
            while tells
                && !is_remotely_managed
                && let Some(config) = core.settings.local_configuration()
            {
                if let Err(error) = control.update_local_configuration(&config).await {
                    tracing::error!(
                        connIndex = self.index.0,
                        error = chain(&error),
                        "unable to send local configuration"
                    );
                }
                if changes.changed().await.is_err() {
                    break;
                }
            }
            pending::<Infallible>().await
        };
        let telling_health = tell_origin_health(core, self.index, link, control);
        let mut sampler = Sampler::default();
        let ended = tokio::select! {
            lost = link.closed() => Some(lost),
            never = telling => match never {},
            never = telling_health => match never {},
            never = link.attend(core, self.index, &mut sampler) => match never {},
            () = self.signal.drained() => {
                self.leave(core, link, control).await;
                None
            }
        };
        link.sample(core, self.index, &mut sampler);
        let Some(lost) = ended else {
            return End::Closed;
        };
        tracing::warn!(connIndex = self.index.0, ip = %self.address.ip(), error = lost.reason, "Connection terminated");
        lost.end
    }

    /// Unregisters, finishes what runs within the grace period, and closes.
    async fn leave(&self, core: &Core, link: &Link, control: &ControlStream) {
        let deadline = Instant::now() + core.settings.grace_period;
        match control.unregister().await {
            Ok(()) => tracing::info!(
                connIndex = self.index.0, ip = %self.address.ip(), "Unregistered tunnel connection"
            ),
            Err(error) => tracing::warn!(
                connIndex = self.index.0,
                error = chain(&error),
                "cannot unregister"
            ),
        }
        if self.signal.is_replaced() {
            self.end(core, End::Closed);
        }
        let finishing = async {
            sleep(SETTLE_TIME).await;
            link.idle().await;
        };
        tokio::select! {
            finished = timeout_at(deadline, finishing) => if finished.is_err() {
                tracing::warn!(connIndex = self.index.0, "exchanges outlived the grace period");
            },
            // The edge closes by itself once it has nothing left for us.
            _ = link.closed() => {}
        }
        link.close().await;
    }
}

/// Tells an edge of ours which origins are down, as checks find them. Each connection tells it, because each
/// may lead to another edge.
async fn tell_origin_health(
    core: &Core,
    index: ConnIndex,
    link: &Link,
    control: &ControlStream,
) -> Infallible {
    if link.edge() == EdgeKind::Stock {
        return pending().await;
    }
    let mut changes = core.settings.origin_health.subscribe();
    loop {
        let health = changes.borrow_and_update().clone();
        // Before the first change there is nothing to say: an edge takes origins for well.
        if health.revision > 0
            && let Err(error) = control.update_origin_health(&health).await
        {
            tracing::warn!(
                connIndex = index.0,
                error = chain(&error),
                "cannot tell the edge how origins are"
            );
        }
        sleep(HEALTH_INTERVAL).await;
        if changes.changed().await.is_err() {
            return pending().await;
        }
    }
}

/// Ends with the connection.
async fn count_end(connection: Connection, metrics: Arc<CoreMetrics>) {
    connection.closed().await;
    metrics.connections_closed.add(1);
}

/// Closes a connection unless it is kept, however the attempt ends.
struct Held {
    connection: Connection,
    is_kept: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_kept {
            self.connection.close(CLOSE_CODE, b"");
        }
    }
}

/// The 16-byte form that the protocol uses for both families.
fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(_) => ip,
    }
}
