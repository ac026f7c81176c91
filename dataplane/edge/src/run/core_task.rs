//! One core of the edge: its sockets, its tunnels, its visitors, put together and run to the end.

use std::net::{TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_driver::core::{CoreContext, CoreId};
use adit_driver::mailbox;
use adit_driver::quic::{self, Endpoint, EndpointOptions, WindowBudget};
use adit_driver::tcp::Listener;
use adit_driver::time::{interval, timeout};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use crate::access_log::AccessLog;
use crate::config::LiveConfig;
use crate::control_link::ServiceHandle;
use crate::core::Core;
use crate::cross_core::{self, CoreMessage};
use crate::metrics::CoreMetrics;
use crate::peers::Peers;
use crate::public::listen::{self, Entrance, Protocol};
use crate::public::tls::PublicTls;
use crate::registration::{self, Unregistered};
use crate::tunnel_http2::accept::{self, Door, TunnelTls};
use crate::tunnels::Tunnels;

/// How often gauges of the endpoint are copied.
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

/// Time for the last packets of closed tunnel connections.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Close code of the tunnel protocol; it knows no other.
const CLOSE_CODE: u32 = 0;

/// The sockets that were bound for one core.
pub(crate) struct Sockets {
    pub(crate) tunnel: UdpSocket,
    pub(crate) tunnel_http2: Vec<TcpListener>,
    pub(crate) http: Vec<TcpListener>,
    pub(crate) https: Vec<TcpListener>,
    /// In the order of the configuration.
    pub(crate) tcp: Vec<TcpListener>,
}

/// What one core is given at its start.
pub(crate) struct Seed {
    pub(crate) sockets: Sockets,
    pub(crate) inbox: mailbox::Receiver<CoreMessage>,
    pub(crate) metrics: Arc<CoreMetrics>,
}

/// What all cores share with the service thread.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) live: LiveConfig,
    pub(crate) mailboxes: Vec<mailbox::Sender<CoreMessage>>,
    pub(crate) service: ServiceHandle,
    pub(crate) quic: quic::ServerConfig,
    /// For what windows of streams grow by.
    pub(crate) windows: Arc<WindowBudget>,
    pub(crate) reset_key: quic::ResetKey,
    pub(crate) peers: Arc<Peers>,
    pub(crate) tunnel_tls: TunnelTls,
    pub(crate) tls: PublicTls,
    pub(crate) log: AccessLog,
    pub(crate) reports: mpsc::Sender<Report>,
    /// True once every core has no visitors left.
    pub(crate) may_close: watch::Receiver<bool>,
}

/// What a core tells the service thread about itself.
#[derive(Debug)]
pub(crate) enum Report {
    /// It listens.
    Listening,
    /// It cannot listen.
    Failed(std::io::Error),
    /// Its visitors are gone or out of time.
    Drained,
}

/// Runs one core until the edge has drained.
pub(crate) async fn run(context: CoreContext, seed: Seed, shared: Shared) {
    // Spreads choices differently on every core and in every run.
    let tunnels = Rc::new(Tunnels::new(
        context,
        shared.mailboxes.clone(),
        rand::random(),
        shared.live.start().limits.reconnect_wait,
        shared.live.start().ejection,
    ));
    let core = Core::new(
        context,
        shared.live.clone(),
        tunnels,
        seed.metrics.clone(),
        shared.log.clone(),
        Some(shared.service.clone()),
    );
    let listening = match Listening::open(&core, seed.sockets, &shared) {
        Ok(listening) => listening,
        Err(error) => {
            // The service thread ends the process.
            let _ = shared.reports.send(Report::Failed(error)).await;
            return;
        }
    };
    let endpoint = listening.endpoint.clone();
    let draining = core.clone();
    spawn_local(cross_core::run(
        seed.inbox,
        core.tunnels.clone(),
        endpoint.clone(),
        move || {
            draining.drain.begin();
        },
    ));
    listening.serve(&core, &shared);
    spawn_local(copy_gauges(
        core.clone(),
        endpoint.clone(),
        shared.windows.clone(),
    ));
    // The service thread waits for this as long as it lives.
    let _ = shared.reports.send(Report::Listening).await;

    core.drain.begun().await;
    endpoint.refuse_new();
    if timeout(core.config.grace_period, core.drain.empty())
        .await
        .is_err()
    {
        tracing::warn!(core = %context.id, visitors = core.drain.visitors(),
            "visitors outlived the grace period");
    }
    let mut may_close = shared.may_close.clone();
    let _ = shared.reports.send(Report::Drained).await;
    // An error means that the service thread is gone, and with it all reason to wait.
    let _ = may_close.wait_for(|may_close| *may_close).await;
    endpoint.close(CLOSE_CODE, b"edge shutting down");
    let closed = async {
        tokio::join!(
            endpoint.idle(),
            core.tunnels.registry.close_http2("edge shutting down")
        )
    };
    // Whatever is not out by then, connectors notice by their idle timeout, or by the end of the process.
    let _ = timeout(CLOSE_TIME, closed).await;
}

/// The open sockets of a core.
struct Listening {
    endpoint: Endpoint,
    tunnel_http2: Vec<Listener>,
    http: Vec<Listener>,
    https: Vec<Listener>,
    tcp: Vec<Listener>,
}

