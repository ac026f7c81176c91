//! Nobody takes the edge from the others: memory is refused in time, told, and back when its users have left.

use std::time::{Duration, Instant};

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::curl::{Curl, Response};
use adit_tests::visitor::raw::Raw;

/// Within what freed memory is available again. The aim is 2 s; a machine that is busy with other tests takes longer.
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
    let left = Instant::now();
    deadline::until_true("visitors to be served again", RECOVERY, || {
        site.visit("/seen").run().status == 200
    });
    println!("served again after {:?}", left.elapsed());
    deadline::until_true("the edge to be ready again", RECOVERY, || {
        ready(&site).status == 200
    });
}

adit_tests::in_both_modes!(memory_is_back_when_its_users_have_left);
