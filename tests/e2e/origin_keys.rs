//! The keys of `originRequest`, each as it shows at the origin.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::Site;
use adit_tests::site::connector::Connector;
use adit_tests::visitor::curl::{Curl, Response};

/// A site with one rule for each of `services`: hostname, service, and `originRequest` in YAML's flow style.
fn serve(io: IoMode, services: &[(&str, String, String)]) -> (Site, Connector) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let mut rules = String::new();
    for (name, service, keys) in services {
        let host = format!("{name}.example.test");
        site.control.route(&tunnel, &host);
        rules.push_str(&format!(
            "  - hostname: {host}\n    service: {service}\n    originRequest: {keys}\n"
        ));
    }
    rules.push_str("  - service: http_status:404\n");
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    (site, connector)
}

fn request(site: &Site, name: &str, path: &str) -> Curl {
    site.visit_host(&format!("{name}.example.test"), path)
}

/// Visits a rule until the edge knows its route.
fn visit(site: &Site, name: &str, path: &str) -> Response {
    deadline::until(&format!("{name}{path} to be served"), deadline::STEP, || {
        let response = request(site, name, path).run();
        (!adit_tests::site::is_error_page(&response)).then_some(response)
    })
}

fn http2_is_spoken_where_asked_for(io: IoMode) {
    let (nginx, scripted) = (Nginx::start(), Scripted::start());
    let trusting = |keys: &str| format!("{{noTLSVerify: true, {keys}}}");
    let (site, _connector) = serve(
        io,
        &[
            ("tls", nginx.tls_http2_url(), trusting("http2Origin: true")),
            ("without", nginx.tls_http2_url(), trusting("http2Origin: false")),
            ("older", nginx.tls_url(), trusting("http2Origin: true")),
            ("plain", nginx.plain_http2_url(), "{h2cOrigin: true}".to_owned()),
            ("ignored", nginx.url(), "{http2Origin: true}".to_owned()),
            ("socket", scripted.url(), "{http2Origin: true}".to_owned()),
        ],
    );
    for (name, protocol) in [
        ("tls", "HTTP/2.0"),
        ("without", "HTTP/1.1"),
        ("older", "HTTP/1.1"),
        ("plain", "HTTP/2.0"),
        ("ignored", "HTTP/1.1"),
    ] {
        let told = visit(&site, name, "/tell?x=1");
        assert_eq!(told.line("protocol"), protocol, "{name}");
        assert_eq!(told.line("host"), format!("{name}.example.test"));
        assert_eq!(told.line("uri"), "/tell?x=1");
    }
    // Many at once, bodies both ways; few connections carry them all.
    for name in ["tls", "plain"] {
        let running: Vec<_> = (0..20)
            .map(|number| {
                let body = vec![b'a' + number; 200_000];
                request(&site, name, &format!("/{name}-{number}"))
                    .method("PUT")
                    .post(body)
                    .start()
            })
            .collect();
        for put in running {
            let put = put.finish();
            assert!(matches!(put.status, 201 | 204), "{name}: {put:?}");
        }
        for number in 0..20 {
            let got = request(&site, name, &format!("/{name}-{number}")).run();
            assert_eq!((got.status, got.body.len()), (200, 200_000), "{name}");
            assert!(got.body.iter().all(|&byte| byte == b'a' + number));
        }
        // One for each of the cores.
        let mut connections: Vec<String> = (0..10)
            .map(|_| visit(&site, name, "/tell").line("connection-number"))
            .collect();
        connections.sort();
        connections.dedup();
        assert!(connections.len() <= 2, "{name}: {connections:?}");
    }
}

fn bodies_of_unknown_length_get_one_where_chunks_are_off(io: IoMode) {
    let origin = Scripted::start();
    let (site, _connector) = serve(
        io,
        &[
            (
                "length",
                origin.url(),
                "{disableChunkedEncoding: true}".to_owned(),
            ),
            ("chunks", origin.url(), "{}".to_owned()),
        ],
    );
    visit(&site, "length", "/seen");
    let sent = |name: &str, size: usize| {
        request(&site, name, "/digest")
            .post_unsized(vec![b'x'; size])
            .run()
    };
    for size in [1, 70_000, 1 << 20] {
        let digest = sent("length", size);
        assert_eq!(
            (digest.word("framing"), digest.word("bytes")),
            ("length".to_owned(), size.to_string())
        );
    }
    assert_eq!(sent("chunks", 70_000).word("framing"), "chunked");
    assert_eq!(sent("length", (1 << 20) + 1).status, 413);
}

fn tls_names_follow_the_request_where_asked_for(io: IoMode) {
    let nginx = Nginx::start();
    let url = nginx.tls_url();
    let (site, _connector) = serve(
        io,
        &[
            (
                "follows",
                url.clone(),
                "{noTLSVerify: true, matchSNItoHost: true}".to_owned(),
            ),
            (
                "fixed",
                url.clone(),
                "{noTLSVerify: true, originServerName: origin.test}".to_owned(),
            ),
            (
                "both",
                url,
                "{noTLSVerify: true, matchSNItoHost: true, originServerName: origin.test}".to_owned(),
            ),
        ],
    );
    for (name, wanted) in [
        ("follows", "follows.example.test"),
        ("fixed", "origin.test"),
        ("both", "both.example.test"),
    ] {
        assert_eq!(visit(&site, name, "/tell").line("sni"), wanted, "{name}");
    }
}

adit_tests::in_both_modes!(
    http2_is_spoken_where_asked_for,
    bodies_of_unknown_length_get_one_where_chunks_are_off,
    tls_names_follow_the_request_where_asked_for,
);
