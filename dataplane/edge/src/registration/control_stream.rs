//! The control stream: the RPC server on which a connector registers, tells its configuration and leaves.
//!
//! Source: docs/protocol/rpc.md §2, §5 and §6. The connector may call before our answer to its bootstrap has
//! arrived, and calls may be pipelined; capnp-rpc takes care of both.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{self, ConnectionKey, RegisterOutcome};
use adit_proto::directory::{RulePath, Slot, ToldHealth};
use adit_wire::ConnectionId;
use adit_wire::framing::{FrameGate, MESSAGE_BYTES_MAX, RPC_READER_OPTIONS, UNREGISTERED_MESSAGE_BYTES_MAX};
use adit_wire::registration::{
    ConnectionDetails, ConnectionError, OriginHealth, RegisterRequest, RegisterResponse, RuleHealth, feature,
};
use adit_wire::tunnelrpc_capnp::{origin_health_server, registration_server};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use uuid::Uuid;

use super::gated::Gated;
use super::local_config::served;
use super::{CoreState, drain, live_connection, push};
use crate::control_link::ServiceHandle;
use crate::tunnels::connection::Connection;
use crate::tunnels::{CoreNews, LiveConnection};

/// How far a connection has come with its registration. Each moves on once, and only forwards.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Asking,
    Refused,
    Registered,
    Draining,
}

/// What a connection's control stream has brought about.
pub(super) struct Registration {
    core: Rc<CoreState>,
    connection: Connection,
    phase: Cell<Phase>,
    live: RefCell<Option<LiveConnection>>,
    datagrams_v3: Cell<bool>,
    gate: RefCell<Option<Rc<RefCell<FrameGate>>>>,
    is_decided: Notify,
}

impl Registration {
    pub(super) fn new(core: Rc<CoreState>, connection: Connection) -> Rc<Self> {
        Rc::new(Self {
            core,
            connection,
            phase: Cell::new(Phase::Waiting),
            live: RefCell::default(),
            datagrams_v3: Cell::new(false),
            gate: RefCell::default(),
            is_decided: Notify::new(),
        })
    }

    /// Waits for the word on the registration: whether it was accepted.
    pub(super) async fn decided(&self) -> bool {
        self.is_decided.notified().await;
        self.phase.get() != Phase::Refused
    }

    /// Whether the connector speaks datagram v3 (docs/protocol/datagrams.md).
    pub(super) fn speaks_datagrams_v3(&self) -> bool {
        self.datagrams_v3.get()
    }

    /// The registered connection, to be forgotten by the caller.
    pub(super) fn take_live(&self) -> Option<LiveConnection> {
        self.live.borrow_mut().take()
    }

    pub(super) fn count_timeout(&self) {
        self.core.metrics.registrations_timed_out.add(1);
    }

    /// Its place among the replica's connections, once it has one.
    pub(super) fn slot(&self) -> Option<Slot> {
        self.live.borrow().as_ref().map(|live| live.slot)
    }

    /// Which connection it is and where it belongs, once it is registered.
    pub(super) fn place(&self) -> Option<(ConnectionId, Slot)> {
        self.live.borrow().as_ref().map(|live| (live.id, live.slot))
    }

    /// Lets a registered connection finish what runs on it and closes it then; further calls change nothing.
    pub(super) fn drain(&self) {
        let live = self.live.borrow().clone();
        if let Some(live) = live.filter(|_| self.phase.replace(Phase::Draining) == Phase::Registered) {
            tracing::info!(tunnel = %live.slot.tunnel, replica = %live.slot.connector,
                conn_index = live.slot.index.0, "connection unregistered and draining");
            // Ends when the connection is closed, which it does itself.
            spawn_local(drain(self.core.clone(), live, self.connection.clone()));
        }
    }

    fn decide(&self, phase: Phase) {
        self.phase.set(phase);
        self.is_decided.notify_one();
    }
}

/// Starts the RPC server; the task ends with the stream and is aborted with the connection.
pub(super) fn spawn<W, R>(registration: &Rc<Registration>, send: W, recv: R) -> JoinHandle<()>
where
    W: AsyncWrite + Unpin + 'static,
    R: AsyncRead + Unpin + 'static,
{
    let (recv, gate) = Gated::new(recv, UNREGISTERED_MESSAGE_BYTES_MAX);
    *registration.gate.borrow_mut() = Some(gate);
    let network = twoparty::VatNetwork::new(
        recv.compat(),
        send.compat_write(),
        Side::Server,
        RPC_READER_OPTIONS,
    );
    let server: origin_health_server::Client = capnp_rpc::new_client(Server {
        registration: registration.clone(),
    });
    let system = RpcSystem::new(Box::new(network), Some(server.client));
    let remote = registration.connection.remote_address();
    spawn_local(async move {
        if let Err(error) = system.await {
            tracing::debug!(%remote, %error, "control stream ended");
        }
    })
}

struct Server {
    registration: Rc<Registration>,
}

impl registration_server::Server for Server {
    async fn register_connection(
        self: Rc<Self>,
        params: registration_server::RegisterConnectionParams,
        mut results: registration_server::RegisterConnectionResults,
    ) -> Result<(), capnp::Error> {
        let request = RegisterRequest::read(params.get()?).map_err(failed)?;
        let response = register(&self.registration, &request).await;
        response.write(results.get().init_result());
        Ok(())
    }

    async fn unregister_connection(
        self: Rc<Self>,
        _: registration_server::UnregisterConnectionParams,
        _: registration_server::UnregisterConnectionResults,
    ) -> Result<(), capnp::Error> {
        self.registration.drain();
        Ok(())
    }

