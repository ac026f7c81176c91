//! Pushes a remotely managed tunnel's configuration to a connector: when it has registered, and when control holds
//! a newer one.
//!
//! Source: protocol/remote-config.md. Over QUIC a stream carries one RPC exchange: signature, bootstrap, one call. Over
//! HTTP/2 it is a request with its answer.

use std::rc::Rc;
use std::time::Duration;

use adit_driver::quic;
use adit_driver::time::timeout;
use adit_wire::TunnelId;
use adit_wire::config_push::{ConfigApplied, ConfigUpdate, VERSION_NONE};
use adit_wire::framing::{MESSAGE_BYTES_MAX, RPC_READER_OPTIONS};
use adit_wire::signature::RPC_STREAM;
use adit_wire::tunnelrpc_capnp::configuration_manager;
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

/// Pushes the version that control named with the registration, if it holds one, then each newer one.
pub(super) async fn keep_told(core: Rc<CoreState>, connection: Connection, tunnel: TunnelId, named: i32) {
    let mut versions = core.service.config_versions();
    let mut pushed = VERSION_NONE;
    loop {
        let held = versions.borrow_and_update().get(&tunnel).copied();
        // The snapshot may be behind what control has said of this connection.
        let newest = held.unwrap_or(VERSION_NONE).max(named);
        if newest > pushed {
            pushed = push(&core, &connection, tunnel).await.unwrap_or(newest);
        }
        tokio::select! {
            changed = versions.changed() => if changed.is_err() {
                return;
            },
            _ = connection.closed() => return,
        }
    }
}

/// Sends the configuration that control holds, if it holds one, and logs what became of it; the version sent.
async fn push(core: &CoreState, connection: &Connection, tunnel: TunnelId) -> Option<i32> {
    let configuration = core.service.configuration(tunnel).await?;
    let version = configuration.version;
    let update = ConfigUpdate {
        version: configuration.version,
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
    match timeout(PUSH_DEADLINE, sent).await {
        Ok(Ok(applied)) if applied.error.is_empty() => {
            tracing::info!(%tunnel, version = applied.latest_version, "configuration applied by connector");
        }
        Ok(Ok(applied)) => {
            tracing::warn!(%tunnel, version = applied.latest_version, error = applied.error,
                "configuration refused by connector");
        }
        Ok(Err(error)) => tracing::warn!(%tunnel, %error, "configuration not delivered"),
        Err(_) => tracing::warn!(%tunnel, "connector did not answer the configuration in time"),
    }
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
