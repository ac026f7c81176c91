//! Answers of the metrics server, and configurations pushed over the ones it shows.

use adit_driver::quic::ConnectionStats;
use adit_proto::ingress::Ingress;
use adit_proto::ingress::service::OriginService;
use adit_proto::ingress::settings::OriginSettings;
use adit_proto::supervisor::AttemptId;
use adit_wire::registration::{ClientInfo, TunnelAuth};
use adit_wire::secret::TunnelSecret;
use adit_wire::{ConnIndex, ConnectionId, ConnectorId, TunnelId};
use arc_swap::ArcSwap;
use http_body_util::BodyExt as _;
use uuid::Uuid;

use super::*;
use crate::config::ManagementSettings;
use crate::config::Readiness;
use crate::ingress_state::IngressState;
use crate::management::{LiveLog, Management};
use crate::metrics::{RpcMethod, Sampler};
use crate::origin::group::Groups;
use crate::status::{Protocol, Registered};

fn view() -> View {
    let ingress = Ingress::single(OriginService::Status(404), OriginSettings::default());
    let groups = Groups::new(Arc::default(), 7);
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
        ingress: ArcSwap::from_pointee(IngressState::local(ingress, &groups)),
        groups,
        replacing: std::sync::Mutex::default(),
        changes: tokio::sync::watch::Sender::default(),
        origin_health: tokio::sync::watch::Sender::default(),
        flows: adit_proto::flow_policy::FlowPolicy::default(),
        roots: rustls::RootCertStore::empty(),
        cacert: None,
        bind: None,
        is_post_quantum: false,
        rpc_timeout: Duration::from_secs(1),
        grace_period: Duration::from_secs(1),
        idle_ping_interval: Duration::from_secs(55),
        windows: adit_driver::quic::WindowBudget::new(0),
        local_changes: tokio::sync::watch::Sender::default(),
        connections: 4,
        quick_hostname: String::new(),
        proxy: None,
        edge_names: Default::default(),
        readiness: Readiness {
            connections: 1,
            locations: 1,
        },
        started_at: std::time::Instant::now(),
        added_headers: Vec::new(),
        management: Management {
            settings: ManagementSettings {
                edges: Vec::new(),
                hostname: "management.test".into(),
                label: None,
                service_address: String::new(),
            },
            live_log: LiveLog::default(),
        },
        log_file: Some("/log".into()),
        reported_flags: [("loglevel", "info".to_owned())].into(),
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
        protocol: Protocol::Quic,
    };
    view.status
        .borrow_mut()
        .registered(AttemptId(1), ConnIndex(0), connection);
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
fn readiness_follows_the_connections_and_ends_with_the_wish_to_stop() {
    let view = view();
    let body = |status: u16, count: u8| {
        let id = Uuid::nil();
        serde_json::json!({"status": status, "readyConnections": count, "connectorId": id}).to_string()
    };
    assert_eq!(get(&view, "/ready"), (503, body(503, 0)));
    register(&view);
    assert_eq!(get(&view, "/ready"), (200, body(200, 1)));
    view.status.borrow_mut().ended(AttemptId(1), ConnIndex(0));
    assert_eq!(get(&view, "/ready").0, 503);
    register(&view);
    view.status.borrow_mut().draining();
    assert_eq!(get(&view, "/ready"), (503, body(503, 0)));
}

#[test]
fn readiness_may_want_more_than_one_connection_or_location() {
    for (connections, locations, status) in [(1, 1, 200), (2, 1, 503), (1, 2, 503)] {
        let mut view = view();
        Arc::get_mut(&mut view.settings).unwrap().readiness = Readiness {
            connections,
            locations,
        };
        register(&view);
        assert_eq!(get(&view, "/ready").0, status, "{connections} {locations}");
    }
}

