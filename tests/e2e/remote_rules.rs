//! Rules that control holds: stored by its API, pushed by the edge, applied by connectors while they serve.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::connector::{Connector, Credentials};
use adit_tests::site::control::{Tunnel, result};
use adit_tests::site::{HOST, Site};
use serde_json::{Value, json};

fn path(tunnel: &Tunnel) -> String {
    format!("/accounts/{{account}}/cfd_tunnel/{}/configurations", tunnel.id)
}

/// Stores the next version.
fn put(site: &Site, tunnel: &Tunnel, ingress: Value) -> Value {
    let body = json!({"config": {"ingress": ingress}}).to_string();
    let put = site
        .control
        .rest("PUT", &path(tunnel))
        .header("Content-Type: application/json");
    result(&put.arg("-d").arg(body).run())
}

fn version(connector: &Connector) -> f64 {
    connector
        .metrics()
        .sum("cloudflared_orchestration_config_version", &[])
}

fn wait_version(connector: &Connector, wanted: f64) {
    deadline::until_true(&format!("version {wanted}"), deadline::STEP, || {
        (version(connector) - wanted).abs() < 0.5
    });
}

fn rules_are_pushed_to_running_connectors(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let token = site.control.token(&tunnel);
    let start = || {
        let settings = site
            .connector(&tunnel)
            .credentials(Credentials::Token(token.clone()));
        let connector = settings.start();
        connector.wait_connections(4);
        connector
    };
    let first = start();
    // Without rules anywhere, everything is unavailable.
    deadline::until_true("the connector's own answer", deadline::STEP, || {
        let answer = site.visit("/").run();
        answer.status == 503 && !adit_tests::site::is_error_page(&answer)
    });
    let stored = put(
        &site,
        &tunnel,
        json!([{"hostname": HOST, "service": origin.url()}, {"service": "http_status:404"}]),
    );
    assert_eq!(
        (&stored["version"], &stored["source"]),
        (&json!(1), &json!("remote"))
    );
    wait_version(&first, 1.0);
    let held = site.visit("/hold?gate=end").start();
    origin.wait_mark("end", 1, deadline::STEP);

    // A second version, while an exchange of the first one runs.
    put(
        &site,
        &tunnel,
        json!([{"service": "http_status:418", "originRequest": {"connectTimeout": 3}}]),
    );
    wait_version(&first, 2.0);
    assert_eq!(site.visit("/").run().status, 418);
    origin.open("end", 1);
    assert_eq!(held.finish().text(), "held");
    assert_eq!(first.ready().map(|(count, _)| count), Some(4));

    // One that connectors refuse: the rules in force stay.
    put(&site, &tunnel, json!([{"service": "nonsense"}]));
    deadline::until_true("the connector to refuse", deadline::STEP, || {
        first.process.log().contains("nonsense is an invalid address")
    });
    assert_eq!(site.visit("/").run().status, 418);
    wait_version(&first, 2.0);

    put(&site, &tunnel, json!([{"service": "http_status:410"}]));
    wait_version(&first, 4.0);
    // One that comes later gets the newest version with its registration.
    let second = start();
    wait_version(&second, 4.0);
    assert_eq!(site.visit("/").run().status, 410);
}

adit_tests::in_both_modes!(rules_are_pushed_to_running_connectors);
