//! The stock connector on the port where visitors come over HTTPS.

use adit_tests::binary::IoMode;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::SiteSettings;
use adit_tests::site::connector::Program;

fn the_stock_connector_shares_the_port_of_visitors(io: IoMode) {
    let Some(stock) = crate::stock(module_path!()) else {
        return;
    };
    let settings = SiteSettings::new(io).edge_lines("tunnels-on-https: true\n");
    let (nginx, site) = (Nginx::start(), settings.start());
    let tunnel = site.tunnel("lab");
    let connector = site
        .connector_of(Program::Stock(stock), &tunnel)
        .edge(site.edge.https())
        .run_flags(crate::Over::Http2.flags())
        .service(&nginx.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    assert_eq!(site.visit_tls("/").run().status, 200);
}

adit_tests::in_both_modes!(the_stock_connector_shares_the_port_of_visitors);
