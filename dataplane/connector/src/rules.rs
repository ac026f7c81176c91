//! The ingress in force as one core uses it: what is done with the exchanges of each rule, and with whose.
//!
//! When a new ingress is seen, the rules' origins are made anew with empty pools, while exchanges under way
//! keep the old ones until they end. Everything here belongs to one core, so nothing is locked.
//!
//! Does not: match rules (`adit_proto::ingress` does).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use adit_proto::ingress::Rule;
use adit_proto::ingress::service::OriginService;
use http::HeaderValue;

use crate::access::Gate;
use crate::ingress_state::IngressState;
use crate::origin::dial::{Place, Target};
use crate::origin::group::Group;
use crate::origin::http_origin::{HttpOrigin, MemberTemplate, Places};
use crate::origin::http2::Http2Policy;
use crate::origin::tcp::TcpOrigin;
use crate::origin::tls::TlsOptions;

/// One core's rules.
#[derive(Default)]
pub(crate) struct CoreRules(RefCell<Option<Rc<Rules>>>);

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

impl CoreRules {
    /// The rules of the ingress in force.
    pub(crate) fn of(&self, current: &Arc<IngressState>) -> Rc<Rules> {
        let mut rules = self.0.borrow_mut();
        match &*rules {
            Some(rules) if Arc::ptr_eq(&rules.state, current) => rules.clone(),
            Some(_) | None => rules.insert(Rc::new(Rules::new(current.clone()))).clone(),
        }
    }

    /// Closes idle connections whose time is up.
    pub(crate) fn expire(&self, now: Instant) {
        let rules = self.0.borrow();
        for served in rules.iter().flat_map(|rules| &rules.services) {
            if let Service::Http(origin) = &served.service {
                origin.expire(now);
            }
        }
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
