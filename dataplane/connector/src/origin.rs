//! Origins of one core: where the exchanges of each ingress rule go, and the connections kept to them.
//!
//! [`CoreOrigins`] follows the ingress in force: when a new one is seen, the rules' origins are made anew
//! with empty pools, while exchanges under way keep the old ones until they end. Everything here belongs
//! to one core, so nothing is locked.
//!
//! Does not: match rules (`adit_proto::ingress` does), know data streams beyond their bytes.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_driver::kernel::IoMode;
use adit_proto::exchange::reach::Reach;
use adit_proto::ingress::Rule;
use adit_proto::ingress::service::OriginService;
use adit_proto::origin_pool::health::Outcome;
use http::HeaderValue;

use crate::access::Gate;
use crate::run::settings::IngressState;
use dial::{Place, Target};
use group::{Busy, Group};
use http_origin::{HttpOrigin, MemberTemplate, Places};
use http2::Http2Policy;
use tcp::TcpOrigin;
use tls::{TlsConfigs, TlsOptions};

// In the order a request meets them.
pub(crate) mod body;
pub(crate) mod dial;
mod race;
pub(crate) mod io_stream;
mod last_words;
pub(crate) mod tls;
pub(crate) mod pool;
pub(crate) mod head_limit;
mod http2;
pub(crate) mod member;
pub(crate) mod group;
pub(crate) mod check;
pub(crate) mod http_origin;
pub(crate) mod interim;
pub(crate) mod websocket;
pub(crate) mod handshake;
pub(crate) mod tcp;
pub(crate) mod builtin;
pub(crate) mod echo;

/// How often idle connections are looked at; their timeout is met within this.
pub(crate) const EXPIRE_INTERVAL: Duration = Duration::from_secs(5);

/// Why an origin gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    #[error("cannot resolve {host}")]
    Resolve {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("TLS handshake failed")]
    Tls {
        #[source]
        source: io::Error,
    },
    #[error("{name} cannot be a TLS server name")]
    ServerName { name: String },
    #[error("cannot use caPool {}: {why}", path.display())]
    CaPool { path: PathBuf, why: String },
    #[error("the request failed")]
    Http {
        #[source]
        source: hyper::Error,
    },
    /// The connection was gone before any of the request was written to it.
    #[error("the request was not sent")]
    Unsent {
        #[source]
        source: hyper::Error,
    },
    #[error(transparent)]
    Busy(#[from] Busy),
}

impl OriginError {
    /// What it says about the address that was asked; `None` for what would be the same anywhere.
    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Tls { .. } => Some(Outcome::Unconnected),
            Self::Http { .. } | Self::Unsent { .. } => Some(Outcome::Unanswered),
            Self::ServerName { .. } | Self::CaPool { .. } | Self::Busy(_) => None,
        }
    }

    /// How far the request has come: no request goes out before its connection stands, TLS included.
    pub(crate) fn reach(&self) -> Reach {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::ServerName { .. }
            | Self::CaPool { .. }
            | Self::Unsent { .. } => Reach::Nowhere,
            Self::Http { .. } | Self::Busy(_) => Reach::Unknown,
        }
    }
}

/// The origins of one core.
pub(crate) struct CoreOrigins {
    io: IoMode,
    tls: TlsConfigs,
    rules: RefCell<Option<Rc<Rules>>>,
    started: Instant,
}

/// The ingress in force as this core uses it.
pub(crate) struct Rules {
    state: Arc<IngressState>,
    /// By position of the rule.
    services: Vec<Served>,
}

/// What a core does with the exchanges of a rule, and with whose.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) service: Service,
    /// `None` for everybody.
    pub(crate) gate: Option<Rc<Gate>>,
}

/// What a core does with the exchanges of a rule.
#[derive(Clone)]
pub(crate) enum Service {
    /// Asks an HTTP origin.
    Http(Rc<HttpOrigin>),
    /// Carries TCP in a WebSocket.
    Tcp(Rc<TcpOrigin>),
    /// Answers with a status.
    Status(http::StatusCode),
    /// Answers with the built-in page.
    HelloWorld,
}

impl CoreOrigins {
    pub(crate) fn new(io: IoMode) -> Self {
        Self {
            io,
            tls: TlsConfigs::default(),
            rules: RefCell::default(),
            started: Instant::now(),
        }
    }

