//! Two replicas of one tunnel, each with an origin of its own, one of which dies.

use std::path::PathBuf;

use adit_proto::exchange::error_code::ErrorCode;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::connector::Connector;
use adit_tests::site::{Site, SiteSettings, error_code};
use adit_tests::visitor::curl::Curl;

/// Requests of one kind in one story.
const REQUESTS: u32 = 1_000;

/// A site with two replicas, whose transport is `protocol`, and the origin of each.
struct Pair {
    origins: [Nginx; 2],
    site: Site,
    connectors: [Connector; 2],
}

impl Pair {
    fn start(settings: SiteSettings, protocol: &str) -> Self {
        Self::with_keys(settings, protocol, "{}")
    }

    /// The same with `keys` in the `originRequest` of each connector.
    fn with_keys(settings: SiteSettings, protocol: &str, keys: &str) -> Self {
        let rule = |url: &str| format!("  - service: {url}\n    originRequest: {keys}\n");
        Self::with_rules(settings, protocol, rule)
    }

    /// The same with the `ingress` that `rules` makes of the origin's URL.
    fn with_rules(settings: SiteSettings, protocol: &str, rules: impl Fn(&str) -> String) -> Self {
        let origins = [Nginx::start(), Nginx::start()];
        for (number, origin) in origins.iter().enumerate() {
            std::fs::write(origin.root().join("who"), number.to_string()).expect("a fresh file");
            std::fs::write(sign(origin), "").expect("a fresh file");
        }
        let site = settings.start();
        let tunnel = site.tunnel("lab");
        let connectors = [0, 1].map(|number: usize| {
            let rules = rules(&origins[number].url());
            let connector = site.connector(&tunnel).ingress(&rules);
            let connector = connector
                .run_flags(["--protocol", protocol, "--idle-ping-interval", "2s"])
                .start();
            connector.wait_connections(4);
            connector
        });
        site.wait_served();
        Self {
            origins,
            site,
            connectors,
        }
    }

    /// How many of so many visits each origin answers.
    fn asked(&self, times: usize) -> [usize; 2] {
        self.asked_for("/who", times)
    }

    fn asked_for(&self, path: &str, times: usize) -> [usize; 2] {
        let mut counts = [0; 2];
        for _ in 0..times {
            let answer = self.site.visit(path).run();
            assert_eq!(answer.status, 200, "{answer:?}");
            let who: usize = answer.text().parse().expect("a number");
            counts[who] += 1;
        }
        counts
    }

    /// A counter of the edge, over all cores and labels.
    fn edge(&self, name: &str) -> f64 {
        self.site.edge.metrics().sum(name, &[])
    }

    /// Requests over several connections; none may fail.
    fn load(&self) {
        let form = self.site.write("form", "some=form&of=a+few&bytes");
        for (method, load) in [
            ("GET", self.site.load("/h")),
            ("POST", self.site.load("/discard").post(&form)),
        ] {
            let load = load.width(8, 1).requests(REQUESTS);
            assert_eq!(
                (load.succeeded, load.failed),
                (u64::from(REQUESTS), 0),
                "{method}: {}",
                load.text
            );
        }
    }
}

/// What the checks of an origin ask for.
fn sign(origin: &Nginx) -> PathBuf {
    origin.root().join("up")
}

/// `/ready` of a connector: its status and what it says is down.
fn ready(connector: &Connector, query: &str) -> (u16, serde_json::Value) {
    let answer = Curl::get(&format!("http://{}/ready{query}", connector.metrics_address())).run();
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    (answer.status, body["originsDown"].clone())
}

/// No request reaches the dead origin, so all of them go to the other replica, whatever their method. Soon no
/// request goes to the dead one, but for one that tries it now and then. That one brings it back.
fn no_request_fails_for_a_dead_origin(io: IoMode, protocol: &str) {
    let settings = SiteSettings::new(io).cores(2);
    let settings = settings.edge_lines("ejection: {time: 500ms, time-max: 2s, slow-start: 1s}\n");
    let mut pair = Pair::start(settings, protocol);
    let counts = pair.asked(40);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    pair.origins[0].kill();
    pair.load();
    assert_eq!(pair.asked(10), [0, 10]);
    let (ejected, retried) = (
        pair.edge("edge_ejections_total"),
        pair.edge("edge_exchange_retries_total"),
    );
    assert!(ejected >= 1.0 && retried >= 1.0);
    // Every core may have had five failures before it heard of the other's, and as many under way.
    assert!(
        retried <= 100.0,
        "{retried} of {} requests were asked twice",
        2 * REQUESTS
    );
    // The gauge is a second old at most.
    deadline::until_true("one replica to be left out", deadline::STEP, || {
        pair.edge("edge_replicas_ejected") > 0.5
    });

    pair.origins[0].start_again();
    deadline::until_true("the replica to get its share", deadline::STEP, || {
        pair.asked(20)[0] >= 5
    });
    deadline::until_true("nobody to be left out", deadline::STEP, || {
        pair.edge("edge_replicas_ejected") < 0.5
    });
    pair.load();
}

fn over_quic(io: IoMode) {
    no_request_fails_for_a_dead_origin(io, "quic");
}

