//! Where a connector forwards to: rules by hostname and path, and every kind of origin service.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::connector::{Connector, Credentials};
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::curl::Response;

/// Visits `host` until the edge knows its route.
fn visit(site: &Site, host: &str, path: &str) -> Response {
    deadline::until(&format!("{host}{path} to be served"), deadline::STEP, || {
        let response = site.visit_host(host, path).run();
        (!adit_tests::site::is_error_page(&response)).then_some(response)
    })
}

fn rules_choose_by_hostname_wildcard_and_path(io: IoMode) {
    let (nginx, scripted, site) = (Nginx::start(), Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    for host in ["wild.example.test", "other.example.test"] {
        site.control.route(&tunnel, host);
    }
    let rules = format!(
        "  - hostname: {HOST}\n    path: ^/s(een|lurp)\n    service: {scripted}\n  - hostname: {HOST}\n    service: {nginx}\n  \
         - hostname: '*.example.test'\n    path: \\.teapot$\n    service: http_status:418\n  \
         - hostname: wild.example.test\n    service: hello_world\n  - service: http_status:404\n",
        scripted = scripted.url(),
        nginx = nginx.url(),
    );
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    assert!(visit(&site, HOST, "/seen").text().starts_with("GET /seen "));
    assert_eq!(visit(&site, HOST, "/").text(), "served by nginx\n");
    assert_eq!(visit(&site, "wild.example.test", "/x.teapot").status, 418);
    let hello = visit(&site, "wild.example.test", "/");
    assert_eq!(hello.status, 200);
    assert!(hello.text().to_lowercase().contains("hello"), "{}", hello.text());
    let nothing = visit(&site, "other.example.test", "/");
    assert_eq!((nothing.status, nothing.body.len()), (404, 0));
}

fn https_origins_are_verified_as_configured(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let hosts = [
        "pool.example.test",
        "trusting.example.test",
        "strict.example.test",
        "other.example.test",
    ];
    for host in hosts {
        site.control.route(&tunnel, host);
    }
    let root = nginx.certificate().certificate.display().to_string();
    let url = nginx.tls_url();
    let rules = format!(
        "  - hostname: pool.example.test\n    service: {url}\n    originRequest:\n      caPool: {root}\n      originServerName: origin.test\n  \
         - hostname: trusting.example.test\n    service: {url}\n    originRequest: {{noTLSVerify: true}}\n  \
         - hostname: other.example.test\n    service: {url}\n    originRequest:\n      caPool: {root}\n      originServerName: wrong.test\n  \
         - service: {url}\n"
    );
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    let pool = visit(&site, "pool.example.test", "/tell");
    assert_eq!(
        (pool.line("scheme"), pool.line("sni")),
        ("https".to_owned(), "origin.test".to_owned())
    );
    assert_eq!(
        visit(&site, "trusting.example.test", "/tell").line("scheme"),
        "https"
    );
    for host in ["strict.example.test", "other.example.test"] {
        let refused = deadline::until("a verdict", deadline::STEP, || {
            let response = site.visit_host(host, "/tell").run();
            (response.status != 404 && response.status != 503).then_some(response)
        });
        assert_eq!(refused.status, 502, "{host}: {refused:?}");
    }
}

fn unix_sockets_and_host_headers(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    site.control.route(&tunnel, "renamed.example.test");
    let rules = format!(
        "  - hostname: renamed.example.test\n    service: {}\n    originRequest: {{httpHostHeader: inner.test}}\n  - service: unix:{}\n",
        nginx.url(),
        nginx.socket().display()
    );
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    assert_eq!(visit(&site, HOST, "/tell").line("host"), HOST);
    let put = visit(&site, HOST, "/");
    assert_eq!(put.text(), "served by nginx\n");
    let renamed = visit(&site, "renamed.example.test", "/tell");
    assert_eq!(renamed.line("host"), "inner.test");
    assert_eq!(renamed.line("x-forwarded-host"), "renamed.example.test");
}

fn credentials_come_from_file_token_or_token_file(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let token = site.control.token(&tunnel);
    let file = site.write("token", &format!("{token}\n"));
    for credentials in [
        Credentials::File(tunnel.credentials.clone()),
        Credentials::Token(token.clone()),
        Credentials::TokenFile(file),
    ] {
        let mut connector = site
            .connector(&tunnel)
            .credentials(credentials)
            .run_flags(["--url", &nginx.url()])
            .start();
        connector.wait_connections(4);
        assert_eq!(visit(&site, HOST, "/").text(), "served by nginx\n");
        assert!(!connector.process.log().contains(&token), "a token is a secret");
        assert!(connector.process.terminate(deadline::STEP).success());
    }
    let bad = site
        .connector(&tunnel)
        .credentials(Credentials::Token("bm90IGEgdG9rZW4=".to_owned()));
    let folder = tempfile::tempdir().expect("a temp dir");
    let mut process = bad.spawn(folder.path());
    assert_eq!(
        process.wait_exit(deadline::STEP).code(),
        Some(255),
        "{}",
        process.log()
    );
    process.wait_line("Provided Tunnel token is not valid.", deadline::STEP);
}

fn ready_healthcheck_and_metrics_answer(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &nginx.url());
    let (ready, id) = connector.ready().expect("an answer");
    assert_eq!(ready, 4);
    assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
    for _ in 0..10 {
        assert_eq!(site.visit("/status/404").run().status, 404);
    }
    deadline::until_true("the connector to count", deadline::STEP, || {
        let metrics = connector.metrics();
        metrics.sum("cloudflared_tunnel_total_requests", &[]) >= 10.0
            && metrics.sum("connector_responses_total", &[("class", "4xx")]) >= 10.0
            && metrics.sum("cloudflared_tunnel_response_by_code", &[("status_code", "404")]) >= 10.0
            && (metrics.sum("cloudflared_tunnel_ha_connections", &[]) - 4.0).abs() < 0.5
    });
    the_numbers_of_a_stock_connector_are_there(&connector);
    let address = connector.metrics_address().to_string();
    let tool = |address: &str| site.control.try_run(["--metrics", address, "ready"]);
    assert!(tool(&address).status.success());
    let nowhere = adit_tests::origin::refused_address().to_string();
    assert_eq!(tool(&nowhere).status.code(), Some(1));
}

