//! Two stock replicas of one tunnel, each with an origin of its own, one of which dies.
//!
//! Over QUIC a stock connector says why it has no answer, and nobody notices. Over HTTP/2 it has no words: a
//! request that must not be sent twice fails until the edge leaves the replica out.

use adit_proto::exchange::error_code::ErrorCode;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::connector::{Connector, Program};
use adit_tests::site::{Site, SiteSettings, error_code};
use adit_tests::visitor::curl::Response;

use crate::{Over, over_both};

/// Visits that reach both of two replicas but for a chance of one in 2^40.
const VISITS: u32 = 40;

/// Failures in a row after which an edge leaves a replica out, by default.
const FAILURES_IN_A_ROW: usize = 5;

/// A site with two stock replicas and the origin of each.
struct Pair {
    origins: [Nginx; 2],
    site: Site,
    _connectors: [Connector; 2],
}

impl Pair {
    fn start(stock: &std::path::Path, io: IoMode, over: Over) -> Self {
        let origins = [Nginx::start(), Nginx::start()];
        for (number, origin) in origins.iter().enumerate() {
            std::fs::write(origin.root().join("who"), number.to_string()).expect("a fresh file");
        }
        // Whoever is left out stays so for longer than the story takes.
        let settings = SiteSettings::new(io).edge_lines("ejection: {time: 10m, time-max: 10m}\n");
        let site = settings.start();
        let tunnel = site.tunnel("lab");
        let connectors = [0, 1].map(|number: usize| {
            let connector = site
                .connector_of(Program::Stock(stock.to_path_buf()), &tunnel)
                .run_flags(over.flags())
                .service(&origins[number].url())
                .start();
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

    /// How many of [`VISITS`] each origin answers. None fails.
    fn asked(&self) -> [u32; 2] {
        let mut counts = [0; 2];
        for _ in 0..VISITS {
            let answer = self.site.visit("/who").run();
            assert_eq!(answer.status, 200, "{answer:?}");
            let who: usize = answer.text().parse().expect("a number");
            counts[who] += 1;
        }
        counts
    }

    fn post(&self) -> Response {
        self.site.visit("/discard").post("some=form").run()
    }

    /// A counter of the edge, over all cores and labels.
    fn edge(&self, name: &str) -> f64 {
        self.site.edge.metrics().sum(name, &[])
    }
}

/// Requests that may be sent twice go to the other replica, which soon gets all of them.
fn no_get_fails_for_a_dead_origin(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("no_get_fails_for_a_dead_origin") else {
        return;
    };
    let mut pair = Pair::start(&stock, io, over);
    let counts = pair.asked();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    pair.origins[0].kill();
    assert_eq!(pair.asked(), [0, VISITS]);
    assert!(pair.edge("edge_exchange_retries_total") >= 1.0);
    assert_eq!(pair.edge("edge_ejections_total"), 1.0);
    let retries = pair.edge("edge_exchange_retries_total");
    assert_eq!(pair.asked(), [0, VISITS]);
    assert_eq!(pair.edge("edge_exchange_retries_total"), retries);
}

/// A `POST` goes to the other replica over QUIC, where the dialler's words prove that no origin has seen it.
/// Over HTTP/2 it fails, but no more often than it takes to leave the replica out.
fn posts_fail_only_where_the_connector_has_no_words(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("posts_fail_only_where_the_connector_has_no_words") else {
        return;
    };
    let mut pair = Pair::start(&stock, io, over);
    pair.origins[0].kill();
    // From then on the connector keeps no connection to the origin that it does not know to be closed.
    deadline::until_true("a visit that goes to the dead origin", deadline::STEP, || {
        let answer = pair.site.visit("/who").run();
        assert_eq!(answer.status, 200, "{answer:?}");
        pair.edge("edge_exchange_retries_total") >= 1.0
    });
    let mut failed = 0;
    for _ in 0..VISITS {
        let answer = pair.post();
        if answer.status != 200 {
            assert_eq!(
                error_code(&answer),
                Some(ErrorCode::OriginUnreachable),
                "{answer:?}"
            );
            failed += 1;
        }
    }
    match over {
        Over::Quic => assert_eq!(failed, 0),
        Over::Http2 => assert!((1..FAILURES_IN_A_ROW).contains(&failed), "{failed}"),
    }
    assert_eq!(pair.edge("edge_ejections_total"), 1.0);
    assert_eq!(pair.post().status, 200);
    assert_eq!(pair.asked(), [0, VISITS]);
}

over_both!(
    no_get_fails_for_a_dead_origin,
    posts_fail_only_where_the_connector_has_no_words
);
