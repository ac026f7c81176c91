//! One attempt of a slot, from the dial to the end of the connection that came of it.

use std::convert::Infallible;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_driver::quic::{Connection, DialError};
use adit_driver::time::{Instant, sleep, timeout, timeout_at};
use adit_proto::supervisor::End;
use adit_wire::registration::{ConnectionOptions, RegisterRequest};
use adit_wire::{ConnIndex, alpn};
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;

use super::streams::Streams;
use super::{Core, Event};
use crate::config::remote::chain;
use crate::control_stream::{ControlError, ControlStream};
use crate::metrics::{CoreMetrics, Sampler, SlotMetrics};
use crate::status::Registered;

/// A handshake takes a few round trips; an edge that needs longer is as good as none.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// How long a drained connection still takes exchanges that an edge sent off before it knew.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// How often a connection's numbers are looked at: as fresh as any scrape needs them.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Code and reason of our closes: the protocol knows no others (protocol/transport-quic.md §6).
pub(super) const CLOSE_CODE: u32 = 0;

/// One attempt.
pub(super) struct Attempt {
    pub(super) index: ConnIndex,
    pub(super) address: SocketAddr,
    pub(super) previous_attempts: u8,
    /// Rung when the slot shall end.
    pub(super) drain: Rc<Notify>,
}

#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("failed to dial to edge with quic: no handshake within {HANDSHAKE_DEADLINE:?}")]
    HandshakeDeadline,
    #[error("failed to dial to edge with quic")]
    Dial(#[from] DialError),
    #[error("failed to open a socket")]
    Socket(#[from] std::io::Error),
    #[error("failed to register")]
    Register(#[from] ControlError),
}

impl AttemptError {
    fn end(&self) -> End {
        match self {
            Self::HandshakeDeadline | Self::Dial(_) | Self::Socket(_) => End::DialFailed,
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
            () = self.drain.notified() => {
                core.tell(Event::Ended { index: self.index, end: End::Closed });
                return;
            }
        };
        let end = match connected {
            Ok((connection, control, is_remotely_managed)) => {
                self.serve(&core, &connection, &control, is_remotely_managed)
                    .await
            }
            Err(error) => {
                let ip = self.address.ip();
                tracing::error!(connIndex = self.index.0, %ip, error = chain(&error), "Unable to establish connection with the edge");
                error.end()
            }
        };
        core.tell(Event::Ended {
            index: self.index,
            end,
        });
    }

    /// Dials and registers.
    async fn connect(&self, core: &Rc<Core>) -> Result<(Connection, ControlStream, bool), AttemptError> {
        let connection = self.dial(core).await?;
        let mut held = Held {
            connection: connection.clone(),
            is_kept: false,
        };
        let settings = &core.settings;
        let metrics = &core.exchanges.metrics;
        let control = ControlStream::open(&connection, settings.rpc_timeout, metrics.clone()).await?;
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
            location = details.location, protocol = "quic", "Registered tunnel connection"
        );
        core.tell(Event::Registered {
            index: self.index,
            connection: Registered {
                id: details.id,
                location: details.location,
                address: self.address,
            },
        });
        held.is_kept = true;
        Ok((connection, control, details.is_remotely_managed))
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
        connection: &Connection,
        control: &ControlStream,
        is_remotely_managed: bool,
    ) -> End {
        let streams = Streams::serve(connection.clone(), core.exchanges.clone(), self.index);
        let telling = async {
            let mut changes = core.settings.local_changes.subscribe();
            while self.index == ConnIndex(0)
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
        if connection.alpn().as_deref() == Some(alpn::ADIT) {
            let (first, interval) = core.settings.idle_pings(self.index, Instant::now());
            connection.ping_by_clock(first, interval);
        }
        let slot = core.exchanges.metrics.slot(self.index.0.into());
        let mut sampler = Sampler::default();
        let ended = tokio::select! {
            reason = connection.closed() => Some(reason),
            never = telling => match never {},
            never = tell_doubts(core, connection) => match never {},
            never = answer_checks(core, connection) => match never {},
            never = sample(connection, &mut sampler, slot) => match never {},
            () = self.drain.notified() => {
                self.leave(core, connection, control, &streams).await;
                None
            }
        };
        if let Some(slot) = slot {
            sampler.sample(connection.stats(), slot);
        }
        let Some(reason) = ended else {
            return End::Closed;
        };
        tracing::warn!(connIndex = self.index.0, ip = %self.address.ip(), error = %reason, "Connection terminated");
        if reason.is_timeout() {
            End::Silent
        } else {
            End::Closed
        }
    }

    /// Unregisters, finishes what runs within the grace period, and closes.
    async fn leave(&self, core: &Core, connection: &Connection, control: &ControlStream, streams: &Streams) {
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
        let finishing = async {
            sleep(SETTLE_TIME).await;
            streams.idle().await;
        };
        tokio::select! {
            finished = timeout_at(deadline, finishing) => if finished.is_err() {
                tracing::warn!(connIndex = self.index.0, "exchanges outlived the grace period");
            },
            // The edge closes by itself once it has nothing left for us.
            _ = connection.closed() => {}
        }
        connection.close(CLOSE_CODE, b"");
    }
}

/// Ends with the connection.
async fn count_end(connection: Connection, metrics: Arc<CoreMetrics>) {
    connection.closed().await;
    metrics.connections_closed.add(1);
}

/// What kept one edge from answering may have hit the other connections, on which nothing is asked.
async fn tell_doubts(core: &Core, connection: &Connection) -> Infallible {
    loop {
        connection.doubted().await;
        core.tell(Event::Doubted);
    }
}

async fn answer_checks(core: &Core, connection: &Connection) -> Infallible {
    loop {
        core.checks.notified().await;
        connection.check();
    }
}

/// Carries the connection's numbers over to its slot until dropped.
async fn sample(connection: &Connection, sampler: &mut Sampler, slot: Option<&SlotMetrics>) -> Infallible {
    let Some(slot) = slot else {
        return pending().await;
    };
    loop {
        let seen = connection.turns();
        sampler.sample(connection.stats(), slot);
        sleep(SAMPLE_INTERVAL).await;
        // An idle connection must not wake its core every second.
        connection.turned(seen).await;
    }
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
