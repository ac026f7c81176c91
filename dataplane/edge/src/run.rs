//! The edge as a process: binds, starts the cores, watches over them, ends them.
//!
//! ```text
//! probe ─► bind ─► link to control ─► tunnel certificate ─► cores ─► addresses.json ─► serving
//!   SIGHUP: the file is read again ([`reload`]), certificates and access log are opened anew
//!   SIGTERM, SIGINT: draining ─► every core reported ─► tunnels closed ─► return; again: at once
//! ```
//! The calling thread becomes the service thread. All listeners are bound before anything is served, so a
//! port in use ends the process at once with its name.

mod bind;
mod check;
mod core_task;
mod reload;
mod reset_key;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use adit_control_api::edge_link::EdgeInfo;
use adit_driver::core::{CoreError, Cores};
use adit_driver::cpus::Cpus;
use adit_driver::kernel::{self, ProbeError};
use adit_driver::mailbox::mailbox;
use adit_driver::quic::{self, SettingsError, TransportSettings, WindowBudget};
use adit_proto::limits::{IDLE_PING_INTERVAL_MAX, SILENCE_MAX, idle_timeout};
use adit_wire::alpn;
use core_task::{Report, Seed, Shared};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch as phase};
use tokio::task::{LocalSet, spawn_local};
use uuid::Uuid;

use crate::access_log::AccessLog;
use crate::admin::{self, Admin};
use crate::config::{Config, ConfigError, LiveConfig};
use crate::control_link::certificate::{self, TunnelCertificate};
use crate::control_link::{Service, ServiceSettings};
use crate::cross_core::{CoreMessage, MAILBOX_MESSAGES_MAX};
use crate::memory::give_back;
use crate::metrics::CoreMetrics;
use crate::peers::{self, Forgotten, Peers};
use crate::public::tls::{Certificates, PublicTls};
use crate::state::{SnapshotFile, write_atomically};
use crate::tunnel_http2::accept::TunnelTls;
use crate::validities::Validities;
use bind::Bound;
use reload::Reload;

/// Streams a connector may open at once: its control stream and short RPC streams.
const CONNECTOR_STREAMS_MAX: u32 = 128;

/// Beyond the grace period, for closing tunnels and the last packets.
const CLOSE_TIME: Duration = Duration::from_secs(3);