/// Metrics that dashboards for cloudflared show, of a connector with four connections that has served.
fn the_numbers_of_a_stock_connector_are_there(connector: &Connector) {
    let register = [("handler", "registration"), ("method", "register_connection")];
    deadline::until_true("every connection to be sampled", deadline::STEP, || {
        let metrics = connector.metrics();
        let by_connection = |name: &str| metrics.by(name, "conn_index").len();
        [
            "quic_client_smoothed_rtt",
            "quic_client_min_rtt",
            "quic_client_mtu",
            "quic_client_congestion_window",
            "quic_client_receive_bytes",
            "quic_client_lost_packets",
        ]
        .into_iter()
        .all(|name| by_connection(name) == 4)
            && metrics.sum("quic_client_sent_bytes", &[]) > 1_000.0
            && metrics.sum("quic_client_received_frames", &[("frame_type", "Stream")]) >= 10.0
            && metrics.sum("cloudflared_config_local_config_pushes", &[]) > 0.5
    });
    let metrics = connector.metrics();
    let counts = [
        ("cloudflared_rpc_client_operations", &register[..], 4.0),
        ("cloudflared_rpc_client_failures", &register[..], 0.0),
        ("cloudflared_rpc_client_latency_secs_count", &register[..], 4.0),
        ("cloudflared_tunnel_tunnel_register_success", &[], 4.0),
        ("cloudflared_tunnel_tunnel_register_fail", &[], 0.0),
        ("tunnel_ids", &[], 4.0),
        ("quic_client_total_connections", &[], 4.0),
        ("quic_client_closed_connections", &[], 0.0),
    ];
    for (name, labels, wanted) in counts {
        let found = metrics.sum(name, labels);
        assert!((found - wanted).abs() < 0.5, "{name} is {found}, not {wanted}");
    }
    assert!(metrics.sum("process_resident_memory_bytes", &[]) > 1e6);
}

adit_tests::in_both_modes!(
    rules_choose_by_hostname_wildcard_and_path,
    https_origins_are_verified_as_configured,
    unix_sockets_and_host_headers,
    credentials_come_from_file_token_or_token_file,
    ready_healthcheck_and_metrics_answer,
);
