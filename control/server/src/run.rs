//! The process: set up, serve until told to stop, stop in order.
//!
//! One thread serves everything; only disk syncs run beside it. SIGHUP has the file read again ([`reload`]).
//! SIGTERM and SIGINT stop it: listeners close, running requests are finished within [`STOP_TIME`], links
//! drop. Edges serve on without control.

mod reload;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_control_api::management::Signer;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, LocalSet};

use self::reload::Reload;
use crate::bootstrap::{self, BootstrapError};
use crate::ca::{Ca, CaError};
use crate::config::Config;
use crate::edge_link::{self, EdgeLinks, LinkTls, TlsError};
use crate::files::{self, Readable};
use crate::management::{self, ManagementKeyError};
use crate::plan::PlanSettings;
use crate::quick::{self, Absences, Desk};
use crate::rest;
use crate::state::State;
use crate::store::{RedbStore, StoreError};

/// How long running requests may take after the signal to stop.
const STOP_TIME: Duration = Duration::from_secs(5);

/// How often overdue pending connections and quick tunnels are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Control cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The state directory cannot be made or written.
    #[error("the state directory's {} cannot be made or written", path.display())]
    StateDir {
        /// Which path.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// An address is taken or not allowed.
    #[error("cannot listen on {address} ({key})")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// Where.
        address: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The runtime or the signal handlers cannot be set up.
    #[error("the process cannot be set up")]
    Process(#[source] io::Error),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The account cannot be set up.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The CA fails.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The key for management tokens fails.
    #[error(transparent)]
    ManagementKey(#[from] ManagementKeyError),
    /// The remote edges' listener cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Runs control until SIGTERM or SIGINT. Blocks. On SIGHUP reads `file` again, from which `config` was read.
///
/// # Errors
/// Any [`ControlError`] that prevents the start. Afterwards it ends only in order.
pub fn run(config: Config, file: Option<PathBuf>) -> Result<(), ControlError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ControlError::Process)?;
    let result = LocalSet::new().block_on(&runtime, serve(config, file));
    // A disk sync that runs is waited for: its write may be acknowledged by what it leaves behind.
    runtime.shutdown_timeout(STOP_TIME);
    result
}

async fn serve(config: Config, file: Option<PathBuf>) -> Result<(), ControlError> {
    // Before anything can be seen from outside, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate()).map_err(ControlError::Process)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ControlError::Process)?;
    let hangup = signal(SignalKind::hangup()).map_err(ControlError::Process)?;
    tracing::info!(
        listen = %config.listen,
        edge_socket = %config.edge_socket.display(),
        edge_listen = config.edge_listen.map(|address| address.to_string()),
        state_dir = %config.state_dir.display(),
        account = config.account,
        replicas_max = config.replicas_max,
        quick_tunnels = config.quick_tunnels.as_ref().map(|quick| quick.domain.to_string()),
        "control starts"
    );
    let Opened { state, ca, signer } = open(&config)?;
    watch_root(&state, &ca);
    let api = listen("listen", config.listen).await?;
    let desk = desk(&config, &state, &ca);
    let ca = Rc::new(ca);
    let links = EdgeLinks::new(state.clone(), ca.clone());
    let socket = edge_link::bind_unix(&config.edge_socket).map_err(|source| ControlError::Listen {
        key: "edge-socket",
        address: config.edge_socket.display().to_string(),
        source,
    })?;
    let remote = match config.edge_listen {
        Some(address) => Some((
            listen("edge-listen.address", address).await?,
            LinkTls::open(ca, SystemTime::now())?,
        )),
        None => None,
    };
    write_addresses(&config, &api, remote.as_ref().map(|(listener, _)| listener))?;

    // Dropped, and thereby ended, when this function returns.
    tell_manager(NotifyState::Ready);
    let mut tasks = JoinSet::new();
    tasks.spawn_local(links.clone().serve_unix(socket));
    if let Some((listener, tls)) = remote {
        tasks.spawn_local(links.serve_tcp(listener, tls));
    }
    tasks.spawn_local(sweep(state.clone(), desk.clone()));
    let reload = Reload {
        file,
        config: config.clone(),
        state: state.clone(),
        desk: desk.clone(),
        hangup,
    };
    tasks.spawn_local(reload.follow());
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("control stops");
        tell_manager(NotifyState::Stopping);
    };
    rest::serve(api, state, desk, Arc::new(signer), stop, STOP_TIME).await;
    tasks.shutdown().await;
    // A stale socket or address would make others wait for a process that is gone.
    for path in [&config.edge_socket, &config.state_dir.join("addresses.json")] {
        files::remove(path).map_err(|source| ControlError::StateDir {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Hands out quick tunnels, if they are offered.
fn desk(config: &Config, state: &Arc<State>, ca: &Ca) -> Option<Arc<Desk>> {
    let settings = config.quick_tunnels.clone()?;
    let (account, root) = (config.account.clone(), ca.root_pem().to_owned());
    Some(Arc::new(Desk::new(state.clone(), settings, account, root)))
}

/// Shows when the root ends, and says it loudly if that is past: no edge and no connector trusts us any more.
fn watch_root(state: &State, ca: &Ca) {
    let ends = ca.root_not_after();
    state.metrics.root_ends(ends);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    if now.is_ok_and(|now| now.as_secs() >= ends) {
        let fix =
            "move ca.pem and ca-key.pem away, start again, and give connectors and edges the new ca.pem";
        tracing::error!(
            not_after_unix = ends,
            fix,
            "the root of the private CA has expired"
        );
    }
}

/// What is kept in the state directory.
struct Opened {
    state: Arc<State>,
    ca: Ca,
    signer: Signer,
}

fn open(config: &Config) -> Result<Opened, ControlError> {
    let dir = |path: &std::path::Path| {
        let path = path.to_owned();
        move |source| ControlError::StateDir { path, source }
    };
    files::make_private_dir(&config.state_dir).map_err(dir(&config.state_dir))?;
    let store = RedbStore::open(config.state_dir.join("store.redb"))?;
    // The store is ours alone from here on, so what an earlier run left behind can be replaced.
    let addresses = config.state_dir.join("addresses.json");
    files::remove(&addresses).map_err(dir(&addresses))?;
    let ca = Ca::open(&config.state_dir)?;
    let keys = management::open(&config.state_dir)?;
    bootstrap::ensure_account(&store, &config.account, &config.state_dir)?;
    let state = State::open(
        Arc::new(store),
        PlanSettings {
            replicas_max: config.replicas_max,
            management_key: Some(keys.public),
        },
    )?;
    Ok(Opened {
        state,
        ca,
        signer: keys.signer,
    })
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ControlError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ControlError::Listen {
            key,
            address: address.to_string(),
            source,
        })
}

/// Tells where everything listens, once it does: with port 0 nobody could know otherwise.
fn write_addresses(
    config: &Config,
    api: &TcpListener,
    remote: Option<&TcpListener>,
) -> Result<(), ControlError> {
    let path = config.state_dir.join("addresses.json");
    let at = |source| ControlError::StateDir {
        path: path.clone(),
        source,
    };
    let mut addresses = serde_json::json!({
        "api": format!("http://{}{}", api.local_addr().map_err(at)?, rest::BASE),
        "edge_socket": config.edge_socket,
    });
    if let Some(remote) = remote {
        addresses["edge_listen"] = remote.local_addr().map_err(at)?.to_string().into();
    }
    files::write(&path, addresses.to_string().as_bytes(), Readable::All).map_err(at)
}

async fn sweep(state: Arc<State>, desk: Option<Arc<Desk>>) {
    let mut clock = tokio::time::interval(SWEEP_INTERVAL);
    let mut absences = Absences::default();
    loop {
        clock.tick().await;
        let forgotten = state.sweep();
        if forgotten > 0 {
            tracing::info!(
                forgotten,
                "connections of edges that did not return are forgotten"
            );
        }
        let idle_after = desk.as_ref().map(|desk| desk.settings().idle_after);
        if let Err(error) = quick::sweep(&state, &mut absences, idle_after).await {
            tracing::warn!(%error, "quick tunnels that are over could not be removed");
        }
    }
}

/// Tells the service manager that started us, if one did (sd_notify(3)).
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