/// Why an edge cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The configuration names what this machine has not.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kernel lacks what was asked for.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The access log cannot be opened.
    #[error("cannot open the access log {}", path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A listener cannot be bound.
    #[error("cannot listen on {address} ({role})")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What it is for, as the key of the configuration.
        role: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A certificate for visitors, or the one for connectors, cannot be used.
    #[error("{reason}")]
    Certificate {
        /// Which and why.
        reason: String,
    },
    /// TLS or QUIC cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// QUIC cannot be set up.
    #[error("cannot set up QUIC")]
    Quic(#[from] SettingsError),
    /// A core could not start or has failed.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A core could not use its sockets.
    #[error("a core cannot use its sockets")]
    Sockets(#[source] io::Error),
    /// The service thread has no runtime.
    #[error("cannot start the service thread")]
    Service(#[source] io::Error),
}

/// Runs an edge until it is told to stop and has drained.
///
/// # Errors
/// [`EdgeError`] when it cannot start, or a core fails.
pub fn run(config: Config) -> Result<(), EdgeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(EdgeError::Service)?;
    let ended = LocalSet::new().block_on(&runtime, Process::run(config));
    // Blocking work such as a snapshot being saved may take as long as it likes; it must not hold us.
    runtime.shutdown_background();
    ended
}

/// What lives on the service thread.
struct Process {
    config: Arc<Config>,
    service: Rc<Service>,
    admin: Rc<Admin>,
    certificates: Arc<Certificates>,
    reload: Reload,
    log: AccessLog,
    reports: mpsc::Receiver<Report>,
    may_close: phase::Sender<bool>,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Process {
    async fn run(config: Config) -> Result<(), EdgeError> {
        // Before anything that takes long, so that a stop is never lost.
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let hang_up = listen(SignalKind::hangup())?;
        let config = Arc::new(config);
        config.check_cpus()?;
        let probe = kernel::probe(config.io)?;
        let cpus = config.cpus.clone().unwrap_or_else(Cpus::allowed);
        tracing::info!(
            io = %probe.mode, reason = probe.reason, cores = config.core_count(), %cpus, "edge starts"
        );
        tracing::debug!(%config, "configuration");
        prepare_state_dir(&config)?;
        let log = open_log(&config)?;
        let bound = Bound::bind(&config)?;
        let certificates = open_certificates(&config)?;
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..config.core_count())
            .map(|_| mailbox::<CoreMessage>(MAILBOX_MESSAGES_MAX))
            .unzip();
        let (service, handle) = Service::start(settings(&config), mailboxes.clone());
        let tunnel = tokio::select! {
            tunnel = certificate::obtain(&service, &config.state_dir) => tunnel.map_err(unusable)?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        let windows = WindowBudget::new(config.limits.windows_bytes());
        let validities = Validities::new(&config, certificates.clone(), tunnel.clone());
        validities.tell(SystemTime::now());
        let metrics: Vec<_> = inboxes.iter().map(|_| Arc::<CoreMetrics>::default()).collect();
        let (report, reports) = mpsc::channel(2 * config.core_count());
        let (may_close, closing) = phase::channel(false);
        let (reset_key, peers) = (obtain_reset_key(&config)?, Arc::<Peers>::default());
        let live = LiveConfig::new(config.clone());
        let shared = Shared {
            live: live.clone(),
            mailboxes,
            service: handle,
            quic: quic_config(tunnel.clone(), windows.clone())?,
            windows,
            reset_key,
            peers: peers.clone(),
            tunnel_tls: TunnelTls::new(tunnel)?,
            tls: PublicTls::new(certificates.clone())?,
            log: log.clone(),
            reports: report,
            may_close: closing,
        };
        let admin = Rc::new(Admin::new(live.clone(), &metrics, &service, &log, validities));
        let addresses = bound.addresses();
        let reset_socket = bound.tunnel_socket().map_err(EdgeError::Sockets)?;
        let (seeds, admin_listener) = bound.split(inboxes, metrics);
        spawn_local(admin::run(admin.clone(), admin_listener));
        let resets = Forgotten::load(&config.state_dir).reset(reset_key, reset_socket);
        let cores = spawn(&config, &cpus, probe.mode, seeds, shared)?;
        let reload = Reload::new(live, &certificates, &log, &service);
        let process = Self {
            config,
            service,
            admin,
            certificates,
            reload,
            log,
            reports,
            may_close,
            terminate,
            interrupt,
            hang_up,
        };
        process.watch(&cores, &addresses, (peers, resets)).await
    }

    /// From the first core that listens to the last that has ended.
    async fn watch(
        mut self,
        cores: &Cores,
        addresses: &bind::Addresses,
        (peers, resets): (Arc<Peers>, impl Future<Output = ()> + 'static),
    ) -> Result<(), EdgeError> {
        for _ in 0..self.config.core_count() {
            match self.reports.recv().await {
                Some(Report::Listening | Report::Drained) => {}
                Some(Report::Failed(error)) => return Err(EdgeError::Sockets(error)),
                None => break,
            }
        }
        self.admin.is_serving.set(true);
        let path = self.config.state_dir.join("addresses.json");
        let written = write_atomically(&path, &addresses.to_json(), 0o644);
        written.map_err(|error| EdgeError::StateDir {
            path: self.config.state_dir.clone(),
            source: io::Error::other(error),
        })?;
        tracing::info!(tunnel = %addresses.tunnel, tunnel_http2 = ?addresses.tunnel_http2,
            http = ?addresses.http, https = ?addresses.https, tcp = ?addresses.tcp, admin = %addresses.admin,
            "edge serves");
        tell_manager(NotifyState::Ready);
        // These end with the process.
        spawn_local(resets);
        spawn_local(peers.keep(self.config.state_dir.clone()));
        spawn_local(watch::certificates(self.certificates.clone()));
        spawn_local(give_back::run(self.reload.live()));
        loop {
            tokio::select! {
                ended = cores.finished() => return ended.map_err(EdgeError::Core),
                _ = self.hang_up.recv() => self.reload.perform(),
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
            }
        }
        self.drain(cores).await
    }

    async fn drain(mut self, cores: &Cores) -> Result<(), EdgeError> {
        tracing::info!(grace_period = ?self.config.grace_period, "edge drains");
        tell_manager(NotifyState::Stopping);
        self.admin.is_serving.set(false);
        self.service.drain_cores();
        let drained = async {
            for _ in 0..self.config.core_count() {
                if self.reports.recv().await.is_none() {
                    break;
                }
            }
            // Exchanges of one core run over tunnels of another: none closes before all are done.
            self.may_close.send_replace(true);
            cores.finished().await
        };
        let limit = self.config.grace_period + CLOSE_TIME;
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, drained) => ended.unwrap_or(Ok(())),
            // Asked twice: now.
            _ = self.terminate.recv() => Ok(()),
            _ = self.interrupt.recv() => Ok(()),
        };
        peers::remove(&self.config.state_dir);
        self.log.flush();
        tracing::info!("edge stopped");
        Ok(ended?)
    }
}

fn listen(kind: SignalKind) -> Result<Signal, EdgeError> {
    signal(kind).map_err(EdgeError::Service)
}

fn unusable(error: impl std::error::Error) -> EdgeError {
    EdgeError::Certificate {
        reason: error.to_string(),
    }
}

fn prepare_state_dir(config: &Config) -> Result<(), EdgeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let path = &config.state_dir;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| EdgeError::StateDir {
        path: path.clone(),
        source,
    })?;
    match std::fs::remove_file(path.join("addresses.json")) {
        // Written by an earlier run, whose ports are not ours; usually absent.
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(EdgeError::StateDir {
            path: path.clone(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn open_certificates(config: &Config) -> Result<Arc<Certificates>, EdgeError> {
    if config.certificates.is_empty() && !config.listeners.https.is_empty() {
        tracing::warn!("no certificates configured; HTTPS serves a throw-away one");
    }
    let opened = Certificates::open(&config.certificates).map_err(unusable)?;
    Ok(Arc::new(opened))
}

fn obtain_reset_key(config: &Config) -> Result<quic::ResetKey, EdgeError> {
    let obtained = reset_key::obtain(&config.state_dir);
    obtained.map_err(|error| EdgeError::StateDir {
        path: config.state_dir.clone(),
        source: io::Error::other(error),
    })
}

fn open_log(config: &Config) -> Result<AccessLog, EdgeError> {
    let path = config.access_log.as_deref();
    AccessLog::open(path).map_err(|source| EdgeError::AccessLog {
        path: path.unwrap_or_else(|| "".as_ref()).to_owned(),
        source,
    })
}

fn settings(config: &Config) -> ServiceSettings {
    ServiceSettings {
        edge: EdgeInfo {
            name: config.name.clone(),
            colo: config.colo.clone(),
            region: config.region.clone(),
            run: Uuid::new_v4(),
            generation: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        control: config.control.clone(),
        snapshot_file: SnapshotFile::in_dir(&config.state_dir),
    }
}

/// One configuration for all cores, so that Retry tokens made by one are known to the others.
fn quic_config(
    certificate: Arc<TunnelCertificate>,
    window_budget: Arc<WindowBudget>,
) -> Result<quic::ServerConfig, EdgeError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    tls.alpn_protocols = vec![alpn::ADIT.to_vec(), alpn::STOCK.to_vec()];
    let transport = TransportSettings {
        // A connector chooses: the smaller of both sides' values counts, and stock ones say 5 s.
        idle_timeout: idle_timeout(IDLE_PING_INTERVAL_MAX),
        silence_max: SILENCE_MAX,
        peer_streams_max: CONNECTOR_STREAMS_MAX,
        window_budget,
        ..Default::default()
    };
    Ok(quic::server_config(tls, &transport)?)
}

/// Starts the cores, each with the sockets that were bound for it.
fn spawn(
    config: &Config,
    cpus: &Cpus,
    io: kernel::IoMode,
    seeds: Vec<Seed>,
    shared: Shared,
) -> Result<Cores, EdgeError> {
    // Locked once per core, at its start.
    let seeds = Arc::new(Mutex::new(seeds.into_iter().map(Some).collect::<Vec<_>>()));
    let cores = Cores::spawn_on(cpus, config.core_count(), io, "adit-edge", move |context| {
        let seed = seeds
            .lock()
            .ok()
            .and_then(|mut seeds| seeds.get_mut(usize::from(context.id.0)).and_then(Option::take));
        let shared = shared.clone();
        async move {
            let seed = seed.expect("every core is started once and has a seed");
            core_task::run(context, seed, shared).await;
        }
    })?;
    Ok(cores)
}

/// Tells the service manager that started us, if one did (sd_notify(3)).
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
