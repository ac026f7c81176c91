//! Nobody takes the edge from the others: memory is refused in time, told, and back when its users have left.

use std::time::Duration;

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::curl::{Curl, Response};
use adit_tests::visitor::raw::Raw;

/// Time in which freed memory is available again. The aim is 2 s; a machine that is busy with other tests
/// takes longer.
const RECOVERY: Duration = Duration::from_secs(6);

fn scene(io: IoMode, limits: &str) -> (Scripted, Site, Connector) {
    let settings = SiteSettings::new(io).edge_lines(&format!("limits: {{{limits}}}\n"));
    let (origin, site) = (Scripted::start(), settings.start());
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &origin.url());
    (origin, site, connector)
}

fn ready(site: &Site) -> Response {
    Curl::get(&format!("http://{}/ready", site.edge.addresses.admin)).run()
}

/// What holds the memory here is in no exchange, so that only the resident memory tells.
fn memory_is_back_when_its_users_have_left(io: IoMode) {
    let (_origin, site, _connector) = scene(io, "memory: 64MiB");
    assert_eq!(ready(&site).status, 200);
    let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {}", "x".repeat(30_000));
    let crowd: Vec<_> = (0..2_500)
        .map(|_| {
            let mut visitor = Raw::connect(site.edge.http());
            visitor.send(&head);
            visitor
        })
        .collect();
    deadline::until_true("visitors to be refused", deadline::STEP, || {
        site.visit("/seen").run().status == 503
    });
    let told = ready(&site);
    assert_eq!(told.status, 503, "{told:?}");
    assert!(
        told.text().contains("resident memory is above limits.memory"),
        "{told:?}"
    );
    let reason = [("reason", "resident")];
    assert!(site.edge.metrics().sum("edge_memory_refused_total", &reason) >= 1.0);

    drop(crowd);
    deadline::until_true("visitors to be served again", RECOVERY, || {
        site.visit("/seen").run().status == 200
    });
    deadline::until_true("the edge to be ready again", RECOVERY, || {
        ready(&site).status == 200
    });
}

/// Slow bodies of one address take its share, and others are served beside them. They are ended while they
/// keep room from their own address.
fn slow_bodies_take_no_more_than_the_share_of_their_address(io: IoMode) {
    let (origin, site, _connector) = scene(io, "memory: 128MiB, exchanges-per-address: 200");
    let mut slow: Vec<_> = (0..200)
        .map(|_| {
            let mut visitor = Raw::connect(site.edge.http());
            visitor.send(format!(
                "POST /digest HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
            ));
            visitor
        })
        .collect();
    origin.wait_mark("/digest", 200, deadline::STEP);
    let refused = site.visit("/seen").header("Accept: application/json").run();
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.text().contains("\"visitor-share\""), "{refused:?}");
    for _ in 0..20 {
        let other = site.visit("/seen").arg("--interface").arg("127.0.0.2").run();
        assert_eq!(other.status, 200, "{other:?}");
    }
    assert_eq!(ready(&site).status, 200);

    // After 20 s of waiting they are too slow, until half of the share is free.
    let ended = slow
        .swap_remove(0)
        .read_until("\r\n\r\n", Duration::from_secs(60));
    let was_ended = ended.starts_with("HTTP/1.1 408");
    deadline::until_true("room for the address", Duration::from_secs(60), || {
        site.visit("/seen").run().status == 200
    });
    let metrics = site.edge.metrics();
    let too_slow = metrics.sum("edge_exchange_errors_total", &[("code", "body-too-slow")]);
    assert!(was_ended || too_slow >= 1.0, "{ended}");
    // Half of the share is 100; requests of this test beside them take room as well.
    assert!(too_slow <= 110.0, "{too_slow} were ended");
    assert!(metrics.sum("edge_exchange_errors_total", &[("code", "visitor-share")]) >= 1.0);
}

fn an_address_has_so_many_connections(io: IoMode) {
    let (_origin, site, _connector) = scene(io, "connections-per-address: 20");
    let crowd: Vec<_> = (0..20).map(|_| Raw::connect(site.edge.http())).collect();
    deadline::until_true("the address to be refused", deadline::STEP, || {
        site.visit("/seen").run().exit != 0
    });
    let other = site.visit("/seen").arg("--interface").arg("127.0.0.2").run();
    assert_eq!(other.status, 200, "{other:?}");
    let refused = site
        .edge
        .metrics()
        .sum("edge_address_connections_refused_total", &[]);
    assert!(refused >= 1.0);
    drop(crowd);
    deadline::until_true("the address to be served again", deadline::STEP, || {
        site.visit("/seen").run().status == 200
    });
}

adit_tests::in_both_modes!(
    memory_is_back_when_its_users_have_left,
    slow_bodies_take_no_more_than_the_share_of_their_address,
    an_address_has_so_many_connections,
);
