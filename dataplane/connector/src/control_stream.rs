//! The connector's end of a control stream: registers the connection, tells what it serves, leaves.
//!
//! The stream is the first one of a QUIC connection, or the one an edge opens over HTTP/2. It carries Cap'n
//! Proto RPC from its first byte. Bootstrap and registration leave in one flight: the call is pipelined on
//! the bootstrap's answer.
//!
//! Source: docs/protocol/rpc.md §2, §5, §6; cloudflared `tunnelrpc/registration_client.go`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_driver::quic;
use adit_driver::time::timeout;
use adit_wire::framing::RPC_READER_OPTIONS;
use adit_wire::registration::{
    CAUSE_DUPLICATE, ConnectionDetails, ConnectionError, OriginHealth, RegisterRequest, RegisterResponse,
    RegistrationError,
};
use adit_wire::tunnelrpc_capnp::{origin_health_server, registration_server};
use capnp::capability::FromClientHook as _;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, spawn_local};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::connections::gated::Gated;
use crate::metrics::{CoreMetrics, RpcMethod};

/// Why a call on the control stream failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("cannot open the control stream")]
    Open(#[from] quic::ConnectionError),
    #[error("the edge did not answer within {limit:?}")]
    Deadline { limit: Duration },
    #[error("the call failed")]
    Call(#[from] capnp::Error),
    #[error("the edge's answer cannot be understood")]
    Answer(#[from] RegistrationError),
    #[error("the edge refused the connection: {}", _0.cause)]
    Refused(ConnectionError),
}

impl ControlError {
    /// Whether the edge has such a connection already.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.cause == CAUSE_DUPLICATE)
    }
}

/// An open control stream. Dropping it ends the stream.
pub(crate) struct ControlStream {
    server: registration_server::Client,
    rpc: JoinHandle<()>,
    /// Of one call.
    limit: Duration,
    metrics: Arc<CoreMetrics>,
}

impl ControlStream {
    /// Opens the first stream of `connection`; every call on it may take `limit`.
    pub(crate) async fn open(
        connection: &quic::Connection,
        limit: Duration,
        metrics: Arc<CoreMetrics>,
    ) -> Result<Self, ControlError> {
        let (send, recv) = connection.open_bi().await?;
        Ok(Self::over(recv, send, limit, metrics))
    }

    /// Speaks over a stream that is open.
    pub(crate) fn over(
        recv: impl AsyncRead + Unpin + 'static,
        send: impl AsyncWrite + Unpin + 'static,
        limit: Duration,
        metrics: Arc<CoreMetrics>,
    ) -> Self {
        let network = twoparty::VatNetwork::new(
            Gated::new(recv).compat(),
            send.compat_write(),
            Side::Client,
            RPC_READER_OPTIONS,
        );
        let mut system = RpcSystem::new(Box::new(network), None);
        let server = system.bootstrap(Side::Server);
        // Ends with the stream, and is aborted when the control stream is dropped.
        let rpc = spawn_local(async move {
            if let Err(error) = system.await {
                tracing::debug!(%error, "control stream ended");
            }
        });
        Self {
            server,
            rpc,
            limit,
            metrics,
        }
    }

    /// Registers the connection.
    pub(crate) async fn register(
        &self,
        request: &RegisterRequest,
    ) -> Result<ConnectionDetails, ControlError> {
        let mut call = self.server.register_connection_request();
        request.write(call.get());
        let answering = async {
            let answer = within(self.limit, call.send().promise).await?;
            match RegisterResponse::read(answer.get()?.get_result()?)? {
                RegisterResponse::Registered(details) => Ok(details),
                RegisterResponse::Refused(refusal) => Err(ControlError::Refused(refusal)),
            }
        };
        self.counted(RpcMethod::RegisterConnection, answering).await
    }

    /// Tells the edge the configuration in force, as JSON.
    pub(crate) async fn update_local_configuration(&self, json: &[u8]) -> Result<(), ControlError> {
        let mut call = self.server.update_local_configuration_request();
        call.get().set_config(json);
        let told = self
            .counted(
                RpcMethod::UpdateLocalConfiguration,
                within(self.limit, call.send().promise),
            )
            .await
            .map(drop);
        self.metrics.config_pushes.add(1);
        self.metrics.config_push_errors.add(u64::from(told.is_err()));
        told
    }

    /// Tells an edge of ours which origins are down.
    pub(crate) async fn update_origin_health(&self, health: &OriginHealth) -> Result<(), ControlError> {
        let server: origin_health_server::Client = self.server.clone().cast_to();
        let mut call = server.update_origin_health_request();
        health.write(call.get());
        let answering = within(self.limit, call.send().promise);
        self.counted(RpcMethod::UpdateOriginHealth, answering)
            .await
            .map(drop)
    }

    /// Asks the edge for no further exchanges.
    pub(crate) async fn unregister(&self) -> Result<(), ControlError> {
        let call = self.server.unregister_connection_request();
        let answering = within(self.limit, call.send().promise);
        self.counted(RpcMethod::UnregisterConnection, answering)
            .await
            .map(drop)
    }

    /// Counts a call whose future is `answering`, unless the call is given up.
    async fn counted<T>(
        &self,
        method: RpcMethod,
        answering: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, ControlError> {
        let start = Instant::now();
        let answered = answering.await;
        self.metrics.rpc.ended(method, start.elapsed(), answered.is_err());
        answered
    }
}

impl Drop for ControlStream {
    fn drop(&mut self) {
        self.rpc.abort();
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, capnp::Error>>,
) -> Result<T, ControlError> {
    match timeout(limit, call).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(ControlError::Deadline { limit }),
    }
}
