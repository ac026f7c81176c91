//! Answers cores, holds the routes, and keeps the link to control alive.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{
    Accepted, ConfigurationState, Connection, ConnectionKey, Disconnect, EdgeInfo, EdgeSession,
    REGISTER_DEADLINE, Refused, RegisterOutcome, RemoteConfiguration,
};
use adit_control_api::persistent::PersistentMap;
use adit_control_api::snapshot::RouteSnapshot;
use adit_driver::mailbox;
use adit_wire::{ConnectionId, ConnectorId, TunnelId};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::{admission, session};
use crate::config::ControlAddress;
use crate::cross_core::{CoreMessage, Outbox};
use crate::metrics::Counter;
use crate::state::{SnapshotFile, Unsaved};
use crate::tunnels::routes::Routes;

mod routes;

/// Questions and reports of cores that may wait for the service thread.
const REQUESTS_MAX: usize = 8_192;

/// Pause before the end of a connection is reported again to a full mailbox.
const REPORT_RETRY: Duration = Duration::from_millis(20);

/// Versions of the configurations that control holds, by tunnel.
pub(crate) type ConfigVersions = PersistentMap<TunnelId, i32>;

/// What became of the configurations of replicas.
type Told = BTreeMap<(TunnelId, ConnectorId), ConfigurationState>;

/// A core asks or reports.
enum Request {
    Register {
        connection: Connection,
        secret: SecretDigest,
        answer: oneshot::Sender<RegisterOutcome>,
    },
    Left(ConnectionKey),
    LocalConfiguration {
        tunnel: TunnelId,
        connector: ConnectorId,
        config: Vec<u8>,
    },
    ConfigurationTold {
        tunnel: TunnelId,
        connector: ConnectorId,
        state: ConfigurationState,
    },
    Configuration {
        tunnel: TunnelId,
        answer: oneshot::Sender<Option<RemoteConfiguration>>,
    },
    Management {
        token: String,
        path: String,
        answer: oneshot::Sender<Option<TunnelId>>,
    },
}

/// How cores reach the service thread; `Send` and cheap to clone.
#[derive(Clone)]
pub(crate) struct ServiceHandle {
    requests: mailbox::Sender<Request>,
    versions: watch::Receiver<ConfigVersions>,
}

impl ServiceHandle {
    /// The versions that control holds, and when they change.
    pub(crate) fn config_versions(&self) -> watch::Receiver<ConfigVersions> {
        self.versions.clone()
    }

    /// Asks whether a connection may serve: control if it answers, else the last snapshot.
    pub(crate) async fn register(&self, connection: Connection, secret: SecretDigest) -> RegisterOutcome {
        let (answer, answered) = oneshot::channel();
        let request = Request::Register {
            connection,
            secret,
            answer,
        };
        if self.requests.try_send(request).is_ok()
            && let Ok(outcome) = answered.await
        {
            return outcome;
        }
        RegisterOutcome::Refused(Refused {
            cause: "the edge is overloaded".into(),
            code: "overloaded".into(),
            should_retry: true,
            retry_after: Duration::ZERO,
        })
    }

    /// Reports the end of a connection; one that never came about is reported in vain and in silence.
    pub(crate) fn left(&self, key: ConnectionKey) {
        let Err(mailbox::Full(mut request)) = self.requests.try_send(Request::Left(key)) else {
            return;
        };
        let requests = self.requests.clone();
        // Bounded by the connections that were alive; the report must arrive or the replica counts for ever.
        spawn_local(async move {
            loop {
                tokio::time::sleep(REPORT_RETRY).await;
                match requests.try_send(request) {
                    Ok(()) => return,
                    Err(mailbox::Full(back)) => request = back,
                }
            }
        });
    }

    /// Passes on what a replica serves, for operators to see; losing it costs only that.
    pub(crate) fn local_configuration(&self, tunnel: TunnelId, connector: ConnectorId, config: Vec<u8>) {
        let _ = self.requests.try_send(Request::LocalConfiguration {
            tunnel,
            connector,
            config,
        });
    }

    /// Passes on what became of a configuration at a replica, for operators to see. To lose it costs only
    /// that.
    pub(crate) fn configuration_told(
        &self,
        tunnel: TunnelId,
        connector: ConnectorId,
        state: ConfigurationState,
    ) {
        let _ = self.requests.try_send(Request::ConfigurationTold {
            tunnel,
            connector,
            state,
        });
    }

    /// The configuration to push to a remotely managed tunnel's connectors, if control has one.
    pub(crate) async fn configuration(&self, tunnel: TunnelId) -> Option<RemoteConfiguration> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .try_send(Request::Configuration { tunnel, answer })
            .ok()?;
        answered.await.ok().flatten()
    }

    /// The tunnel whose connectors a token opens `path` of, if it does.
    pub(crate) async fn admit_management(&self, token: String, path: String) -> Option<TunnelId> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Management { token, path, answer };
        self.requests.try_send(request).ok()?;
        answered.await.ok().flatten()
    }
}

