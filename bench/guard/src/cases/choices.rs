//! Where an exchange goes: tunnel by hostname, connection by load, origin by rule.

use std::hint::black_box;

use adit_proto::directory::{Directory, Live, ServedHosts, Slot};
use adit_proto::host_map::HostMap;
use adit_proto::ingress::settings::OriginSettings;
use adit_proto::ingress::{Ingress, RuleText};
use adit_proto::steering::{Ask, PolicyName, Tried, choose};
use adit_wire::{ConnIndex, ConnectionId, ConnectorId, Hostname, TunnelId};
use uuid::Uuid;

use super::Work;
use super::message::HOST;

/// Hostnames that lead somewhere.
const ROUTES: usize = 1_000;

const TUNNEL: TunnelId = TunnelId(Uuid::from_u128(1));

/// What an edge knows of routes and connections.
pub(super) struct Where {
    routes: HostMap<TunnelId>,
    directory: Directory<u32>,
    tried: Tried,
    seed: u64,
}

impl Where {
    /// A thousand routes; three replicas with four connections each on two cores.
    pub(super) fn new() -> Self {
        let name = |number| format!("app{number}.example.com");
        let mut routes: HostMap<_> = (0..ROUTES)
            .map(|number| (name(number).parse().expect("a hostname"), TUNNEL))
            .collect();
        routes.insert(HOST.parse().expect("a hostname"), TUNNEL);
        let mut directory = Directory::default();
        for place in 0..12_u8 {
            let connector = ConnectorId(Uuid::from_u128(u128::from(place / 4)));
            directory.join(Live {
                id: ConnectionId(Uuid::from_u128(u128::from(place))),
                slot: Slot {
                    tunnel: TUNNEL,
                    connector,
                    index: ConnIndex(place % 4),
                },
                order: u64::from(place),
                core: u16::from(place % 2),
                is_draining: false,
                is_doubted: false,
                carries_trailers: true,
                is_of_ours: true,
                handle: u32::from(place),
            });
            let hosts = ServedHosts::from_rules([Some(HOST), Some("*.example.org")]);
            directory.set_served(TUNNEL, connector, hosts);
        }
        Self {
            routes,
            directory,
            tried: Tried::default(),
            seed: 1,
        }
    }

    pub(super) fn route(&self, host: &Hostname) -> TunnelId {
        *self.routes.get(black_box(host)).expect("a route")
    }

    pub(super) fn choose(&mut self, tunnel: TunnelId, host: &Hostname) -> ConnectionId {
        self.seed += 1;
        let ask = Ask {
            tunnel,
            host,
            path: "/",
            policy: PolicyName::default(),
            core: 0,
            tried: &self.tried,
            needs_trailers: false,
            prefers_ours: false,
            takes_doubted: false,
            known: None,
            seed: self.seed,
        };
        let live = choose(&self.directory, black_box(&ask), |load| *load);
        live.expect("a connection").id
    }
}

/// Rules as a configuration of some size has them; the third is met.
pub(super) fn rules() -> Ingress {
    let rule = |hostname: &str, path: &str, service: &str| RuleText {
        hostname: hostname.to_owned(),
        path: path.to_owned(),
        service: service.to_owned(),
        settings: OriginSettings::default(),
    };
    let texts = [
        rule("other.example.com", "", "http://localhost:8001"),
        rule("*.example.org", "", "http://localhost:8002"),
        rule(HOST, "^/projects/", "http://localhost:8003"),
        rule("", "", "http_status:404"),
    ];
    Ingress::parse(&texts).expect("good rules")
}

/// The tunnel of a hostname.
pub(super) fn route() -> Work {
    let known = Where::new();
    let host = HOST.parse().expect("a hostname");
    Box::new(move || {
        black_box(known.route(&host));
    })
}

/// A connection for an exchange.
pub(super) fn steering() -> Work {
    let mut known = Where::new();
    let host = HOST.parse().expect("a hostname");
    Box::new(move || {
        black_box(known.choose(TUNNEL, &host));
    })
}

/// The rule of a request.
pub(super) fn ingress() -> Work {
    let rules = rules();
    Box::new(move || {
        black_box(rules.find(
            black_box(HOST),
            black_box("/projects/adit/files/report.html?version=3"),
        ));
    })
}