    /// The rules of the ingress in force.
    pub(crate) fn rules(&self, current: &Arc<IngressState>) -> Rc<Rules> {
        let mut rules = self.rules.borrow_mut();
        match &*rules {
            Some(rules) if Arc::ptr_eq(&rules.state, current) => rules.clone(),
            Some(_) | None => rules.insert(Rc::new(Rules::new(current.clone()))).clone(),
        }
    }

    /// Closes idle connections whose time is up.
    pub(crate) fn expire(&self, now: Instant) {
        let rules = self.rules.borrow();
        for served in rules.iter().flat_map(|rules| &rules.services) {
            if let Service::Http(origin) = &served.service {
                origin.expire(now);
            }
        }
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn io_mode(&self) -> IoMode {
        self.io
    }

    pub(crate) fn tls(&self) -> &TlsConfigs {
        &self.tls
    }
}

impl Rules {
    fn new(state: Arc<IngressState>) -> Self {
        let served = |(place, rule): (usize, &Rule)| Served {
            service: service(rule, state.group(place)),
            gate: Gate::of(&rule.settings),
        };
        let services = state.ingress.rules().iter().enumerate().map(served).collect();
        Self { state, services }
    }

    /// Every rule.
    pub(crate) fn served(&self) -> &[Served] {
        &self.services
    }

    /// Position of the rule that a request meets, and what it says.
    pub(crate) fn find(&self, host: &str, path_and_query: &str) -> Option<(usize, Served)> {
        let (index, _) = self.state.ingress.find(host, path_and_query);
        Some((index, self.services.get(index)?.clone()))
    }
}

fn service(rule: &Rule, group: Option<&Arc<Group>>) -> Service {
    let place = match &rule.service {
        OriginService::Http { authority, .. } => Place::Tcp {
            host: rule.service.host().unwrap_or_else(|| authority.host()).to_owned(),
            port: rule.service.port().unwrap_or_default(),
        },
        OriginService::Unix { path, .. } => Place::Unix { path: path.clone() },
        OriginService::Status(status) => {
            // The parser lets only 100 to 999 through.
            let status = http::StatusCode::from_u16(*status);
            return Service::Status(status.unwrap_or(http::StatusCode::SERVICE_UNAVAILABLE));
        }
        OriginService::HelloWorld => return Service::HelloWorld,
        OriginService::Tcp { .. } | OriginService::Bastion | OriginService::SocksProxy => {
            return Service::Tcp(Rc::new(TcpOrigin::of(rule, group.cloned())));
        }
    };
    let settings = &rule.settings;
    let http2_policy = match (rule.service.is_tls(), settings.http2_origin, settings.h2c_origin) {
        (true, true, _) => Http2Policy::Negotiated,
        (false, _, true) => Http2Policy::PriorKnowledge,
        (true, false, _) | (false, _, false) => Http2Policy::Never,
    };
    let tls = rule.service.is_tls().then(|| TlsOptions {
        no_verify: settings.no_tls_verify,
        ca_pool: settings.ca_pool.clone(),
    });
    let template = MemberTemplate {
        target: Target {
            place,
            tls,
            connect_timeout: settings.connect_timeout,
            tls_timeout: settings.tls_timeout,
            keep_alive: (!settings.tcp_keep_alive.is_zero()).then_some(settings.tcp_keep_alive),
            happy_eyeballs: !settings.no_happy_eyeballs,
            proxy_protocol: settings.proxy_protocol,
        },
        keep_alive_connections: settings.keep_alive_connections,
        keep_alive_timeout: settings.keep_alive_timeout,
        http2_policy,
    };
    let places = match group {
        Some(group) => Places::Group {
            group: Arc::clone(group),
            members: RefCell::default(),
        },
        None => Places::Sole(Box::new(template.own())),
    };
    Service::Http(Rc::new(HttpOrigin {
        server_name: text(&settings.origin_server_name),
        is_named_by_request: settings.match_sni_to_host,
        host_header: text(&settings.http_host_header).and_then(|host| HeaderValue::try_from(host).ok()),
        disable_chunked_encoding: settings.disable_chunked_encoding,
        edits: rule.edits.clone(),
        template,
        places,
    }))
}

fn text(setting: &str) -> Option<String> {
    (!setting.is_empty()).then(|| setting.to_owned())
}