/// How the service presents this edge and where it keeps what it knows.
pub(crate) struct ServiceSettings {
    pub(crate) edge: EdgeInfo,
    pub(crate) control: ControlAddress,
    pub(crate) snapshot_file: SnapshotFile,
}

/// Counters of the service thread.
#[derive(Debug, Default)]
pub(crate) struct ServiceMetrics {
    pub(crate) link_attached: Counter,
    pub(crate) link_attempts: Counter,
    pub(crate) registrations_decided_alone: Counter,
    pub(crate) snapshot_save_errors: Counter,
    pub(crate) snapshot_bytes_written: Counter,
    pub(crate) generation: Counter,
    pub(crate) reloads_applied: Counter,
    pub(crate) reloads_refused: Counter,
}

/// The service thread's state; not `Send`.
pub(crate) struct Service {
    pub(crate) settings: ServiceSettings,
    pub(crate) metrics: Arc<ServiceMetrics>,
    cores: Vec<Outbox>,
    snapshot: RefCell<RouteSnapshot>,
    /// The snapshot's routes as cores have them.
    routes: RefCell<Arc<Routes>>,
    /// Whether the log has it that control is ahead of this edge.
    has_told_unreadable: Cell<bool>,
    /// What of the snapshot is not on disk.
    unsaved: RefCell<Unsaved>,
    versions: watch::Sender<ConfigVersions>,
    living: RefCell<BTreeMap<ConnectionId, Connection>>,
    /// What became of configurations at the replicas that live here.
    told: RefCell<Told>,
    session: RefCell<Option<EdgeSession>>,
    /// Rings when the snapshot must be written.
    is_dirty: Notify,
    /// Rings when a session is attached.
    has_attached: Notify,
}

impl Service {
    /// Loads the last snapshot, tells it to the cores and starts answering; must run in a `LocalSet`.
    pub(crate) fn start(
        settings: ServiceSettings,
        cores: Vec<mailbox::Sender<CoreMessage>>,
    ) -> (Rc<Self>, ServiceHandle) {
        let (requests, inbox) = mailbox::mailbox(REQUESTS_MAX);
        let snapshot = settings.snapshot_file.load().unwrap_or_default();
        let service = Rc::new(Self {
            settings,
            metrics: Arc::default(),
            cores: cores.into_iter().map(Outbox::new).collect(),
            snapshot: RefCell::new(snapshot),
            routes: RefCell::default(),
            has_told_unreadable: Cell::new(false),
            unsaved: RefCell::default(),
            versions: watch::Sender::default(),
            living: RefCell::default(),
            told: RefCell::default(),
            session: RefCell::default(),
            is_dirty: Notify::new(),
            has_attached: Notify::new(),
        });
        let versions = service.versions.subscribe();
        service.tell_snapshot();
        // All three end with the process: the service thread outlives the cores.
        spawn_local(service.clone().answer(inbox));
        spawn_local(service.clone().save());
        spawn_local(session::keep(service.clone()));
        (service, ServiceHandle { requests, versions })
    }

    /// The session with control; waits until there is one.
    pub(crate) async fn attached(&self) -> EdgeSession {
        loop {
            let attached = self.has_attached.notified();
            let session = self.session.borrow().clone();
            if let Some(session) = session {
                return session;
            }
            attached.await;
        }
    }

    /// Whether control is attached.
    pub(crate) fn is_attached(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// What the edge does without control, in words for the log.
    pub(super) fn meanwhile(&self) -> &'static str {
        if self.snapshot.borrow().generation > 0 {
            "serving from the last snapshot"
        } else {
            "no hostname is known yet, so none is served"
        }
    }

    pub(super) fn set_session(&self, session: Option<EdgeSession>) {
        self.metrics.link_attached.set(u64::from(session.is_some()));
        let is_attached = session.is_some();
        *self.session.borrow_mut() = session;
        if is_attached {
            self.has_attached.notify_waiters();
        }
    }

    pub(super) fn edge_info(&self) -> EdgeInfo {
        EdgeInfo {
            generation: self.snapshot.borrow().generation,
            ..self.settings.edge.clone()
        }
    }

    pub(super) fn living(&self) -> Vec<Connection> {
        self.living.borrow().values().cloned().collect()
    }

    pub(super) fn on_disconnect(&self, target: &Disconnect) {
        tracing::info!(tunnel = %target.tunnel, replica = ?target.connector, reason = target.reason,
            "control closes connections");
        for core in &self.cores {
            let message = CoreMessage::Disconnect {
                tunnel: target.tunnel,
                connector: target.connector,
                connection: target.connection,
            };
            core.send(message);
        }
    }

    /// Tells every core to take nothing new.
    pub(crate) fn drain_cores(&self) {
        for core in &self.cores {
            core.send(CoreMessage::Drain);
        }
    }

