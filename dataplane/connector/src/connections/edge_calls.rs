//! What an edge may call on a connector: a configuration update, and UDP sessions, which are not offered.
//!
//! A configuration is applied only if its version is higher than the one in force (protocol/
//! remote-config.md §2); the local one counts as −1. All cores share one ingress that is swapped whole, so
//! a push over any connection reaches all of them.
//!
//! Source: cloudflared `tunnelrpc/quic/cloudflared_server.go`, `orchestration/orchestrator.go`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_driver::quic::{RecvStream, SendStream};
use adit_driver::time::timeout;
use adit_wire::config_push::{ConfigApplied, ConfigUpdate};
use adit_wire::framing::RPC_READER_OPTIONS;
use adit_wire::tunnelrpc_capnp::{cloudflared_server, configuration_manager, session_manager};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use super::gated::Gated;
use crate::metrics::{CoreMetrics, RpcMethod};
use crate::settings::Settings;

/// Such a stream carries one exchange and is ended after this, as the stock connector does.
const STREAM_TIME_MAX: Duration = Duration::from_secs(5);

const NO_SESSIONS: &str = "this connector serves no UDP sessions";

/// Serves one RPC stream, whose signature has been read.
pub(super) async fn serve(
    settings: Arc<Settings>,
    metrics: Arc<CoreMetrics>,
    send: SendStream,
    recv: RecvStream,
) {
    let network = twoparty::VatNetwork::new(
        Gated::new(recv).compat(),
        send.compat_write(),
        Side::Server,
        RPC_READER_OPTIONS,
    );
    let server: cloudflared_server::Client = capnp_rpc::new_client(Server { settings, metrics });
    let system = RpcSystem::new(Box::new(network), Some(server.client));
    match timeout(STREAM_TIME_MAX, system).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "RPC stream ended"),
        Err(_) => tracing::debug!("RPC stream did not end in time"),
    }
}

struct Server {
    settings: Arc<Settings>,
    metrics: Arc<CoreMetrics>,
}

impl Server {
    /// Answers a call and counts it.
    fn counted(
        &self,
        method: RpcMethod,
        answer: impl FnOnce() -> Result<(), capnp::Error>,
    ) -> Result<(), capnp::Error> {
        let start = Instant::now();
        let answered = answer();
        self.metrics.rpc.ended(method, start.elapsed(), answered.is_err());
        answered
    }
}

impl configuration_manager::Server for Server {
    async fn update_configuration(
        self: Rc<Self>,
        params: configuration_manager::UpdateConfigurationParams,
        mut results: configuration_manager::UpdateConfigurationResults,
    ) -> Result<(), capnp::Error> {
        self.counted(RpcMethod::UpdateConfiguration, || {
            let update =
                ConfigUpdate::read(params.get()?).map_err(|error| capnp::Error::failed(error.to_string()))?;
            let applied: ConfigApplied = self.settings.apply(&update);
            applied.write(results.get().init_result());
            Ok(())
        })
    }
}

impl session_manager::Server for Server {
    async fn register_udp_session(
        self: Rc<Self>,
        _: session_manager::RegisterUdpSessionParams,
        mut results: session_manager::RegisterUdpSessionResults,
    ) -> Result<(), capnp::Error> {
        self.counted(RpcMethod::RegisterUdpSession, || {
            results.get().init_result().set_err(NO_SESSIONS);
            Ok(())
        })
    }

    async fn unregister_udp_session(
        self: Rc<Self>,
        _: session_manager::UnregisterUdpSessionParams,
        _: session_manager::UnregisterUdpSessionResults,
    ) -> Result<(), capnp::Error> {
        self.counted(RpcMethod::UnregisterUdpSession, || {
            Err(capnp::Error::failed(NO_SESSIONS.to_owned()))
        })
    }
}

impl cloudflared_server::Server for Server {}
