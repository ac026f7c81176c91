//! Pushes a remotely managed tunnel's configuration to a connector: when it has registered, and when control
//! holds a newer one.
//!
//! Source: docs/protocol/remote-config.md. Over QUIC a stream carries one RPC exchange: signature, bootstrap,
//! one call. Over HTTP/2 it is a request with its answer.

use std::rc::Rc;
use std::time::Duration;

use adit_control_api::edge_link::{ConfigurationRefusal, ConfigurationState};
use adit_driver::quic;
use adit_driver::time::{sleep, timeout};
use adit_proto::backoff::Backoff;
use adit_wire::config_push::{ConfigApplied, ConfigUpdate, VERSION_NONE};
use adit_wire::framing::{MESSAGE_BYTES_MAX, RPC_READER_OPTIONS};
use adit_wire::signature::RPC_STREAM;
use adit_wire::tunnelrpc_capnp::configuration_manager;
use adit_wire::{ConnectorId, TunnelId};
use bytes::Bytes;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::task::spawn_local;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use super::CoreState;
use super::gated::Gated;
use crate::tunnels::connection::Connection;

/// Connectors end such a stream after 5 s by themselves.
const PUSH_DEADLINE: Duration = Duration::from_secs(5);

/// Pauses before a push is repeated are below 2, then 4, then [`PAUSE_MAX`]: an operator waits for it.
const PAUSE_EXPONENT_MAX: u32 = 3;
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Whom a configuration is for.
type Replica = (TunnelId, ConnectorId);

/// Pushes the version that control named with the registration, if it holds one, then each newer one. A push
/// that was lost is repeated, with growing pauses. One that the connector refused is not.
pub(super) async fn keep_told(core: Rc<CoreState>, connection: Connection, replica: Replica, named: i32) {
    let mut versions = core.service.config_versions();
    let mut pushed = VERSION_NONE;
    let mut pauses = Backoff::new(PAUSE_EXPONENT_MAX);
    loop {
        let held = versions.borrow_and_update().get(&replica.0).copied();
        // The snapshot may be behind what control has said of this connection.
        let newest = held.unwrap_or(VERSION_NONE).max(named);
        let mut pause = Duration::MAX;
        if newest > pushed {
            // Boxed, as a connection's task lives as long as it does and pushes for moments.
            match Box::pin(push(&core, &connection, replica)).await {
                Some(version) => {
                    pushed = version.max(newest);
                    pauses.reset();
                }
                None => pause = pauses.next_wait(PAUSE_MAX, &mut rand::rng()),
            }
        }
        tokio::select! {
            changed = versions.changed() => if changed.is_err() {
                return;
            },
            () = sleep(pause), if pause < Duration::MAX => {}
            _ = connection.closed() => return,
        }
    }
}

/// Sends the configuration that control holds, and reports what became of it. Returns the version that was
/// sent. `None` if it was lost on the way, or if control is away and it could not be had.
async fn push(core: &CoreState, connection: &Connection, replica: Replica) -> Option<i32> {
    let (tunnel, connector) = replica;
    let configuration = core.service.configuration(tunnel).await?;
    let version = configuration.version;
    let update = ConfigUpdate {
        version,
        config: Bytes::from(configuration.config),
    };
    let sent = async {
        match connection {
            Connection::Quic(connection) => {
                send(connection, &update).await.map_err(|error| error.to_string())
            }
            Connection::Http2(connection) => {
                connection.push(&update).await.map_err(|error| error.to_string())
            }
        }
    };
    let applied = match timeout(PUSH_DEADLINE, sent).await {
        Ok(Ok(applied)) => applied,
        Ok(Err(error)) => {
            tracing::warn!(%tunnel, replica = %connector, version, %error, "configuration not delivered");
            return None;
        }
        Err(_) => {
            tracing::warn!(%tunnel, replica = %connector, version, "connector did not answer the configuration in time");
            return None;
        }
    };
    let refusal = if applied.error.is_empty() {
        tracing::info!(%tunnel, replica = %connector, version = applied.latest_version,
            "configuration applied by connector");
        None
    } else {
        tracing::warn!(%tunnel, replica = %connector, version, in_force = applied.latest_version,
            error = applied.error, "configuration refused by connector");
        Some(ConfigurationRefusal {
            version,
            error: applied.error,
        })
    };
    let state = ConfigurationState {
        applied: applied.latest_version,
        refusal,
    };
    core.service.configuration_told(tunnel, connector, state);
    Some(version)
}

async fn send(connection: &quic::Connection, update: &ConfigUpdate) -> Result<ConfigApplied, capnp::Error> {
    let lost = |error: &dyn std::fmt::Display| capnp::Error::disconnected(error.to_string());
    let (mut send, recv) = connection.open_bi().await.map_err(|error| lost(&error))?;
    send.write(Bytes::from_static(&RPC_STREAM))
        .await
        .map_err(|error| lost(&error))?;
    let (recv, _) = Gated::new(recv, MESSAGE_BYTES_MAX);
    let network = twoparty::VatNetwork::new(
        recv.compat(),
        send.compat_write(),
        Side::Client,
        RPC_READER_OPTIONS,
    );
    let mut system = RpcSystem::new(Box::new(network), None);
    let manager: configuration_manager::Client = system.bootstrap(Side::Server);
    let disconnector = system.get_disconnector();
    // Ends with the stream, which `disconnector` ends.
    spawn_local(async move {
        if let Err(error) = system.await {
            tracing::trace!(%error, "configuration stream ended");
        }
    });
    let mut call = manager.update_configuration_request();
    update.write(call.get());
    let answered = async {
        let response = call.send().promise.await?;
        ConfigApplied::read(response.get()?.get_result()?)
            .map_err(|error| capnp::Error::failed(error.to_string()))
    };
    let applied = answered.await;
    disconnector.await?;
    applied
}