    async fn update_local_configuration(
        self: Rc<Self>,
        params: registration_server::UpdateLocalConfigurationParams,
        _: registration_server::UpdateLocalConfigurationResults,
    ) -> Result<(), capnp::Error> {
        let Some(slot) = self.registration.slot() else {
            return Err(capnp::Error::failed("register the connection first".into()));
        };
        let config = params.get()?.get_config()?;
        let hosts = served(config)
            .map_err(|error| capnp::Error::failed(format!("the configuration is not valid: {error}")))?;
        tracing::debug!(tunnel = %slot.tunnel, replica = %slot.connector, ?hosts, "replica told what it serves");
        let core = &self.registration.core;
        core.tunnels.announce(&CoreNews::Hosts {
            tunnel: slot.tunnel,
            connector: slot.connector,
            hosts,
        });
        core.service
            .local_configuration(slot.tunnel, slot.connector, config.to_vec());
        Ok(())
    }
}

impl origin_health_server::Server for Server {
    async fn update_origin_health(
        self: Rc<Self>,
        params: origin_health_server::UpdateOriginHealthParams,
        _: origin_health_server::UpdateOriginHealthResults,
    ) -> Result<(), capnp::Error> {
        let Some(slot) = self.registration.slot() else {
            return Err(capnp::Error::failed("register the connection first".into()));
        };
        let told = OriginHealth::read(params.get()?).map_err(failed)?;
        let rules = told.rules.iter();
        let rules = rules.map(|rule| (rule.hostname.as_str(), rule_path(rule), rule.is_down));
        let health = ToldHealth::new(told.revision, rules);
        self.registration.core.tunnels.tell_health(&slot, health);
        Ok(())
    }
}

/// An older connector does not say which paths a rule takes.
fn rule_path(rule: &RuleHealth) -> RulePath {
    if rule.has_path && rule.path.is_empty() {
        RulePath::UNKNOWN
    } else {
        RulePath::of(&rule.path)
    }
}

async fn register(registration: &Rc<Registration>, request: &RegisterRequest) -> RegisterResponse {
    if registration.phase.get() != Phase::Waiting {
        return refused("this connection has asked to register before", false);
    }
    registration.phase.set(Phase::Asking);
    let core = &registration.core;
    let slot = Slot {
        tunnel: request.tunnel_id,
        connector: request.options.client.connector_id,
        index: request.conn_index,
    };
    let id = ConnectionId(Uuid::new_v4());
    let record = record(registration, request, slot, id);
    let digest = SecretDigest::from_bytes(request.auth.secret.digest());
    let mut pending = Pending {
        service: &core.service,
        key: Some(record.key.clone()),
    };
    let outcome = core.service.register(record, digest).await;
    let accepted = match outcome {
        RegisterOutcome::Accepted(accepted) => accepted,
        RegisterOutcome::Refused(refusal) => {
            pending.key = None;
            core.metrics.registrations_refused.add(1);
            tracing::warn!(tunnel = %slot.tunnel, replica = %slot.connector, conn_index = slot.index.0,
                remote = %registration.connection.remote_address(), code = refusal.code, cause = refusal.cause,
                "registration refused");
            registration.decide(Phase::Refused);
            return refused(&refusal.cause, refusal.should_retry);
        }
    };
    if registration.connection.is_closed() {
        return refused("the connection is gone", true);
    }
    let live = live_connection(core, slot, id, &registration.connection);
    pending.key = None;
    core.tunnels.own(&live, registration.connection.clone());
    *registration.live.borrow_mut() = Some(live);
    if let Some(gate) = &*registration.gate.borrow() {
        gate.borrow_mut().set_limit(MESSAGE_BYTES_MAX);
    }
    registration
        .datagrams_v3
        .set(request.options.client.has(feature::DATAGRAM_V3));
    registration.decide(Phase::Registered);
    core.metrics.registrations_accepted.add(1);
    tracing::info!(tunnel = %slot.tunnel, replica = %slot.connector, conn_index = slot.index.0,
        transport = registration.connection.transport().as_str(), core = %core.tunnels.context().id,
        remote = %registration.connection.remote_address(),
        version = request.options.client.version, "tunnel connection registered");
    // Ends with the connection.
    spawn_local(push::keep_told(
        core.clone(),
        registration.connection.clone(),
        (slot.tunnel, slot.connector),
        accepted.config_version,
    ));
    RegisterResponse::Registered(ConnectionDetails {
        id,
        location: core.colo.clone(),
        is_remotely_managed: accepted.remotely_managed,
    })
}

/// A registration that may be accepted while its connection is lost: dropped with its key, it takes the
/// registration back, so that no connection is counted that nobody serves.
struct Pending<'a> {
    service: &'a ServiceHandle,
    key: Option<ConnectionKey>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.service.left(key);
        }
    }
}

fn record(
    registration: &Registration,
    request: &RegisterRequest,
    slot: Slot,
    id: ConnectionId,
) -> edge_link::Connection {
    let client = &request.options.client;
    edge_link::Connection {
        key: ConnectionKey {
            tunnel: slot.tunnel,
            connector: slot.connector,
            index: slot.index,
            connection: id,
        },
        account: request.auth.account_tag.clone(),
        version: client.version.clone(),
        arch: client.arch.clone(),
        features: client.features.iter().cloned().collect(),
        origin_address: registration.connection.remote_address().ip().to_canonical(),
        opened_at: SystemTime::now(),
    }
}

fn refused(cause: &str, should_retry: bool) -> RegisterResponse {
    RegisterResponse::Refused(ConnectionError {
        cause: cause.to_owned(),
        retry_after: Duration::ZERO,
        should_retry,
    })
}

fn failed(error: impl std::fmt::Display) -> capnp::Error {
    capnp::Error::failed(error.to_string())
}
