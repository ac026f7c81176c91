//! PROXY headers: taken from trusted proxies on every kind of listener, and sent to origins that want one.

use std::net::SocketAddr;

use adit_proto::proxy_protocol::{self, Ends, Said, Version};
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::curl::Curl;
use adit_tests::visitor::raw::Raw;

/// Whom the headers name.
const VISITOR: &str = "192.0.2.7:4711";

const VERSIONS: [Version; 2] = [Version::V1, Version::V2];

fn header(version: Version) -> Vec<u8> {
    let ends = Ends {
        source: VISITOR.parse().expect("an address"),
        destination: "198.51.100.1:443".parse().expect("an address"),
    };
    proxy_protocol::encode(version, &Said::Visitor(ends)).to_vec()
}

/// A request for what nginx is told, as the bytes of a connection.
fn tell() -> String {
    format!("GET /tell HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")
}

fn ask(address: SocketAddr, first: &[u8]) -> String {
    let mut visitor = Raw::connect(address);
    visitor.send([first, tell().as_bytes()].concat());
    let heard = visitor.read_to_end(deadline::STEP).expect("an end");
    String::from_utf8_lossy(&heard).into_owned()
}

fn a_trusted_proxy_names_the_visitor(io: IoMode) {
    let nginx = Nginx::start();
    let site = SiteSettings::new(io)
        .edge_lines("access-log: access.log\n")
        .accept_proxy("127.0.0.0/8")
        .start();
    let tunnel = site.tunnel("lab");
    let _connector = site.connector(&tunnel).service(&nginx.url()).start();
    let visit = || site.visit("/tell").arg("--haproxy-protocol");
    deadline::until_true("the site to serve", deadline::STEP, || {
        visit().run().status == 200
    });
    assert_eq!(visit().run().line("cf-connecting-ip"), "127.0.0.1");
    let secured = site.visit_tls("/tell").arg("--haproxy-protocol").run();
    assert_eq!((secured.status, secured.line("scheme").as_str()), (200, "http"));
    for version in VERSIONS {
        let told = ask(site.edge.http(), &header(version));
        assert!(told.contains("cf-connecting-ip: 192.0.2.7\n"), "{told}");
        // A header in the request counts no more than the named visitor's word.
        assert!(told.contains("x-forwarded-for: 192.0.2.7\n"), "{told}");
    }
    let log = std::fs::read_to_string(site.edge.folder().join("access.log")).unwrap_or_default();
    assert!(log.contains("\"client\":\"192.0.2.7\""), "{log}");
    // Without one, or with a broken one, there is nobody to speak with.
    let before = site.edge.metrics().sum("edge_proxy_headers_refused_total", &[]);
    assert_eq!(ask(site.edge.http(), b""), "");
    assert_eq!(ask(site.edge.http(), b"PROXY TCP4 nonsense\r\n"), "");
    assert_ne!(site.visit_tls("/").run().exit, 0);
    let after = site.edge.metrics().sum("edge_proxy_headers_refused_total", &[]);
    assert_eq!(after - before, 3.0);
}

fn nobody_else_is_believed(io: IoMode) {
    let nginx = Nginx::start();
    let site = SiteSettings::new(io).accept_proxy("192.0.2.0/24").start();
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &nginx.url());
    assert_eq!(site.visit("/tell").run().line("cf-connecting-ip"), "127.0.0.1");
    assert_eq!(
        site.visit_tls("/tell").run().line("cf-connecting-ip"),
        "127.0.0.1"
    );
    for version in VERSIONS {
        let told = ask(site.edge.http(), &header(version));
        assert!(!told.contains("192.0.2.7"), "{told}");
    }
}

/// A site whose raw ports lead to a port of nginx that wants a header of one version each.
fn serve_raw(io: IoMode, nginx: &Nginx, accept: bool) -> (Site, adit_tests::site::connector::Connector) {
    let port = |version: &str| {
        format!("{{listen: '127.0.0.1:0', hostname: {HOST}, accept-proxy: {accept}, send-proxy: {version}}}")
    };
    let site = SiteSettings::new(io)
        .tcp(&format!("[{}, {}]", port("v1"), port("v2")))
        .edge_lines("trusted-proxies: ['127.0.0.0/8']\naccess-log: access.log\n")
        .start();
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &format!("tcp://{}", nginx.proxied()));
    (site, connector)
}

fn an_origin_is_told_whom_it_serves(io: IoMode) {
    let nginx = Nginx::start();
    let (site, _connector) = serve_raw(io, &nginx, false);
    for port in &site.edge.addresses.tcp {
        let told = Curl::get(&format!("http://{port}/tell")).run();
        assert_eq!(told.line("proxied-for"), "127.0.0.1");
        assert_ne!(told.line("proxied-port"), "0");
    }
    drop(site);
    let (site, _connector) = serve_raw(io, &nginx, true);
    for port in site.edge.addresses.tcp.clone() {
        for version in VERSIONS {
            let told = ask(port, &header(version));
            assert!(
                told.contains("proxied-for: 192.0.2.7\nproxied-port: 4711\n"),
                "{told}"
            );
        }
    }
    let log = deadline::until("the flows to be logged", deadline::STEP, || {
        let log = std::fs::read_to_string(site.edge.folder().join("access.log")).ok()?;
        (log.matches("\"protocol\":\"tcp\"").count() == 4).then_some(log)
    });
    assert_eq!(log.matches("\"client\":\"192.0.2.7\"").count(), 4, "{log}");
}

adit_tests::in_both_modes!(
    a_trusted_proxy_names_the_visitor,
    nobody_else_is_believed,
    an_origin_is_told_whom_it_serves,
);
