//! `adit tail`: an operator reads a connector's log from afar, and nobody else does.

use std::io::Write as _;
use std::net::TcpStream;

use adit_proto::exchange::error_code::ErrorCode;
use adit_tests::binary::{self, IoMode};
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::process::{Process, command};
use adit_tests::site::control::Tunnel;
use adit_tests::site::{HOST, Site, SiteSettings, error_code};
use adit_tests::visitor::curl::Curl;
use adit_tests::visitor::tail::{EDGE_LINES, HOSTNAME, adit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What connectors take for their own service.
const CONNECTOR_HOSTNAME: &str = "management.argotunnel.com";

fn start(io: IoMode) -> (Site, Tunnel) {
    let lines = format!("{EDGE_LINES}access-log: access.log\n");
    let site = SiteSettings::new(io).edge_lines(&lines).start();
    let tunnel = site.tunnel("lab");
    (site, tunnel)
}

/// A request for the management service.
fn ask(site: &Site, path: &str) -> Curl {
    Curl::get(&format!("https://{HOSTNAME}{path}"))
        .connect_to(site.edge.https())
        .trust(&site.certificate.certificate)
}

fn token(site: &Site, tunnel: &Tunnel, resource: &str) -> String {
    let path = format!(
        "/accounts/{{account}}/cfd_tunnel/{}/management/{resource}",
        tunnel.id
    );
    let issued = adit_tests::site::control::result(&site.control.rest("POST", &path).run());
    issued.as_str().expect("a token").to_owned()
}

fn an_operator_follows_the_log(io: IoMode) {
    let (origin, (site, tunnel)) = (Nginx::start(), start(io));
    let connector = site.serve(&tunnel, &origin.url());
    let tail = |flags: &[&str]| Process::start("tail", adit(&site, binary::adit()).args(flags).arg("lab"));
    let mut all = tail(&[]);
    // The log itself tells when the stream begins.
    connector_says(&connector, "Streaming logs to a management session", 1);
    assert_eq!(site.visit("/?secret=1").run().status, 200);
    // The connector logs from `info` on; the stream shows more.
    let line = all.wait_line("GET request", deadline::STEP);
    assert!(
        line.contains(" debug http GET request {") && line.contains(HOST) && line.contains("\"path\":\"/\""),
        "{line}"
    );
    all.wait_line("Response", deadline::STEP);
    assert!(!all.log().contains("secret=1") && !connector.process.log().contains("GET request"));
    // One name for the request on both sides, and the rule it met.
    let named = line
        .split("\"requestID\":\"")
        .nth(1)
        .and_then(|rest| rest.get(..32));
    let named = named.unwrap_or_else(|| panic!("no id: {line}"));
    let log = site.edge.folder().join("access.log");
    deadline::until_true("the same name in the access log", deadline::STEP, || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains(named))
    });
    assert!(line.contains("\"ingressRule\":0"), "{line}");

    // Who goes away in the middle of an upload is no error of anybody's here.
    let mut visitor = TcpStream::connect(site.edge.http()).expect("a connection");
    write!(
        visitor,
        "POST /discard HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\nabc"
    )
    .expect("a head");
    // Before that the connector would hear of nothing but the end of a stream.
    all.wait_line("POST request", deadline::STEP);
    drop(visitor);
    let line = all.wait_line("Request cancelled", deadline::STEP);
    assert!(
        line.contains(" debug http ") && line.contains("requestID"),
        "{line}"
    );
    assert!(!connector.process.log().contains("Request failed"));

    // A later stream of the same operator takes the place of the first.
    let (_, replica) = connector.ready().expect("an answer");
    let mut json = tail(&["--output", "json", "--event", "http", "--connector-id", &replica]);
    assert!(!all.wait_exit(deadline::STEP).success());
    assert!(all.log().contains("limit exceeded for streaming sessions"));
    assert_eq!(site.visit("/").run().status, 200);
    let line = json.wait_line("GET request", deadline::STEP);
    let object = line.find('{').map_or("", |start| &line[start..]);
    let line: serde_json::Value = serde_json::from_str(object).expect("an object");
    assert_eq!(
        (&line["event"], &line["level"]),
        (&"http".into(), &"debug".into())
    );
    assert!(json.terminate(deadline::STEP).success());

    let mut grave = tail(&["--level", "warn"]);
    connector_says(&connector, "Streaming logs to a management session", 3);
    assert_eq!(site.visit("/").run().status, 200);
    drop(origin);
    deadline::until_true("the origin to be gone", deadline::STEP, || {
        site.visit("/").run().status == 502
    });
    let line = grave.wait_line(" error http Request failed", deadline::STEP);
    assert!(
        line.contains("\"requestID\":\"") && line.contains("\"ingressRule\":0"),
        "{line}"
    );
    assert!(!grave.log().contains("GET request"));
}

#[track_caller]
fn connector_says(connector: &adit_tests::site::connector::Connector, text: &str, times: usize) {
    deadline::until_true(text, deadline::STEP, || {
        connector.process.log().matches(text).count() >= times
    });
}

