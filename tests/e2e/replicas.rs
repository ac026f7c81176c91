//! Two replicas of one tunnel, each with an origin of its own, one of which dies.

use adit_tests::binary::IoMode;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::connector::Connector;
use adit_tests::site::{Site, SiteSettings};

/// Requests of one kind in one story.
const REQUESTS: u32 = 1_000;

/// A site with two replicas, whose transport is `protocol`, and the origin of each.
struct Pair {
    origins: [Nginx; 2],
    site: Site,
    _connectors: [Connector; 2],
}

impl Pair {
    fn start(settings: SiteSettings, protocol: &str, keys: &str) -> Self {
        let origins = [Nginx::start(), Nginx::start()];
        for (number, origin) in origins.iter().enumerate() {
            std::fs::write(origin.root().join("who"), number.to_string()).expect("a fresh file");
        }
        let site = settings.start();
        let tunnel = site.tunnel("lab");
        let connectors = [0, 1].map(|number: usize| {
            let rule = format!(
                "  - service: {}\n    originRequest: {keys}\n",
                origins[number].url()
            );
            let connector = site.connector(&tunnel).ingress(&rule);
            let connector = connector.run_flags(["--protocol", protocol]).start();
            connector.wait_connections(4);
            connector
        });
        site.wait_served();
        Self {
            origins,
            site,
            _connectors: connectors,
        }
    }

    /// How many of so many visits each origin answers.
    fn asked(&self, times: usize) -> [usize; 2] {
        let mut counts = [0; 2];
        for _ in 0..times {
            let answer = self.site.visit("/who").run();
            assert_eq!(answer.status, 200, "{answer:?}");
            let who: usize = answer.text().parse().expect("a number");
            counts[who] += 1;
        }
        counts
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

/// No request reaches the dead origin, so all of them go to the other replica, whatever their method.
fn no_request_fails_for_a_dead_origin(io: IoMode, protocol: &str) {
    let mut pair = Pair::start(SiteSettings::new(io).cores(2), protocol, "{}");
    let counts = pair.asked(40);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    pair.origins[0].kill();
    pair.load();
    assert_eq!(pair.asked(10), [0, 10]);
    assert!(pair.site.edge.metrics().sum("edge_exchange_retries_total", &[]) >= 1.0);
}

fn over_quic(io: IoMode) {
    no_request_fails_for_a_dead_origin(io, "quic");
}

fn over_http2(io: IoMode) {
    no_request_fails_for_a_dead_origin(io, "http2");
}

adit_tests::in_both_modes!(over_quic, over_http2);