    async fn answer(self: Rc<Self>, mut inbox: mailbox::Receiver<Request>) {
        while let Some(request) = inbox.recv().await {
            match request {
                Request::Register {
                    connection,
                    secret,
                    answer,
                } => {
                    let service = self.clone();
                    // Bounded by half-open registrations, and by its own deadline.
                    spawn_local(async move {
                        let key = connection.key.clone();
                        let outcome = service.register(connection, &secret).await;
                        if answer.send(outcome).is_err() {
                            // The core lost the connection while it asked, and said so before we knew it.
                            service.on_left(key);
                        }
                    });
                }
                Request::Left(key) => self.on_left(key),
                Request::LocalConfiguration {
                    tunnel,
                    connector,
                    config,
                } => {
                    self.tell_control(move |session| async move {
                        session.local_configuration(&tunnel, &connector, &config).await
                    });
                }
                Request::ConfigurationTold {
                    tunnel,
                    connector,
                    state,
                } => self.on_configuration_told(tunnel, connector, state),
                Request::Management { token, path, answer } => {
                    let opened =
                        admission::management(&self.snapshot.borrow(), &token, &path, SystemTime::now());
                    // The visitor may be gone.
                    let _ = answer.send(opened);
                }
                Request::Configuration { tunnel, answer } => {
                    let session = self.session.borrow().clone();
                    spawn_local(async move {
                        let found = match session {
                            Some(session) => timeout(REGISTER_DEADLINE, session.configuration(&tunnel)).await,
                            None => Ok(Ok(None)),
                        };
                        // The core may have given up with its connection.
                        let _ = answer.send(found.ok().and_then(Result::ok).flatten());
                    });
                }
            }
        }
    }

    async fn register(&self, connection: Connection, secret: &SecretDigest) -> RegisterOutcome {
        let outcome = self.decide(&connection, secret).await;
        if matches!(outcome, RegisterOutcome::Accepted(Accepted { .. })) {
            let mut living = self.living.borrow_mut();
            living.insert(connection.key.connection, connection);
        }
        outcome
    }

    async fn decide(&self, connection: &Connection, secret: &SecretDigest) -> RegisterOutcome {
        let session = self.session.borrow().clone();
        let is_asked = session.is_some();
        if let Some(session) = session {
            match timeout(REGISTER_DEADLINE, session.register(connection, secret)).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(error)) => tracing::warn!(%error, "control did not decide a registration"),
                Err(_) => tracing::warn!("control did not decide a registration in time"),
            }
        }
        self.metrics.registrations_decided_alone.add(1);
        let living = self.living.borrow();
        let of_tunnel = living
            .values()
            .filter(|living| living.key.tunnel == connection.key.tunnel);
        let mut replicas: Vec<_> = of_tunnel.map(|living| living.key.connector).collect();
        replicas.sort_unstable();
        replicas.dedup();
        let outcome = admission::decide(&self.snapshot.borrow(), connection, secret, &replicas);
        if is_asked && matches!(outcome, RegisterOutcome::Refused(_)) {
            // Control may still accept it, and would count a connection that nobody serves.
            let key = connection.key.clone();
            self.tell_control(move |session| async move { session.unregister(&key).await });
        }
        outcome
    }

    /// Tells control anew what became of configurations; it knows nothing of that after a restart.
    pub(super) fn tell_configurations(&self) {
        let told = self.told.borrow().clone();
        self.tell_control(move |session| async move {
            for ((tunnel, connector), state) in &told {
                session.configuration_told(tunnel, connector, state).await?;
            }
            Ok(())
        });
    }

    fn on_configuration_told(&self, tunnel: TunnelId, connector: ConnectorId, state: ConfigurationState) {
        // The replica may have left meanwhile, and then nobody would forget this.
        if !self.has_replica(connector) {
            return;
        }
        self.told.borrow_mut().insert((tunnel, connector), state.clone());
        self.tell_control(move |session| async move {
            session.configuration_told(&tunnel, &connector, &state).await
        });
    }

    fn has_replica(&self, connector: ConnectorId) -> bool {
        let living = self.living.borrow();
        living
            .values()
            .any(|connection| connection.key.connector == connector)
    }

    fn on_left(&self, key: ConnectionKey) {
        let has_left = self.living.borrow_mut().remove(&key.connection).is_some();
        let place = (key.tunnel, key.connector);
        if has_left && self.told.borrow().contains_key(&place) && !self.has_replica(key.connector) {
            self.told.borrow_mut().remove(&place);
        }
        if has_left {
            self.tell_control(move |session| async move { session.unregister(&key).await });
        }
    }

    /// Calls control in a task of its own if it is attached; the next attachment reports everything anew.
    fn tell_control<F, Fut>(&self, call: F)
    where
        F: FnOnce(EdgeSession) -> Fut + 'static,
        Fut: Future<Output = Result<(), adit_control_api::edge_link::LinkError>> + 'static,
    {
        let Some(session) = self.session.borrow().clone() else {
            return;
        };
        spawn_local(async move {
            match timeout(REGISTER_DEADLINE, call(session)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "report to control failed"),
                Err(_) => tracing::debug!("report to control was not answered in time"),
            }
        });
    }
}
