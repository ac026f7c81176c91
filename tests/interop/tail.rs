//! The log of a stock connector, read through our edge; and the stock `tail`, reading that of ours.

use adit_tests::binary::{self, IoMode};
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::process::{Process, command};
use adit_tests::site::SiteSettings;
use adit_tests::site::control::result;
use adit_tests::tcp_relay::TcpRelay;
use adit_tests::visitor::curl::Curl;
use adit_tests::visitor::tail::{EDGE_LINES, HOSTNAME, adit};

use crate::Over;

fn the_log_of_a_stock_connector_is_followed(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("the_log_of_a_stock_connector_is_followed") else {
        return;
    };
    let (nginx, site) = (
        Nginx::start(),
        SiteSettings::new(io).edge_lines(EDGE_LINES).start(),
    );
    let tunnel = site.tunnel("lab");
    let _connector = crate::serve(stock, &site, &tunnel, &nginx.url(), over);
    let mut tail = Process::start("tail", adit(&site, binary::adit()).arg("lab"));
    // Nothing says when the stream has begun but a line in it.
    deadline::until_true("a line about a visit", deadline::STEP, || {
        assert_eq!(site.visit("/").run().status, 200);
        tail.log().contains(" debug http GET ")
    });
    assert!(tail.terminate(deadline::STEP).success());
}

/// The stock `tail` goes to port 443 of a name in public DNS and trusts the system's roots. It heeds the
/// environment, so a proxy leads it to our edge, and a file names its roots.
fn the_stock_tail_streams_the_log_of_our_connector(io: IoMode) {
    let Some(stock) = crate::stock("the_stock_tail_streams_the_log_of_our_connector") else {
        return;
    };
    let (nginx, site) = (
        Nginx::start(),
        SiteSettings::new(io).edge_lines(EDGE_LINES).start(),
    );
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &nginx.url());
    let proxy = TcpRelay::proxy(site.edge.https()).expect("a free port");
    let mut asked = command(&stock);
    asked
        .env("HOME", site.folder())
        .env("HTTPS_PROXY", format!("http://{}", proxy.address()))
        .env("SSL_CERT_FILE", &site.certificate.certificate)
        .args(["--api-url", site.control.api(), "tail", "--origincert"])
        .arg(site.control.origin_cert())
        .args(["--management-hostname", HOSTNAME, "--event", "http"])
        .arg(tunnel.id.to_string());
    let mut tail = Process::start("stock tail", &mut asked);
    // Nothing says when the stream has begun but a line in it.
    deadline::until_true("a line about a visit", deadline::STEP, || {
        assert_eq!(site.visit("/").run().status, 200);
        tail.log().contains(" http GET ")
    });
    assert!(tail.terminate(deadline::STEP).success());
}

fn profiles_and_counters_of_a_stock_connector_are_read(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("profiles_and_counters_of_a_stock_connector_are_read") else {
        return;
    };
    let site = SiteSettings::new(io).edge_lines(EDGE_LINES).start();
    let tunnel = site.tunnel("lab");
    let _connector = crate::serve(stock, &site, &tunnel, "http_status:204", over);
    let path = format!("/accounts/{{account}}/cfd_tunnel/{}/management/admin", tunnel.id);
    let token = result(&site.control.rest("POST", &path).run());
    let token = token.as_str().expect("a token");
    let ask = |path: &str| {
        let url = format!("https://{HOSTNAME}{path}access_token={token}");
        Curl::get(&url)
            .connect_to(site.edge.https())
            .trust(&site.certificate.certificate)
            .run()
    };
    let goroutines = ask("/debug/pprof/goroutine?debug=1&");
    assert_eq!(goroutines.status, 200, "{goroutines:?}");
    assert!(
        goroutines.text().starts_with("goroutine profile: total"),
        "{goroutines:?}"
    );
    let heap = ask("/debug/pprof/heap?");
    assert_eq!(heap.status, 200);
    // Compressed by gzip, as the tools that read profiles want them.
    assert!(heap.body.starts_with(&[0x1f, 0x8b]), "{heap:?}");
    let counters = ask("/metrics?");
    assert!(
        counters.status == 200 && counters.text().contains("build_info"),
        "{counters:?}"
    );
    assert_eq!(ask("/debug/pprof/cmdline?").status, 404);
}

crate::over_both!(
    the_log_of_a_stock_connector_is_followed,
    profiles_and_counters_of_a_stock_connector_are_read,
);
adit_tests::in_both_modes!(the_stock_tail_streams_the_log_of_our_connector);