impl Listening {
    fn open(core: &Rc<Core>, sockets: Sockets, shared: &Shared) -> std::io::Result<Self> {
        let context = core.context;
        let options = EndpointOptions {
            reset_key: Some(shared.reset_key),
            ..EndpointOptions::new(context)
        };
        let endpoint = Endpoint::listen(sockets.tunnel, shared.quic.clone(), options)?;
        let tunnels = core.tunnels.clone();
        let others = tunnels.clone();
        endpoint.set_unreachable_sink(move |peer, is_port| others.pass_unreachable(peer, is_port));
        endpoint.set_stray_sink(move |owner, packet| tunnels.pass_stray(owner, packet));
        Ok(Self {
            endpoint,
            tunnel_http2: open(sockets.tunnel_http2, context)?,
            http: open(sockets.http, context)?,
            https: open(sockets.https, context)?,
            tcp: open(sockets.tcp, context)?,
        })
    }

    fn serve(self, core: &Rc<Core>, shared: &Shared) {
        let state = Rc::new(registration::CoreState {
            tunnels: core.tunnels.clone(),
            service: shared.service.clone(),
            metrics: core.metrics.clone(),
            windows: shared.windows.clone(),
            peers: shared.peers.clone(),
            colo: core.config.location.clone(),
            unregistered_quic: Unregistered::default(),
            grace_period: core.config.grace_period,
        });
        let door = Door::new(shared.tunnel_tls.clone(), state.clone());
        // All of these end with the drain or with the process.
        let config = &core.config.listeners;
        let entrance = |protocol, accepts_proxy| Entrance {
            protocol,
            accepts_proxy,
        };
        let http = self.http.into_iter().zip(&config.http);
        let http = http.map(|(listener, entry)| (listener, entrance(Protocol::Http, entry.accepts_proxy)));
        let https = self
            .https
            .into_iter()
            .zip(&config.https)
            .map(|(listener, entry)| {
                let door = core.config.tunnels_on_https.then(|| door.clone());
                let protocol = Protocol::Https(shared.tls.clone(), door);
                (listener, entrance(protocol, entry.accepts_proxy))
            });
        let tcp = self.tcp.into_iter().zip(&config.tcp).map(|(listener, entry)| {
            let protocol = Protocol::Tcp(Rc::new(entry.clone()));
            (listener, entrance(protocol, entry.accepts_proxy))
        });
        for (listener, entrance) in http.chain(https).chain(tcp) {
            spawn_local(listen::run(core.clone(), listener, entrance));
        }
        for listener in self.tunnel_http2 {
            let draining = core.clone();
            let drained = async move { draining.drain.begun().await };
            spawn_local(accept::run(listener, door.clone(), drained));
        }
        spawn_local(accept_connectors(self.endpoint, state));
    }
}

fn open(listeners: Vec<TcpListener>, context: CoreContext) -> std::io::Result<Vec<Listener>> {
    listeners
        .into_iter()
        .map(|listener| Listener::from_std(listener, context.io))
        .collect()
}

async fn accept_connectors(endpoint: Endpoint, state: Rc<registration::CoreState>) {
    while let Some(connection) = endpoint.accept().await {
        // Ends with the connection; the endpoint bounds their number.
        spawn_local(registration::serve(connection, state.clone()));
    }
}

async fn copy_gauges(core: Rc<Core>, endpoint: Endpoint, windows: Arc<WindowBudget>) {
    let mut tick = interval(GAUGE_INTERVAL);
    let mut followed = None;
    loop {
        tick.tick().await;
        let current = core.live.whole();
        if !followed.as_ref().is_some_and(|old| Arc::ptr_eq(old, &current)) {
            core.follow(&current);
            windows.set_limit(current.limits.windows_bytes());
            followed = Some(current);
        }
        let (metrics, stats) = (&core.metrics, endpoint.stats());
        metrics
            .tunnel_connections_open
            .set(core.tunnels.registry.count_here() as u64);
        metrics
            .exchanges_waiting
            .set(core.tunnels.absent.waiting() as u64);
        metrics.shares_entries.set(core.shares.entries() as u64);
        metrics.replicas_ejected.set(core.tunnels.look_at_health() as u64);
        metrics.replicas_told_down.set(core.tunnels.told_down() as u64);
        metrics.handshakes_half_open.set(stats.half_open as u64);
        metrics.handshakes_refused.set(stats.refused);
        metrics.quic_retries_sent.set(stats.retries_sent);
        metrics.quic_resets_sent.set(stats.resets_sent);
        metrics.icmp_unreachable.set(stats.unreachable);
        metrics.udp_datagrams_received.set(stats.datagrams_received);
        metrics.udp_sends.set(stats.transmits_sent);
        metrics.udp_send_errors.set(stats.send_errors);
        metrics.strays_sent.set(stats.strays_sent);
        metrics.strays_received.set(stats.strays_received);
        // Of the whole process, so one core tells it.
        if core.context.id == CoreId(0) {
            metrics.windows_grown_bytes.set(windows.taken());
            metrics.windows_refused.set(windows.refused());
        }
    }
}
