//! Requests to a real nginx: methods, lengths, headers, statuses, keep-alive, in both HTTP versions.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::{LONG_HEADER_BYTES, Nginx, SHORT_HEADERS, SMALL_PAGE_BYTES};
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::raw::Raw;

fn methods_lengths_and_statuses_pass(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &nginx.url());
    for (version, visit) in [
        ("1.1", Site::visit as fn(&Site, &str) -> _),
        ("2", Site::visit_tls),
    ] {
        let page = visit(&site, "/").run();
        assert_eq!((page.status, page.version.as_str()), (200, version), "{page:?}");
        assert_eq!(page.text(), "served by nginx\n");

        let head = visit(&site, "/h").method("HEAD").run();
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some("1024")),
            "{head:?}"
        );
        assert_eq!(SMALL_PAGE_BYTES, 1024);

        let known = visit(&site, "/discard").post("12345").run();
        assert_eq!(known.text(), "length=5 transfer= received=5", "{known:?}");
        let unknown = visit(&site, "/discard").post_unsized("12345").run();
        assert_eq!(
            unknown.text(),
            "length= transfer=chunked received=5",
            "{unknown:?}"
        );
        let empty = visit(&site, "/discard").post("").run();
        assert_eq!(empty.status, 200, "{empty:?}");

        for status in [204, 304, 404, 500] {
            let answer = visit(&site, &format!("/status/{status}")).run();
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(answer.exit, 0, "{answer:?}");
        }
        let missing = visit(&site, "/no/such/page").run();
        assert_eq!(missing.status, 404);
        assert!(
            missing.text().contains("nginx"),
            "the origin's own page: {}",
            missing.text()
        );
    }
}

fn odd_methods_and_paths_arrive_as_sent(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
        let seen = site.visit("/seen").method(method).run().text();
        assert!(
            seen.starts_with(&format!("{method} /seen HTTP/1.1\r\n")),
            "{seen}"
        );
    }
    for path in [
        "/seen?a=%20b&c=%2F&&",
        "/seen?q=../..//x",
        "/seen?%C3%A9=%E2%82%AC",
    ] {
        let seen = site.visit(path).arg("--path-as-is").run().text();
        assert!(seen.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{seen}");
    }
}

fn headers_pass_and_the_edge_adds_who_asked(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &nginx.url());
    // Neither is to be believed: the visitor is no proxy we trust.
    let lies = |curl: adit_tests::visitor::curl::Curl| {
        curl.header("X-Forwarded-For: 203.0.113.9")
            .header("Cf-Connecting-IP: 203.0.113.9")
            .header("X-Forwarded-Proto: gopher")
    };
    let told = lies(site.visit("/tell?x=1")).header("Cookie: a=1; b=2").run();
    assert_eq!(told.line("uri"), "/tell?x=1");
    assert_eq!(told.line("host"), HOST);
    assert_eq!(told.line("cookie"), "a=1; b=2");
    assert_eq!(told.line("cf-connecting-ip"), "127.0.0.1");
    assert_eq!(told.line("x-forwarded-for"), "127.0.0.1");
    assert_eq!(told.line("x-forwarded-proto"), "http");
    assert!(!told.line("cf-ray").is_empty());
    let told = lies(site.visit_tls("/tell")).run();
    assert_eq!(told.line("x-forwarded-proto"), "https");
    assert_eq!(told.line("cf-visitor"), r#"{"scheme":"https"}"#);
}

fn big_heads_pass_up_to_their_limit(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &nginx.url());
    let big = site.visit_tls("/headers").run();
    assert_eq!(big.status, 200, "{big:?}");
    assert_eq!(big.header("x-long").map(str::len), Some(LONG_HEADER_BYTES));
    assert_eq!(
        big.headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-short-"))
            .count(),
        SHORT_HEADERS
    );

    for visit in [Site::visit as fn(&Site, &str) -> _, Site::visit_tls] {
        let fits = visit(&site, "/")
            .header(&format!("X-Big: {}", "b".repeat(20_000)))
            .run();
        assert_eq!(fits.status, 200, "{fits:?}");
        let over = visit(&site, "/")
            .header(&format!("X-Big: {}", "b".repeat(60_000)))
            .run();
        assert!(over.status == 431 || over.exit != 0, "{over:?}");
        assert_eq!(visit(&site, "/").run().status, 200, "the next visitor is served");
    }
}

