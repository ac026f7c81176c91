//! Connectors over HTTP/2 on the port where visitors come over HTTPS.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::connector::ConnectorSettings;
use adit_tests::site::{Site, SiteSettings};

fn to_https(site: &Site, mut settings: ConnectorSettings) -> ConnectorSettings {
    settings.flags.extend(["--protocol", "http2"].map(str::to_owned));
    settings.edge(site.edge.https())
}

fn connectors_and_visitors_share_a_port(io: IoMode) {
    let nginx = Nginx::start();
    let site = SiteSettings::new(io)
        .cores(2)
        .edge_lines("tunnels-on-https: true\n")
        .start();
    let tunnel = site.tunnel("lab");
    let connector = to_https(&site, site.connector(&tunnel))
        .service(&nginx.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    let (h1, h2) = (site.visit("/").run(), site.visit_tls("/").run());
    assert_eq!((h1.status, h2.status), (200, 200));
    let old = site.visit_tls("/").arg("--tls-max").arg("1.2").run();
    assert_eq!(old.status, 200);
    // Whoever is no visitor holds none of their seats.
    deadline::until_true("visitors to have left", deadline::STEP, || {
        site.edge.metrics().sum("edge_visitor_connections", &[]) == 0.0
    });
    assert_eq!(connector.ready().map(|(count, _)| count), Some(4));
}

fn it_is_off_unless_asked_for(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let mut connector = to_https(&site, site.connector(&tunnel)).start();
    let line = connector
        .process
        .wait_line("Unable to establish connection with the edge", deadline::STEP);
    assert!(line.contains("TLS handshake with edge error"), "{line}");
}

adit_tests::in_both_modes!(connectors_and_visitors_share_a_port, it_is_off_unless_asked_for);
