//! The tunnel connections of one core: dialled when the supervisor says so, served, drained.
//!
//! ```text
//! service thread                        this core
//! Supervisor ── Command::Dial ────────► slot task: dial ─► register ─► serve streams ─► closed
//!            ◄─ Event::Registered ────────────────────────────┘
//!            ── Command::Drain ───────► unregister ─► finish what runs ─► close
//!            ◄─ Event::Ended ─────────────────────────────────────────────────┘
//! ```
//! An attempt over another transport may run beside a slot's connection, which leaves when the attempt is
//! about to register. Slot i lives on core i modulo the number of cores for as long as the process runs. Its
//! connection, its exchanges and their origin connections never leave that core.
//!
//! Does not: decide when and where to dial (`adit_proto::supervisor` does), know what an exchange carries.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_driver::core::CoreContext;
use adit_driver::mailbox::{Receiver, Sender};
use adit_driver::quic::{
    ClientConfig, Connection, DialError, Endpoint, EndpointOptions, TransportSettings, client_config,
};
use adit_driver::time::{interval, timeout};
use adit_proto::limits::{SILENCE_MAX, idle_timeout};
use adit_proto::supervisor::{AttemptId, End, Protocol};
use adit_wire::{ConnIndex, alpn};
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_local};

use crate::exchange_task::ExchangeCore;
use crate::metrics::CoreMetrics;
use crate::origin::{CoreOrigins, EXPIRE_INTERVAL};
use crate::origin_check;
use crate::rules::CoreRules;
use crate::settings::Settings;
use crate::status::Registered;

pub(crate) mod edge_calls;
pub(crate) mod gated;
mod http2;
mod in_flight;
mod link;
mod slot;
mod streams;
mod drain_signal;

use drain_signal::DrainSignal;

/// What the edge's certificate must be for, whatever its address (docs/protocol/transport-quic.md §2).
const SERVER_NAME: &str = "quic.cftunnel.com";

/// Interval of PINGs to an edge that is not ours. Such edges expect one within 5 s, and lost packets must not
/// use that time up.
const STOCK_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How long an edge that is not ours is spoken to like one at once, without a first handshake in vain.
const FOREIGN_TIME: Duration = Duration::from_secs(3600);

/// Exchanges that an edge may have open on one connection; above that it waits or takes another one.
const EXCHANGES_PER_CONNECTION_MAX: u32 = 4_096;

/// Time for the last packets of closed connections to leave.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// What the supervisor wants of a core.
#[derive(Debug)]
pub(crate) enum Command {
    /// Start an attempt.
    Dial {
        id: AttemptId,
        index: ConnIndex,
        address: SocketAddr,
        protocol: Protocol,
        /// The slot's connection so far.
        replaces: Option<AttemptId>,
        /// Failures of this slot before this attempt.
        previous_attempts: u8,
    },
    /// Give an attempt up, or unregister the connection and finish what runs on it.
    Drain { id: AttemptId },
    /// Ask the edges of this core's connections for a sign of life.
    Check,
}

/// What a core has to tell the supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// The edge has registered a slot's connection.
    Registered {
        id: AttemptId,
        index: ConnIndex,
        connection: Registered,
    },
    /// An edge is late with an answer.
    Doubted,
    /// An attempt has failed, or a connection is over.
    Ended {
        id: AttemptId,
        index: ConnIndex,
        end: End,
    },
}

/// What the slots of a core share.
pub(crate) struct Core {
    context: CoreContext,
    settings: Arc<Settings>,
    exchanges: Rc<ExchangeCore>,
    /// Towards an edge of ours; any other understands it as well.
    quic_own: ClientConfig,
    /// Towards any other edge, exactly as a stock connector speaks.
    quic_stock: ClientConfig,
    /// TLS towards any edge when it is spoken to over HTTP/2.
    http2: Arc<rustls::ClientConfig>,
    /// The edges are not ours until then.
    foreign_until: Cell<Option<Instant>>,
    /// Rung when every connection shall be checked.
    checks: Notify,
    events: Sender<Event>,
    /// One per address family, opened with the first dial.
    endpoints: RefCell<BTreeMap<bool, Endpoint>>,
}