fn connections_are_kept_on_both_sides(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let before = origin.connections();
    let mut visitor = Raw::connect(site.edge.http());
    for _ in 0..20 {
        visitor.send(format!("GET /connection HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let head = visitor.read_until("\r\n\r\n", deadline::STEP);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head
            .to_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        assert!(length.is_some_and(|length| length > 0), "{head}");
        visitor.read_exactly(length.expect("just checked"), deadline::STEP);
    }
    // Requests that follow one another need one origin connection per tunnel connection at most, and its pool
    // keeps it.
    let opened = origin.connections() - before;
    assert!(
        opened <= 4,
        "{opened} origin connections for 20 requests in a row"
    );

    // A request that is sent before the answer to the first is not lost (pipelining).
    let request = format!("GET /connection HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    visitor.send(request.repeat(3));
    for _ in 0..3 {
        visitor.read_until("HTTP/1.1 200", deadline::STEP);
    }
    visitor.send(format!(
        "GET /connection HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    ));
    assert!(
        visitor.read_to_end(deadline::STEP).is_some(),
        "the edge closes when asked to"
    );
}

fn encodings_and_ranges_pass_untouched(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &nginx.url());
    let plain = site.visit("/compressed.txt").run();
    assert_eq!(plain.header("content-encoding"), None);
    let packed = site
        .visit("/compressed.txt")
        .header("Accept-Encoding: gzip")
        .run();
    assert_eq!(packed.header("content-encoding"), Some("gzip"), "{packed:?}");
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < plain.body.len());
    let unpacked = site.visit("/compressed.txt").arg("--compressed").run();
    assert_eq!(unpacked.body, plain.body);
    let part = site.visit("/compressed.txt").header("Range: bytes=10-19").run();
    assert_eq!((part.status, part.body.len()), (206, 10));
    let tag = plain.header("etag").expect("nginx tags files").to_owned();
    let same = site
        .visit("/compressed.txt")
        .header(&format!("If-None-Match: {tag}"))
        .run();
    assert_eq!((same.status, same.body.len()), (304, 0));
}

fn errors_have_a_page_a_code_and_a_request_id(io: IoMode) {
    let site = Site::start(io);
    let unknown = site.visit_host("nobody.example.test", "/").run();
    let text = unknown.text();
    assert_eq!(unknown.status, 404, "{unknown:?}");
    assert!(text.contains("hostname-unknown"), "{text}");

    let tunnel = site.tunnel("lab");
    deadline::until_true("the edge to know the route", deadline::STEP, || {
        site.visit("/").run().status == 503
    });
    let idle = site.visit("/").header("Accept: application/json").run();
    let body: serde_json::Value = serde_json::from_slice(&idle.body).expect("JSON for an API client");
    assert!(idle.text().contains("tunnel-no-connection"), "{body}");
    let html = site.visit("/").header("Accept: text/html").run();
    assert!(
        html.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html")),
        "{html:?}"
    );

    let service = format!("http://{}", adit_tests::origin::refused_address());
    let connector = site.connector(&tunnel).service(&service).start();
    connector.wait_connections(4);
    deadline::until_true("the connection to be used", deadline::STEP, || {
        site.visit("/").run().status != 503
    });
    let refused = site.visit("/").run();
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(
        refused.text().contains("origin-unreachable"),
        "{}",
        refused.text()
    );
    assert!(
        !refused.text().contains("127.0.0.1"),
        "no internal address in {}",
        refused.text()
    );
}

fn an_access_log_line_per_request(io: IoMode) {
    let origin = Scripted::start();
    let folder = tempfile::tempdir().expect("a temp dir");
    let log = folder.path().join("access.log");
    let site = SiteSettings::new(io)
        .edge_lines(&format!("access-log: {}\n", log.display()))
        .start();
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let sent = "x".repeat(1000);
    assert_eq!(site.visit("/digest?logged").post(sent).run().status, 200);
    let line = deadline::until("the line of the request", deadline::STEP, || {
        let text = std::fs::read_to_string(&log).ok()?;
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.rev().find(|line| line.to_string().contains("/digest"))
    });
    assert_eq!(line["status"], 200, "{line}");
    assert_eq!(line["transport"], "quic", "{line}");
    let text = line.to_string();
    assert!(text.contains(&tunnel.id.to_string()), "the tunnel in {text}");
    for key in ["time", "request_id", "replica", "conn_index", "core"] {
        assert!(!line[key].is_null(), "{key} in {text}");
    }
}

fn many_visitors_at_once_are_all_answered(io: IoMode) {
    let (nginx, site) = (Nginx::start(), SiteSettings::new(io).cores(2).start());
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &nginx.url());
    let plain = site.load("/h").width(32, 1).requests(4000);
    assert_eq!((plain.succeeded, plain.failed), (4000, 0), "{}", plain.text);
    let tls = site.load_tls("/h").width(8, 32).requests(4000);
    assert_eq!((tls.succeeded, tls.failed), (4000, 0), "{}", tls.text);
}

adit_tests::in_both_modes!(
    methods_lengths_and_statuses_pass,
    odd_methods_and_paths_arrive_as_sent,
    headers_pass_and_the_edge_adds_who_asked,
    big_heads_pass_up_to_their_limit,
    connections_are_kept_on_both_sides,
    encodings_and_ranges_pass_untouched,
    errors_have_a_page_a_code_and_a_request_id,
    an_access_log_line_per_request,
    many_visitors_at_once_are_all_answered,
);
