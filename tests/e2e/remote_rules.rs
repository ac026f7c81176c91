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

/// Waits until control knows this of its only replica.
fn wait_told(site: &Site, tunnel: &Tunnel, wanted: Value) {
    let path = format!("/accounts/{{account}}/cfd_tunnel/{}/connections", tunnel.id);
    deadline::until_true("control to know", deadline::STEP, || {
        let replicas = result(&site.control.rest("GET", &path).run());
        let replica = &replicas[0];
        json!({"version": replica["config_version"], "refused": replica["config_refused"]["version"]})
            == wanted
    });
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
    wait_told(&site, &tunnel, json!({"version": 2, "refused": 3}));
    let (_, replica) = first.ready().expect("an answer");
    let info = site.control.run(["info", "lab"]);
    let line = format!("Connector {replica} refused version 3 of the configuration and keeps version 2: ");
    assert!(
        info.contains(&line) && info.contains("nonsense is an invalid address"),
        "{info}"
    );
    let info: Value = serde_json::from_str(&site.control.run(["info", "-o", "json", "lab"])).expect("JSON");
    assert_eq!(info["conns"][0]["config_refused"]["version"], 3);

    put(&site, &tunnel, json!([{"service": "http_status:410"}]));
    wait_version(&first, 4.0);
    wait_told(&site, &tunnel, json!({"version": 4, "refused": null}));
    // One that comes later gets the newest version with its registration.
    let second = start();
    wait_version(&second, 4.0);
    assert_eq!(site.visit("/").run().status, 410);
}

fn a_push_that_is_lost_is_repeated(io: IoMode) {
    let mut site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let token = site.control.token(&tunnel);
    let start = |site: &Site| {
        let settings = site
            .connector(&tunnel)
            .credentials(Credentials::Token(token.clone()));
        let connector = settings.start();
        connector.wait_connections(4);
        connector
    };
    put(&site, &tunnel, json!([{"service": "http_status:418"}]));
    let first = start(&site);
    wait_version(&first, 1.0);
    drop(first);
    // The edge knows that there are rules, but nobody to get them from.
    site.control.process.kill();
    let second = start(&site);
    assert!((version(&second) + 1.0).abs() < 0.5);
    site.control.start_again();
    wait_version(&second, 1.0);
    assert_eq!(site.visit("/").run().status, 418);
    // Control has begun anew, and is told what is in force.
    wait_told(&site, &tunnel, json!({"version": 1, "refused": null}));
}

adit_tests::in_both_modes!(
    rules_are_pushed_to_running_connectors,
    a_push_that_is_lost_is_repeated
);
