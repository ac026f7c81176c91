//! TLS that ends at the origin: the edge reads the name in the ClientHello and carries the rest as it comes.

use std::time::Duration;

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::{HOST, Site, SiteSettings, is_error_page};
use adit_tests::visitor::curl::Curl;
use adit_tests::visitor::raw::Raw;
use serde_json::Value;

/// The name in nginx's certificate.
const ORIGIN: &str = "origin.test";

/// Below a name that is listed with a wildcard.
const WILD: &str = "a.wild.example.test";

/// A site that passes [`ORIGIN`] and [`WILD`] through to nginx and ends TLS for everybody else.
fn start(io: IoMode) -> (Nginx, Site, adit_tests::site::connector::Connector) {
    let nginx = Nginx::start();
    let lines = format!(
        "access-log: access.log\npassthrough: [{ORIGIN}, {{hostname: '*.wild.example.test', send-proxy: v2}}, dead.example.test]\n"
    );
    let site = SiteSettings::new(io).cores(2).edge_lines(&lines).start();
    let tunnel = site.tunnel("lab");
    for host in [ORIGIN, WILD] {
        site.control.route(&tunnel, host);
    }
    let rules = format!(
        "  - hostname: {ORIGIN}\n    service: tcp://{}\n  - hostname: {WILD}\n    service: tcp://{}\n  - service: {}\n",
        nginx.tls_address(),
        nginx.proxied_tls(),
        nginx.url(),
    );
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    site.wait_served();
    deadline::until_true("the last route", deadline::STEP, || {
        !is_error_page(&site.visit_host(WILD, "/").run())
            && !is_error_page(&site.visit_host(ORIGIN, "/").run())
    });
    (nginx, site, connector)
}

fn visit(site: &Site, host: &str, path: &str) -> Curl {
    Curl::get(&format!("https://{host}{path}")).connect_to(site.edge.https())
}

fn the_certificate_is_the_origins_own(io: IoMode) {
    let (nginx, site, _connector) = start(io);
    let ours = &site.certificate.certificate;
    let theirs = &nginx.certificate().certificate;
    for _ in 0..3 {
        let page = visit(&site, ORIGIN, "/").trust(theirs).run();
        assert_eq!((page.status, page.text().as_str()), (200, "served by nginx\n"));
    }
    assert_eq!(
        visit(&site, ORIGIN, "/tell").trust(theirs).run().line("sni"),
        ORIGIN
    );
    // Nobody but the origin has the key: trusting the edge does not help.
    assert_eq!(visit(&site, ORIGIN, "/").trust(ours).run().exit, 60);
    let bulk = vec![b'x'; 3_000_000];
    let stored = visit(&site, ORIGIN, "/bulk")
        .trust(theirs)
        .method("PUT")
        .post(bulk.clone())
        .run();
    assert_eq!(stored.status, 201);
    assert!(visit(&site, ORIGIN, "/bulk").trust(theirs).run().body == bulk);

    // Everybody else's TLS ends here, beside it, with and without a name.
    let page = site.visit_tls("/").run();
    assert_eq!((page.status, page.text().as_str()), (200, "served by nginx\n"));
    let nameless = Curl::get("https://127.0.0.1/")
        .connect_to(site.edge.https())
        .host(HOST)
        .arg("--insecure");
    assert_eq!(nameless.run().status, 200);
    // A listed name without a tunnel: reset, and never this edge's certificate.
    assert_eq!(visit(&site, "dead.example.test", "/").trust(ours).run().exit, 35);
    let log = std::fs::read_to_string(site.edge.folder().join("access.log")).unwrap_or_default();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let passed: Vec<_> = lines.filter(|line| line["protocol"] == "tls").collect();
    assert!(
        passed
            .iter()
            .any(|line| line["host"] == ORIGIN && line["status"] == 101),
        "{log}"
    );
}

fn a_wildcard_passes_and_the_origin_is_told_the_visitors_address(io: IoMode) {
    let (_nginx, site, _connector) = start(io);
    let told = visit(&site, WILD, "/tell").arg("--insecure").run();
    assert_eq!((told.status, told.line("sni").as_str()), (200, WILD));
    assert_eq!(told.line("proxied-for"), "127.0.0.1");
}

fn what_is_no_hello_is_let_go(io: IoMode) {
    let (_nginx, site, _connector) = start(io);
    let before = site.edge.metrics().sum("edge_tls_handshakes_failed_total", &[]);
    for text in [
        "GET / HTTP/1.1\r\n\r\n".as_bytes(),
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\0",
    ] {
        let mut visitor = Raw::connect(site.edge.https());
        visitor.send(text);
        visitor.finish();
        assert!(
            visitor.read_to_end(Duration::from_secs(15)).is_some(),
            "{text:x?}"
        );
    }
    // One that begins and never ends is not waited for.
    let mut slow = Raw::connect(site.edge.https());
    slow.send(b"\x16\x03\x01\x02\x00\x01\x00");
    assert!(
        slow.read_to_end(Duration::from_secs(15)).is_some(),
        "it is closed"
    );
    let after = site.edge.metrics().sum("edge_tls_handshakes_failed_total", &[]);
    assert_eq!(after - before, 4.0);
    assert_eq!(site.visit_tls("/").run().status, 200);
}

adit_tests::in_both_modes!(
    the_certificate_is_the_origins_own,
    a_wildcard_passes_and_the_origin_is_told_the_visitors_address,
    what_is_no_hello_is_let_go,
);
