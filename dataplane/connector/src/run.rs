//! A connector's process from its configuration to its last packet.
//!
//! ```text
//! probe ─► metrics listener ─► edge addresses ─► cores ─► service loop ─► drained ─► flushed
//! ```
//! The calling thread is the service thread: signals, the supervisor and the metrics server live on it, in
//! one small runtime. Cores get the supervisor's orders by mailbox and answer by one.
//!
//! A first SIGINT or SIGTERM drains, a second one ends at once, SIGHUP reads the configuration file again.
//! When [`run`] has returned, core threads are parked and the process ends by `std::process::exit`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adit_driver::core::{CoreContext, Cores};
use adit_driver::cpus::Cpus;
use adit_driver::kernel::probe;
use adit_driver::mailbox::{Receiver, Sender, mailbox};
use adit_proto::error_chain::chain;
use adit_proto::supervisor::{Plan, SLOTS_MAX, Supervisor};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use crate::config::Config;
use crate::connections::{self, Command, Event};
use crate::error::ConnectorError;
use crate::management::LiveLog;
use crate::metrics::CoreMetrics;
use crate::metrics_server::{MetricsServer, View};
use crate::settings::Settings;
use crate::status::Status;
use edges::Edges;
use reload::Reload;
use service::{Crew, Service};

mod edges;
mod files;
mod identity;
mod reload;
mod service;
mod stdin_control;
mod watch;

/// Time between the starts of connections 1, 2, ….
const SPACING: Duration = Duration::from_secs(1);

/// How long cores may take to flush after their last connection is closed.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(5);

/// Runs a connector until it is told to stop. Its management service streams the lines that the logger pushes
/// into `live_log`.
///
/// # Errors
/// [`ConnectorError`]; failures of connections are not among them, they are retried for ever.
pub fn run(config: Config, live_log: LiveLog) -> Result<(), ConnectorError> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::debug!(?config, "Resolved the configuration");
    if let Some(cpus) = &config.cpus {
        cpus.check(config.core_count())?;
    }
    let probe = probe(config.io)?;
    tracing::info!(io = %probe.mode, reason = probe.reason, "Chose how to ask the kernel");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ConnectorError::Runtime)?;
    LocalSet::new().block_on(&runtime, serve(config, live_log, probe.mode))
}

async fn serve(
    config: Config,
    live_log: LiveLog,
    io: adit_driver::kernel::IoMode,
) -> Result<(), ConnectorError> {
    let (signals, hangup) = service::Signals::listen().map_err(ConnectorError::Signals)?;
    let mut settings = identity::settings(&config, live_log)?;
    let metrics_server = MetricsServer::bind(config.metrics.as_deref()).await?;
    if let Some(path) = &config.addresses_file {
        files::write_addresses(path, metrics_server.address())?;
    }
    if let Some(proxy) = &config.proxy {
        tracing::info!(proxy = %proxy.proxy(), environment = proxy.is_from_environment(), "Reaching edges through a proxy");
    }
    let edges = Edges::resolve(&config).await?;
    let addresses = tell_of_edges(&mut settings, edges);
    let settings = Arc::new(settings);
    let usable = config.connections.min(addresses.len()).min(SLOTS_MAX);
    if usable < config.connections {
        tracing::warn!(
            requested = config.connections,
            usable,
            "There are fewer edge addresses than connections"
        );
    }
    let plan = Plan {
        addresses,
        connections: config.connections,
        spacing: SPACING,
        retries: config.retries,
        transport: config.transport,
        dial_failures_max: config.dial_failures_max,
    };
    tracing::info!("Initial protocol {}", plan.transport.initial());
    // More cores than connections would have nothing to do.
    let core_count = config.core_count().min(usable);
    let cpus = config.cpus.clone().unwrap_or_else(Cpus::allowed);
    tracing::info!(cores = core_count, %cpus, "Starting cores");
    let metrics: Vec<Arc<CoreMetrics>> = (0..core_count).map(|_| Arc::default()).collect();
    let (crew, cores) = spawn_cores(&cpus, core_count, io, &settings, &metrics)?;
    let status = Rc::new(RefCell::new(Status::default()));
    let view = Rc::new(View {
        status: status.clone(),
        metrics,
        settings: settings.clone(),
    });
    let server = tokio::task::spawn_local(metrics_server.serve(view));
    let supervisor = Supervisor::new(&plan, Instant::now().into_std(), identity::seed());
    let pidfile = config.pidfile.clone();
    let grace_period = config.grace_period;
    let restarts = config.has_stdin_control.then(stdin_control::listen);
    let restarts = restarts.transpose().map_err(ConnectorError::Runtime)?;
    let reload = Reload::new(config, settings, hangup);
    let service = Service {
        supervisor,
        status,
        crew,
        signals,
        reload,
        restarts,
        pidfile,
        is_announced: false,
    };
    let ended = tokio::select! {
        ended = service.run() => ended,
        failed = cores.finished() => failed.map_err(ConnectorError::from),
    };
    ended?;
    // The service is gone, and with it every sender of commands. Cores leave when their last packet has left.
    // A connection that was replaced may still have exchanges, for which its own grace period has begun.
    let leaving = grace_period + FLUSH_TIME_MAX;
    if timeout(leaving, cores.finished()).await.is_err() {
        tracing::warn!("Cores did not flush in time");
    }
    server.abort();
    Ok(())
}

