//! Answers of the metrics server, and configurations pushed over the ones it shows.

use adit_proto::ingress::Ingress;
use adit_proto::ingress::service::OriginService;
use adit_proto::ingress::settings::OriginSettings;
use adit_wire::registration::{ClientInfo, TunnelAuth};
use adit_wire::secret::TunnelSecret;
use adit_wire::{ConnIndex, ConnectionId, ConnectorId, TunnelId};
use arc_swap::ArcSwap;
use http_body_util::BodyExt as _;
use uuid::Uuid;

use super::*;
use crate::run::settings::IngressState;
use crate::status::Registered;

fn view() -> View {
    let ingress = Ingress::single(OriginService::Status(404), OriginSettings::default());
    let settings = Settings {
        tunnel_id: TunnelId(Uuid::nil()),
        auth: TunnelAuth {
            account_tag: "acct".parse().unwrap(),
            secret: TunnelSecret::new([7; 32]),
        },
        client: ClientInfo {
            connector_id: ConnectorId(Uuid::nil()),
            features: [].into(),
            version: String::new(),
            arch: String::new(),
        },
        ingress: ArcSwap::from_pointee(IngressState::local(ingress)),
        roots: rustls::RootCertStore::empty(),
        bind: None,
        is_post_quantum: false,
        rpc_timeout: Duration::from_secs(1),
        grace_period: Duration::from_secs(1),
        added_headers: Vec::new(),
        reported_flags: [].into(),
    };
    View {
        status: Rc::default(),
        metrics: vec![Arc::default(), Arc::default()],
        settings: Arc::new(settings),
    }
}

fn register(view: &View) {
    let connection = Registered {
        id: ConnectionId(Uuid::nil()),
        location: "fra\"01".to_owned(),
        address: ([127, 0, 0, 1], 7844).into(),
    };
    view.status.borrow_mut().registered(ConnIndex(0), connection);
}

fn get(view: &View, path: &str) -> (u16, String) {
    let response = respond(view, &Method::GET, path);
    let status = response.status().as_u16();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let body = runtime
        .block_on(response.into_body().collect())
        .unwrap()
        .to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn readiness_follows_the_connections() {
    let view = view();
    let body = |status: u16, count: u8| {
        let id = Uuid::nil();
        serde_json::json!({"status": status, "readyConnections": count, "connectorId": id}).to_string()
    };
    assert_eq!(get(&view, "/ready"), (503, body(503, 0)));
    register(&view);
    assert_eq!(get(&view, "/ready"), (200, body(200, 1)));
    view.status.borrow_mut().ended(ConnIndex(0));
    assert_eq!(get(&view, "/ready").0, 503);
}

#[test]
fn counters_of_all_cores_are_summed() {
    let view = view();
    register(&view);
    view.metrics[0].requests.add(2);
    view.metrics[1].requests.add(3);
    view.metrics[1].responses.add(204);
    let (status, page) = get(&view, "/metrics");
    assert_eq!(status, 200);
    for line in [
        "cloudflared_tunnel_total_requests 5",
        "cloudflared_tunnel_ha_connections 1",
        "cloudflared_tunnel_server_locations{connection_id=\"0\",edge_location=\"fra\\\"01\"} 1",
        "cloudflared_orchestration_config_version -1",
        "connector_responses_total{class=\"2xx\"} 1",
    ] {
        assert!(
            page.lines().any(|found| found == line),
            "{line} is not in\n{page}"
        );
    }
}

#[test]
fn other_requests_are_answered_too() {
    let view = view();
    assert_eq!(get(&view, "/healthcheck"), (200, "OK\n".to_owned()));
    assert!(get(&view, "/config").1.contains("http_status:404"));
    assert_eq!(get(&view, "/nothing").0, 404);
    let refused = respond(&view, &Method::POST, "/ready");
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn a_newer_configuration_replaces_the_ingress_and_an_older_does_not() {
    let view = view();
    let push = |version: i32, service: &str| {
        let config = format!(r#"{{"ingress":[{{"service":"{service}"}}]}}"#).into();
        view.settings
            .apply(&adit_wire::config_push::ConfigUpdate { version, config })
    };
    assert_eq!(push(3, "http_status:410").latest_version, 3);
    assert_eq!(push(2, "http_status:411").latest_version, 3);
    let bad = push(4, "nowhere");
    assert_eq!(bad.latest_version, 3);
    assert!(
        bad.error.starts_with("Rule #1: nowhere is an invalid address"),
        "{}",
        bad.error
    );
    assert!(get(&view, "/config").1.contains("http_status:410"));
}
