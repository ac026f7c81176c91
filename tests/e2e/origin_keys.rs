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

/// Connections to `port` that are open.
fn open_connections(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's list of connections");
    let peer = format!("0100007F:{port:04X}");
    let lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.get(2) == Some(&peer.as_str()) && fields.get(3) == Some(&ESTABLISHED))
        .count()
}

fn idle_connections_are_closed_in_their_time(io: IoMode) {
    let (kept, short) = (Scripted::start(), Scripted::start());
    let nginx = Nginx::start();
    let (site, _connector) = serve(
        io,
        &[
            ("kept", kept.url(), "{}".to_owned()),
            ("short", short.url(), "{keepAliveTimeout: 1s}".to_owned()),
            (
                "shared",
                nginx.plain_http2_url(),
                "{h2cOrigin: true, keepAliveTimeout: 1s}".to_owned(),
            ),
        ],
    );
    let shared = nginx.plain_http2_url();
    let shared = shared
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .expect("a port");
    for name in ["kept", "short"] {
        visit(&site, name, "/seen");
    }
    visit(&site, "shared", "/tell");
    // Looked at every 5 s, and longer than that would be the default.
    deadline::until_true("idle connections to be closed", deadline::STEP, || {
        open_connections(short.address().port()) == 0 && open_connections(shared) == 0
    });
    assert_eq!(open_connections(kept.address().port()), 1);
    assert_eq!(visit(&site, "short", "/connection").text().trim(), "0");
}

/// Seconds until the kernel asks whether the other end of a connection to `port` is still there, if it does.
fn keep_alive_timer(port: u16) -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's list of connections");
    let peer = format!("0100007F:{port:04X}");
    let mut lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find_map(|fields| {
        let timer = fields.get(5)?.strip_prefix("02:")?;
        (fields.get(2) == Some(&peer.as_str())).then_some(())?;
        Some(f64::from(u32::from_str_radix(timer, 16).ok()?) / TICKS_PER_SECOND)
    })
}

fn limits_and_pools_are_as_configured(io: IoMode) {
    let (origin, probed) = (Scripted::start(), Scripted::start());
    // The kernel connects, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = silent.local_addr().expect("a bound socket has an address");
    let (site, _connector) = serve(
        io,
        &[
            ("kept", origin.url(), "{}".to_owned()),
            ("single", origin.url(), "{keepAliveConnections: 0}".to_owned()),
            (
                "silent",
                format!("https://{address}"),
                "{tlsTimeout: 300ms}".to_owned(),
            ),
            ("probed", probed.url(), "{tcpKeepAlive: 9s}".to_owned()),
        ],
    );
    visit(&site, "kept", "/seen");
    assert_ne!(visit(&site, "kept", "/connection").text().trim(), "0");
    for _ in 0..3 {
        assert_eq!(visit(&site, "single", "/connection").text().trim(), "0");
    }
    let start = std::time::Instant::now();
    let refused = deadline::until("a verdict", deadline::STEP, || {
        let response = request(&site, "silent", "/").run();
        (response.status != 404 && response.status != 503).then_some(response)
    });
    assert_eq!(refused.status, 502);
    assert!(
        start.elapsed() < std::time::Duration::from_secs(8),
        "the default is 10 s"
    );

    visit(&site, "probed", "/seen");
    let held = request(&site, "probed", "/hold?gate=end").start();
    probed.wait_mark("end", 1, deadline::STEP);
    let timer = deadline::until("the timer", deadline::STEP, || {
        keep_alive_timer(probed.address().port())
    });
    assert!(timer <= 9.5, "{timer}");
    probed.open("end", 1);
    held.finish();
}

adit_tests::in_both_modes!(
    idle_connections_are_closed_in_their_time,
    limits_and_pools_are_as_configured,
    http2_is_spoken_where_asked_for,
    bodies_of_unknown_length_get_one_where_chunks_are_off,
    tls_names_follow_the_request_where_asked_for,
);