/// Keeps what is known of the edges, and returns their addresses.
fn tell_of_edges(settings: &mut Settings, edges: Edges) -> Vec<SocketAddr> {
    settings.edge_names = edges.names;
    // Those that stand for names lead nowhere.
    let real = |address: &&SocketAddr| !settings.edge_names.contains_key(address);
    settings.management.settings.edges = edges.addresses.iter().filter(real).copied().collect();
    edges.addresses
}

/// What a core takes along when it starts.
struct CoreParts {
    commands: Receiver<Command>,
    events: Sender<Event>,
    failures: mpsc::Sender<String>,
    settings: Arc<Settings>,
    metrics: Arc<CoreMetrics>,
}

fn spawn_cores(
    cpus: &Cpus,
    count: usize,
    io: adit_driver::kernel::IoMode,
    settings: &Arc<Settings>,
    metrics: &[Arc<CoreMetrics>],
) -> Result<(Crew, Cores), ConnectorError> {
    // An attempt has at most a registration, a doubt and an end on their way, and a slot two attempts.
    let (events_in, events) = mailbox(6 * SLOTS_MAX);
    let (failures_in, failures) = mpsc::channel(count);
    let mut commands = Vec::with_capacity(count);
    let mut parts = Vec::with_capacity(count);
    for metrics in metrics {
        // A slot has at most two dials and drains waiting. It has doubts no faster than somebody looks into
        // them.
        let (sender, receiver) = mailbox(4 * SLOTS_MAX);
        commands.push(sender);
        parts.push(Some(CoreParts {
            commands: receiver,
            events: events_in.clone(),
            failures: failures_in.clone(),
            settings: Arc::clone(settings),
            metrics: Arc::clone(metrics),
        }));
    }
    // Locked once per core, at its start.
    let parts = Arc::new(Mutex::new(parts));
    let cores = Cores::spawn_on(cpus, count, io, "connector", move |context| {
        let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = parts.get_mut(usize::from(context.id.0)).and_then(Option::take);
        run_core(context, own)
    })?;
    let crew = Crew {
        commands,
        events,
        failures,
    };
    Ok((crew, cores))
}

async fn run_core(context: CoreContext, parts: Option<CoreParts>) {
    let Some(parts) = parts else { return };
    let ended = connections::run_core(
        context,
        parts.settings,
        parts.commands,
        parts.events,
        parts.metrics,
    );
    if let Err(error) = ended.await {
        // The service ends with the first failure it hears of; it may have ended already.
        let _nobody_listens = parts.failures.try_send(chain(&error));
    }
}