/// Why a core cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoreError {
    #[error("cannot make the TLS configuration")]
    Tls(#[from] rustls::Error),
    #[error("cannot make the QUIC configuration")]
    Quic(#[from] adit_driver::quic::SettingsError),
}

/// Serves this core's slots until every sender of `commands` is gone and the last connection is closed.
///
/// # Errors
/// [`CoreError`] before anything is dialled.
pub(crate) async fn run_core(
    context: CoreContext,
    settings: Arc<Settings>,
    mut commands: Receiver<Command>,
    events: Sender<Event>,
    metrics: Arc<CoreMetrics>,
) -> Result<(), CoreError> {
    let core = Rc::new(Core {
        context,
        quic_own: quic_config(&settings, &[alpn::ADIT, alpn::STOCK])?,
        quic_stock: quic_config(&settings, &[alpn::STOCK])?,
        // Without a name in ALPN: an edge knows the transport by the port, and stock ones take none.
        http2: Arc::new(tls_config(&settings, &[])?),
        foreign_until: Cell::default(),
        checks: Notify::new(),
        exchanges: Rc::new(ExchangeCore {
            settings: settings.clone(),
            origins: CoreOrigins::new(context.io),
            rules: CoreRules::default(),
            metrics,
        }),
        settings,
        events,
        endpoints: RefCell::default(),
    });
    // Ends with the process: the pools of a core live as long as it does.
    spawn_local(expire(core.exchanges.clone()));
    // One core checks for all; it ends with the process as well.
    if context.id.0 == 0 {
        spawn_local(origin_check::run(core.exchanges.clone()));
    }
    let mut slots = JoinSet::new();
    let mut signals: BTreeMap<AttemptId, Rc<DrainSignal>> = BTreeMap::new();
    while let Some(command) = commands.recv().await {
        while slots.try_join_next().is_some() {}
        match command {
            Command::Dial {
                id,
                index,
                address,
                protocol,
                replaces,
                previous_attempts,
            } => {
                // Those that nobody else holds are of attempts that have ended.
                signals.retain(|_, signal| Rc::strong_count(signal) > 1);
                let signal = Rc::new(DrainSignal::default());
                signals.insert(id, signal.clone());
                let attempt = slot::Attempt {
                    id,
                    index,
                    address,
                    protocol,
                    previous_attempts,
                    signal,
                    replaces: replaces.and_then(|id| signals.get(&id).cloned()),
                };
                slots.spawn_local(attempt.run(core.clone()));
            }
            Command::Drain { id } => {
                if let Some(signal) = signals.get(&id) {
                    signal.drain();
                }
            }
            Command::Check => core.checks.notify_waiters(),
        }
    }
    slots.join_all().await;
    core.flush().await;
    Ok(())
}

impl Core {
    /// The local address to reach `address` from, if the operator wants one.
    fn bind(&self, address: SocketAddr) -> Option<IpAddr> {
        let wanted = self.settings.bind;
        wanted.filter(|bind| bind.is_ipv6() == address.is_ipv6())
    }

    /// The endpoint that can reach `address`.
    fn endpoint(&self, address: SocketAddr) -> std::io::Result<Endpoint> {
        let mut endpoints = self.endpoints.borrow_mut();
        if let Some(endpoint) = endpoints.get(&address.is_ipv6()) {
            return Ok(endpoint.clone());
        }
        let any: IpAddr = if address.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let bind = SocketAddr::new(self.bind(address).unwrap_or(any), 0);
        let endpoint = Endpoint::client(bind, EndpointOptions::new(self.context))?;
        endpoints.insert(address.is_ipv6(), endpoint.clone());
        Ok(endpoint)
    }

    /// Completes a handshake in the way that suits the edge.
    ///
    /// The idle timeout must be announced before it is known who answers, and an edge that is not ours would
    /// keep a killed connector of a long one for that long. So such an edge is dialled a second time.
    async fn dial(&self, endpoint: &Endpoint, address: SocketAddr) -> Result<Connection, DialError> {
        if self
            .foreign_until
            .get()
            .is_none_or(|until| until <= Instant::now())
        {
            let connection = endpoint.dial(&self.quic_own, address, SERVER_NAME).await?;
            if connection.alpn().as_deref() == Some(alpn::ADIT) {
                self.foreign_until.set(None);
                connection.allow_silence();
                return Ok(connection);
            }
            connection.close(slot::CLOSE_CODE, b"");
            self.foreign_until.set(Some(Instant::now() + FOREIGN_TIME));
        }
        endpoint.dial(&self.quic_stock, address, SERVER_NAME).await
    }

    /// Tells the supervisor. Its mailbox has room for three events per attempt, and an attempt never has more
    /// at once.
    fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            tracing::error!("the supervisor does not listen");
        }
    }

    async fn flush(&self) {
        let endpoints: Vec<Endpoint> = self.endpoints.borrow().values().cloned().collect();
        for endpoint in endpoints {
            if timeout(FLUSH_TIME_MAX, endpoint.idle()).await.is_err() {
                tracing::debug!("closed connections linger");
            }
        }
    }
}

fn tls_config(settings: &Settings, protocols: &[&[u8]]) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if settings.is_post_quantum {
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768];
    }
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(settings.roots.clone())
        .with_no_client_auth();
    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // Every connection registers anew, so a ticket would save nothing that matters.
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(tls)
}

fn quic_config(settings: &Settings, protocols: &[&[u8]]) -> Result<ClientConfig, CoreError> {
    let tls = tls_config(settings, protocols)?;
    let is_for_ours = protocols.contains(&alpn::ADIT);
    let transport = TransportSettings {
        idle_timeout: if is_for_ours {
            idle_timeout(settings.idle_ping_interval)
        } else {
            SILENCE_MAX
        },
        keep_alive: (!is_for_ours).then_some(STOCK_KEEP_ALIVE),
        silence_max: SILENCE_MAX,
        peer_streams_max: EXCHANGES_PER_CONNECTION_MAX,
        window_budget: settings.windows.clone(),
        ..TransportSettings::default()
    };
    Ok(client_config(tls, &transport)?)
}

/// Closes idle origin connections when their time is up.
async fn expire(exchanges: Rc<ExchangeCore>) {
    let mut ticks = interval(EXPIRE_INTERVAL);
    loop {
        ticks.tick().await;
        exchanges.rules.expire(Instant::now());
    }
}