fn over_http2(io: IoMode) {
    no_request_fails_for_a_dead_origin(io, "http2");
}

/// With every origin dead all replicas are asked as before: an edge never leaves out the last one.
fn replicas_without_any_origin_are_asked_all_the_same(io: IoMode) {
    let settings = SiteSettings::new(io).cores(2);
    let settings = settings.edge_lines("ejection: {time: 500ms, time-max: 2s, slow-start: 1s}\n");
    let mut pair = Pair::start(settings, "quic");
    pair.origins.iter_mut().for_each(Nginx::kill);
    for _ in 0..40 {
        let answer = pair.site.visit("/who").run();
        assert_eq!(
            error_code(&answer),
            Some(ErrorCode::OriginUnreachable),
            "{answer:?}"
        );
    }
    assert!(pair.edge("edge_ejections_withheld_total") >= 1.0);
    pair.origins[1].start_again();
    // The one that is left out is a second choice, and the only one whose origin may live.
    for _ in 0..10 {
        let answer = pair.site.visit("/who").run();
        assert_eq!((answer.status, answer.text().as_str()), (200, "1"), "{answer:?}");
    }
}

/// Health checks fail before any exchange does. The replica says so and gets no more requests, on any core
/// and from an edge that starts anew, until it says that all is well. When both replicas say so, both get
/// requests as before.
fn a_replica_whose_checks_fail_is_left_out(io: IoMode, protocol: &str) {
    let keys = "{healthCheck: {path: /up, interval: 200ms, timeout: 2s, expectedStatus: 200}}";
    let settings = SiteSettings::new(io).cores(2);
    let mut pair = Pair::with_keys(settings, protocol, keys);
    let told_down = |pair: &Pair, count: f64| {
        deadline::until_true(&format!("{count} to be told down"), deadline::STEP, || {
            pair.edge("edge_replicas_told_down") == count
        });
    };
    assert_eq!(ready(&pair.connectors[0], ""), (200, serde_json::Value::Null));
    std::fs::remove_file(sign(&pair.origins[0])).expect("the sign");
    told_down(&pair, 1.0);
    assert_eq!(pair.asked(30), [0, 30]);
    let (status, down) = ready(&pair.connectors[0], "");
    assert_eq!(
        (status, down[0]["service"].as_str()),
        (503, Some(pair.origins[0].url().as_str())),
        "{down}"
    );
    assert_eq!(ready(&pair.connectors[0], "?origins=ignore").0, 200);
    assert_eq!(ready(&pair.connectors[1], "").0, 200);

    pair.site.edge.process.kill();
    pair.site.edge.start_again();
    // Connectors notice by their next PING, or as soon as they send anything.
    deadline::until_true("all connections to be back", deadline::STEP, || {
        pair.edge("edge_tunnel_connections") == 8.0
    });
    told_down(&pair, 1.0);
    assert_eq!(pair.asked(30), [0, 30]);
    assert_eq!(pair.edge("edge_ejections_total"), 0.0);

    std::fs::remove_file(sign(&pair.origins[1])).expect("the sign");
    told_down(&pair, 2.0);
    let counts = pair.asked(40);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    for origin in &pair.origins {
        std::fs::write(sign(origin), "").expect("the sign");
    }
    told_down(&pair, 0.0);
    let counts = pair.asked(40);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    pair.load();
}

/// A check fails of a rule for some paths. The replica gets no more requests for these, and those for other
/// paths as before.
fn a_rule_for_some_paths_whose_check_fails_takes_no_other_path_along(io: IoMode) {
    let checked = "{healthCheck: {path: /up, interval: 200ms, timeout: 2s, expectedStatus: 200}}";
    let pair = Pair::with_rules(SiteSettings::new(io).cores(2), "quic", |url| {
        format!("  - path: ^/api/\n    service: {url}\n    originRequest: {checked}\n  - service: {url}\n")
    });
    for (number, origin) in pair.origins.iter().enumerate() {
        std::fs::create_dir(origin.root().join("api")).expect("a fresh folder");
        std::fs::write(origin.root().join("api/who"), number.to_string()).expect("a fresh file");
    }
    std::fs::remove_file(sign(&pair.origins[0])).expect("the sign");
    deadline::until_true("one replica to be told down", deadline::STEP, || {
        pair.edge("edge_replicas_told_down") == 1.0
    });
    deadline::until_true("the other to get all for the path", deadline::STEP, || {
        pair.asked_for("/api/who", 20) == [0, 20]
    });
    let counts = pair.asked(40);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(pair.asked_for("/api/who", 20), [0, 20]);
}

fn checks_over_quic(io: IoMode) {
    a_replica_whose_checks_fail_is_left_out(io, "quic");
}

fn checks_over_http2(io: IoMode) {
    a_replica_whose_checks_fail_is_left_out(io, "http2");
}

adit_tests::in_both_modes!(
    checks_over_quic,
    checks_over_http2,
    a_rule_for_some_paths_whose_check_fails_takes_no_other_path_along,
    over_quic,
    over_http2,
    replicas_without_any_origin_are_asked_all_the_same,
);