#[test]
fn counters_of_all_cores_are_summed() {
    let view = view();
    register(&view);
    view.metrics[0].requests.add(2);
    view.metrics[1].requests.add(3);
    view.metrics[0].responses.add(204);
    view.metrics[1].responses.add(204);
    view.metrics[1].responses.add(502);
    view.metrics[1].registrations_duplicate.add(1);
    view.metrics[0].config_pushes.add(2);
    view.metrics[0].connections_dialled.add(3);
    let took = Duration::from_millis(200);
    view.metrics[0]
        .rpc
        .ended(RpcMethod::RegisterConnection, took, false);
    view.metrics[1]
        .rpc
        .ended(RpcMethod::RegisterConnection, took, true);
    let stats = ConnectionStats {
        rtt: Duration::from_micros(1_500),
        sent_bytes: 1_200,
        ..ConnectionStats::default()
    };
    Sampler::default().sample(stats, view.metrics[1].slot(1).unwrap());
    check_lines(
        &view,
        &[
            r#"build_info{type="adit",version="0.1.0"} 1"#,
            "cloudflared_tunnel_total_requests 5",
            r#"cloudflared_tunnel_response_by_code{status_code="204"} 2"#,
            r#"cloudflared_tunnel_response_by_code{status_code="502"} 1"#,
            "cloudflared_tunnel_ha_connections 1",
            r#"cloudflared_tunnel_server_locations{connection_id="0",edge_location="fra\"01"} 1"#,
            r#"tunnel_ids{tunnel_id="00000000-0000-0000-0000-000000000000",ha_conn_id="0"} 1"#,
            r#"cloudflared_tunnel_tunnel_register_success{rpcName="registerConnection"} 1"#,
            r#"cloudflared_tunnel_tunnel_register_fail{error="dup_edge_conn",rpcName="registerConnection"} 1"#,
            r#"cloudflared_tunnel_tunnel_register_fail{error="server_error",rpcName="registerConnection"} 0"#,
            "cloudflared_config_local_config_pushes 2",
            "cloudflared_config_local_config_pushes_errors 0",
            "cloudflared_orchestration_config_version -1",
            r#"cloudflared_rpc_client_operations{handler="registration",method="register_connection"} 2"#,
            r#"cloudflared_rpc_client_failures{handler="registration",method="register_connection"} 1"#,
            r#"cloudflared_rpc_client_latency_secs_bucket{handler="registration",method="register_connection",le="0.15"} 0"#,
            r#"cloudflared_rpc_client_latency_secs_bucket{handler="registration",method="register_connection",le="0.45"} 2"#,
            r#"cloudflared_rpc_client_latency_secs_bucket{handler="registration",method="register_connection",le="+Inf"} 2"#,
            r#"cloudflared_rpc_client_latency_secs_sum{handler="registration",method="register_connection"} 0.4"#,
            r#"cloudflared_rpc_client_latency_secs_count{handler="registration",method="register_connection"} 2"#,
            "quic_client_total_connections 3",
            "quic_client_closed_connections 0",
            r#"quic_client_smoothed_rtt{conn_index="1"} 1.5"#,
            r#"quic_client_sent_bytes{conn_index="1"} 1200"#,
            r#"quic_client_lost_packets{conn_index="1",reason="unknown_loss_reason"} 0"#,
            r#"connector_responses_total{class="2xx"} 2"#,
            r#"connector_responses_total{class="5xx"} 1"#,
        ],
    );
    let (_, page) = get(&view, "/metrics");
    let lines = |part: &str| page.lines().filter(|line| line.starts_with(part)).count();
    assert_eq!(
        lines("cloudflared_tunnel_response_by_code"),
        2,
        "none for what there was not"
    );
    assert_eq!(lines("quic_client_mtu"), 1);
    assert_eq!(lines("process_resident_memory_bytes"), 1);
}

#[test]
fn a_location_that_was_left_is_told_as_one_until_it_is_there_again() {
    let view = view();
    let register = |location: &str| {
        let connection = Registered {
            id: ConnectionId(Uuid::nil()),
            location: location.to_owned(),
            address: ([127, 0, 0, 1], 7844).into(),
            protocol: Protocol::Quic,
        };
        view.status
            .borrow_mut()
            .registered(AttemptId(1), ConnIndex(2), connection);
    };
    let line = |location: &str, is_now: u8| {
        format!(
            "cloudflared_tunnel_server_locations{{connection_id=\"2\",edge_location=\"{location}\"}} {is_now}"
        )
    };
    register("lhr01");
    view.status.borrow_mut().ended(AttemptId(1), ConnIndex(2));
    check_lines(&view, &[&line("lhr01", 0)]);
    register("fra01");
    check_lines(&view, &[&line("lhr01", 0), &line("fra01", 1)]);
    register("lhr01");
    check_lines(&view, &[&line("lhr01", 1), &line("fra01", 0)]);
    for n in 0..100 {
        register(&format!("x{n}"));
    }
    let (_, page) = get(&view, "/metrics");
    assert!(page.matches("server_locations{").count() < 20, "{page}");
}

fn check_lines(view: &View, wanted: &[&str]) {
    let (status, page) = get(view, "/metrics");
    assert_eq!(status, 200);
    for line in wanted {
        assert!(
            page.lines().any(|found| found == *line),
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
        bad.error.starts_with("nowhere is an invalid address"),
        "{}",
        bad.error
    );
    assert!(get(&view, "/config").1.contains("http_status:410"));
}

#[test]
fn diagnostics_tell_of_flags_connections_and_the_machine() {
    let view = view();
    register(&view);
    let json = |path: &str| {
        let (status, body) = get(&view, path);
        assert_eq!(status, 200, "{path}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    let tunnel = json("/diag/tunnel");
    assert_eq!(tunnel["tunnelID"], Uuid::nil().to_string());
    let expected = serde_json::json!([{"isConnected": true, "protocol": 1, "edgeAddress": "127.0.0.1"}]);
    assert_eq!(tunnel["connections"], expected);
    let flags = json("/diag/configuration");
    assert_eq!(
        (&flags["loglevel"], &flags["logfile"]),
        (&"info".into(), &"/log".into())
    );
    assert!(flags["uid"].is_string());
    assert!(json("/diag/system")["info"]["hostName"].is_string());
    assert_eq!(get(&view, "/diag/other").0, 404);
}