fn only_a_token_of_control_opens_the_service(io: IoMode) {
    let (site, tunnel) = start(io);
    let connector = site.serve(&tunnel, "http_status:204");
    let (_, replica) = connector.ready().expect("an answer");
    let logs = token(&site, &tunnel, "logs");
    let details = token(&site, &tunnel, "host_details");
    assert_eq!(
        ask(&site, &format!("/ping?access_token={logs}")).run().status,
        200
    );
    let told = ask(
        &site,
        &format!("/host_details?access_token={details}&connector_id={replica}"),
    )
    .run();
    assert!(told.status == 200 && told.text().contains(&replica), "{told:?}");
    let told: serde_json::Value = serde_json::from_str(&told.text()).expect("an object");
    let ip: std::net::IpAddr = told["ip"]
        .as_str()
        .and_then(|ip| ip.parse().ok())
        .expect("an address");
    assert!(!ip.is_unspecified(), "{ip}");
    let claims = logs
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: serde_json::Value = serde_json::from_slice(&claims.expect("claims")).expect("an object");
    assert_eq!(claims["res"], serde_json::json!(["logs", "ping"]));
    let not_websocket = ask(&site, &format!("/logs?access_token={logs}")).run();
    assert_eq!(not_websocket.status, 426);

    // Another signature, other claims, none, or what the token does not open.
    let mut parts: Vec<&str> = logs.split('.').collect();
    let other: Vec<&str> = details.split('.').collect();
    parts[2] = other[2];
    let forged = parts.join(".");
    for path in [
        "/ping".to_owned(),
        format!("/ping?access_token={forged}"),
        format!("/host_details?access_token={logs}"),
        format!("/metrics?access_token={details}"),
    ] {
        let answer = ask(&site, &path).run();
        assert_eq!(
            error_code(&answer),
            Some(ErrorCode::ManagementToken),
            "{path}: {answer:?}"
        );
    }
    let clear = site
        .visit_host(HOSTNAME, &format!("/ping?access_token={logs}"))
        .run();
    assert_eq!(error_code(&clear), Some(ErrorCode::ManagementToken));
    let stranger = uuid::Uuid::from_u128(7);
    let absent = ask(
        &site,
        &format!("/ping?access_token={logs}&connector_id={stranger}"),
    )
    .run();
    assert_eq!(
        (absent.status, error_code(&absent)),
        (530, Some(ErrorCode::ManagementUnreachable))
    );
}

fn no_route_leads_around_the_gate(io: IoMode) {
    let (site, tunnel) = start(io);
    let connector = site.serve(&tunnel, "http_status:204");
    let logs = token(&site, &tunnel, "logs");
    let details = token(&site, &tunnel, "host_details");
    site.control.route(&tunnel, CONNECTOR_HOSTNAME);
    site.control.route(&tunnel, "*.argotunnel.com");
    deadline::until_true("the routes", deadline::STEP, || {
        site.visit_host("other.argotunnel.com", "/").run().status == 204
    });
    for host in [
        CONNECTOR_HOSTNAME,
        "Management.ArgoTunnel.com.",
        "management.argotunnel.com:80",
    ] {
        let answer = site.visit("/ping").host(host).run();
        assert_eq!(
            error_code(&answer),
            Some(ErrorCode::HostnameUnknown),
            "{host}: {answer:?}"
        );
    }
    let told = ask(&site, &format!("/host_details?access_token={details}")).run();
    assert_eq!(told.status, 200);
    let log = site.edge.folder().join("access.log");
    let logged = || std::fs::read_to_string(&log).expect("an access log");
    deadline::until_true("the request's line", deadline::STEP, || {
        logged().contains("\"/host_details\"")
    });
    let said = logged() + &connector.process.log() + &site.edge.process.log();
    assert!(!said.contains("access_token"), "{said}");

    // A deleted tunnel's tokens are worth nothing.
    drop(connector);
    deadline::until_true("the tunnel to be deleted", deadline::STEP, || {
        site.control.try_run(["delete", "-f", "lab"]).status.success()
    });
    deadline::until_true("the token to be refused", deadline::STEP, || {
        error_code(&ask(&site, &format!("/ping?access_token={logs}")).run())
            == Some(ErrorCode::ManagementToken)
    });
}

fn a_token_goes_to_no_host_that_was_not_named(io: IoMode) {
    let (site, _) = start(io);
    let mut tail = command(binary::adit());
    tail.env("HOME", site.folder())
        .args(["--api-url", site.control.api.as_str(), "tail", "--origincert"])
        .arg(site.control.origin_cert())
        .arg("lab");
    let done = binary::output(&mut tail);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("--management-hostname is needed"), "{said}");
}

adit_tests::in_both_modes!(
    a_token_goes_to_no_host_that_was_not_named,
    an_operator_follows_the_log,
    only_a_token_of_control_opens_the_service,
    no_route_leads_around_the_gate,
);
