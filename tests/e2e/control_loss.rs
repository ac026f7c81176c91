//! Without control: visitors notice nothing, connectors still get in, and what control acknowledged is never
//! lost.

use std::time::{Duration, Instant};

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::connector::Credentials;
use adit_tests::site::control::result;
use adit_tests::site::edge::{Edge, EdgeSettings};
use adit_tests::site::{Site, SiteSettings};
use serde_json::{Value, json};

/// How long the load lasts: `ADIT_LOAD_SECONDS`, else what a run of all tests has time for.
fn load_time() -> Duration {
    let seconds = std::env::var("ADIT_LOAD_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

fn load_goes_on_while_control_is_killed_and_comes_back(io: IoMode) {
    let (nginx, mut site) = (Nginx::start(), SiteSettings::new(io).cores(2).start());
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &nginx.url());
    let load = site.load_tls("/h").width(8, 8).run_for(load_time());
    let mut plain = site.load("/h").width(8, 1).run_for(load_time());
    let mut kills = 0;
    while !plain.is_done() {
        site.control.process.kill();
        deadline::until_true("the edge to be alone", deadline::STEP, || {
            site.edge.metrics().sum("edge_control_attached", &[]) < 0.5
        });
        site.control.start_again();
        deadline::until_true("the edge to have control again", deadline::STEP, || {
            site.edge.metrics().sum("edge_control_attached", &[]) > 0.5
        });
        kills += 1;
    }
    for outcome in [load.finish(), plain.finish()] {
        assert_eq!(outcome.failed, 0, "{}", outcome.text);
        assert_eq!(outcome.done, outcome.succeeded, "{}", outcome.text);
        assert!(outcome.done > 100, "{}", outcome.text);
    }
    assert!(kills >= 1);
    connector.wait_connections(4);
    deadline::until_true("control to know the connections again", deadline::STEP, || {
        site.control.connection_count(&tunnel) == 4
    });
}

fn connectors_and_edges_come_and_go_without_control(io: IoMode) {
    let (nginx, mut site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut connector = site.serve(&tunnel, &nginx.url());
    site.control.process.kill();
    assert_eq!(site.visit("/").run().status, 200);
    // A known connector again, and another replica that the edge has never seen.
    connector.process.kill();
    connector.start_again();
    connector.wait_connections(4);
    let replica = site.connector(&tunnel).service(&nginx.url()).start();
    replica.wait_connections(4);
    site.wait_served();
    // The edge itself, from what lies on its disk.
    site.edge.process.kill();
    site.edge.start_again();
    deadline::until_true("the page", Duration::from_secs(40), || {
        site.visit("/").run().status == 200
    });
    connector.wait_connections(4);
    replica.wait_connections(4);
    // Being alone is no reason to trust a thief.
    let mut forged: Value =
        serde_json::from_slice(&std::fs::read(&tunnel.credentials).expect("credentials")).expect("JSON");
    forged["TunnelSecret"] = json!("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let forged = site.write("forged.json", &forged.to_string());
    let mut thief = site
        .connector(&tunnel)
        .credentials(Credentials::File(forged))
        .service("http_status:418")
        .start();
    thief.process.wait_line("Unauthorized", deadline::STEP);
    drop(thief);
    site.control.start_again();
    deadline::until_true("control to know all connections", deadline::STEP, || {
        site.control.connection_count(&tunnel) == 8
    });
}

/// Control is killed again and again while tunnels and routes are made. Whatever got a 200 is there
/// afterwards.
fn acknowledged_writes_survive_kill_dash_nine(io: IoMode) {
    let mut site = Site::start(io);
    let mut made: Vec<(String, String)> = Vec::new();
    for round in 0..6 {
        let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let mut writers: Vec<_> = (0..8)
            .map(|number| {
                let body = json!({"name": format!("r{round}n{number}"), "tunnel_secret": secret}).to_string();
                let post = site.control.rest("POST", "/accounts/{account}/cfd_tunnel");
                post.header("Content-Type: application/json")
                    .arg("-d")
                    .arg(body)
                    .start()
            })
            .collect();
        // The kill comes at another moment each round: when `round` of the eight writers are done.
        deadline::until_true("some writers to be done", deadline::STEP, || {
            writers
                .iter_mut()
                .map(|writer| u32::from(writer.is_done()))
                .sum::<u32>()
                >= round
        });
        site.control.process.kill();
        for writer in writers {
            let response = writer.finish();
            if response.status == 200 {
                let tunnel = result(&response);
                let field = |name: &str| tunnel[name].as_str().expect("a string").to_owned();
                made.push((field("id"), field("name")));
            }
        }
        site.control.start_again();
        for (id, name) in &made {
            let object = result(
                &site
                    .control
                    .rest("GET", &format!("/accounts/{{account}}/cfd_tunnel/{id}"))
                    .run(),
            );
            assert_eq!(
                object["name"],
                json!(name),
                "acknowledged in or before round {round}"
            );
        }
    }
    assert!(made.len() >= 10, "only {} writes were acknowledged", made.len());
    // Routes too: the edge learns each acknowledged one after the restart.
    let (id, _) = &made[0];
    site.control.run(["route", "dns", id, "kept.example.test"]);
    site.control.process.kill();
    site.control.start_again();
    deadline::until_true("the route", deadline::STEP, || {
        site.visit_host("kept.example.test", "/").run().status == 503
    });
}

/// Two edges of one name take each other's place at control: each says so once, and comes back ever later.
fn two_edges_of_one_name_say_so_once_and_let_go_of_each_other(io: IoMode) {
    const PLAIN: &str = "give each edge its own `name`";
    let mut site = Site::start(io);
    let start = Instant::now();
    let mut twin = Edge::start(EdgeSettings {
        folder: site.folder().join("twin"),
        ..site.edge.settings().clone()
    });
    site.edge.process.wait_line(PLAIN, deadline::STEP);
    twin.process.wait_line(PLAIN, deadline::STEP);
    // After the twin has come, an edge takes its place again after pauses of 2, 2, 4 and 4 s, each less up to
    // a half.
    deadline::until_true("four more changes of place", deadline::STEP, || {
        let attempts = |edge: &Edge| edge.metrics().sum("edge_control_attempts_total", &[]);
        attempts(&site.edge) + attempts(&twin) > 5.5
    });
    assert!(start.elapsed() > Duration::from_secs(6), "{:?}", start.elapsed());
    for edge in [&site.edge, &twin] {
        let log = edge.process.log();
        assert_eq!(log.matches(PLAIN).count(), 1, "{log}");
        assert!(
            log.matches("control").count() <= 6,
            "the link's ups and downs are told once: {log}"
        );
    }
    let log = site.control.process.log();
    assert_eq!(log.matches("two edges have one name").count(), 1, "{log}");
}

adit_tests::in_both_modes!(
    two_edges_of_one_name_say_so_once_and_let_go_of_each_other,
    load_goes_on_while_control_is_killed_and_comes_back,
    connectors_and_edges_come_and_go_without_control,
    acknowledged_writes_survive_kill_dash_nine,
);
