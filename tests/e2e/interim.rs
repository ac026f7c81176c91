//! Interim answers (1xx) of origins on their way to visitors.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::handmade::{Handmade, Talk};
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::raw::Raw;

/// Transports of a tunnel.
const PROTOCOLS: [&str; 2] = ["quic", "http2"];

/// With what is the origin's connection's alone, which no visitor may hear.
const EARLY_HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\
                           Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n";

const PROCESSING: &str = "HTTP/1.1 102 Processing\r\n\r\n";

/// More of them than pass (`adit_proto::exchange::interim`).
const FLOOD: usize = 40;
const PASSED: usize = 16;

/// An origin that says something ahead of each answer, and whoever lets it answer `/held`.
fn origin() -> (Handmade, Sender<()>) {
    let (answer, may_answer) = channel();
    let may_answer = Mutex::new(may_answer);
    let origin = Handmade::start(move |talk| {
        while let Some(head) = talk.head()? {
            serve(talk, &head, &may_answer)?;
        }
        Ok(())
    });
    (origin, answer)
}

fn serve(talk: &mut Talk, head: &str, may_answer: &Mutex<Receiver<()>>) -> std::io::Result<()> {
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let ahead = match path {
        "/" => String::new(),
        "/flood" => EARLY_HINTS.repeat(FLOOD),
        "/upload" => ["HTTP/1.1 100 Continue\r\n\r\n", PROCESSING].concat(),
        _ => [EARLY_HINTS, PROCESSING].concat(),
    };
    talk.send(ahead)?;
    if path == "/held" {
        let may_answer = may_answer.lock().unwrap_or_else(PoisonError::into_inner);
        // A test that is over does not say so.
        may_answer.recv().ok();
    }
    let body = talk.bytes(if head.starts_with("POST") { 5 } else { 0 })?;
    let text = format!("{path} {}\n", String::from_utf8_lossy(&body));
    let length = text.len();
    talk.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
    ))
}

fn site(io: IoMode, origin: &Handmade, protocol: &str) -> (Site, Connector) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let settings = site.connector(&tunnel).service(&origin.url());
    let connector = settings.run_flags(["--protocol", protocol]).start();
    connector.wait_connections(4);
    site.wait_served();
    (site, connector)
}

/// Reads one head, in lower case.
fn head(visitor: &mut Raw) -> String {
    visitor.read_until("\r\n\r\n", deadline::STEP).to_lowercase()
}

fn hints_come_before_the_answer(io: IoMode) {
    for protocol in PROTOCOLS {
        let (origin, answer) = origin();
        let (site, _connector) = site(io, &origin, protocol);
        let mut visitor = Raw::connect(site.edge.http());
        // The same connection serves one request after the other, here and at the origin.
        for _ in 0..3 {
            visitor.send(format!("GET /held HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
            assert_eq!(
                head(&mut visitor),
                "http/1.1 103 early hints\r\nlink: </a.css>; rel=preload\r\n\r\n",
                "{protocol}"
            );
            assert_eq!(head(&mut visitor), "http/1.1 102 processing\r\n\r\n");
            answer.send(()).expect("the origin waits");
            let answered = head(&mut visitor);
            assert!(answered.starts_with("http/1.1 200 "), "{protocol}: {answered}");
            visitor.read_until("/held \n", deadline::STEP);
        }
        let passed = site.edge.metrics().sum("edge_interim_answers_passed_total", &[]);
        assert_eq!(passed, 6.0, "{protocol}");
    }
}

fn requests_that_follow_each_other_at_once_keep_their_order(io: IoMode) {
    let (origin, _answer) = origin();
    let (site, _connector) = site(io, &origin, "quic");
    let mut visitor = Raw::connect(site.edge.http());
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    visitor.send(["/a", "/b", "/c"].map(ask).concat());
    for path in ["/a", "/b", "/c"] {
        for status in ["103 ", "102 ", "200 "] {
            let head = head(&mut visitor);
            assert!(head.starts_with(&format!("http/1.1 {status}")), "{path}: {head}");
        }
        let body = visitor.read_until("\n", deadline::STEP);
        assert_eq!(body, format!("{path} \n"));
    }
}

fn whoever_expects_a_100_gets_one_and_others_the_origins(io: IoMode) {
    for protocol in PROTOCOLS {
        let (origin, _answer) = origin();
        let (site, _connector) = site(io, &origin, protocol);
        for expect in ["Expect: 100-continue\r\n", ""] {
            let mut visitor = Raw::connect(site.edge.http());
            visitor.send(format!(
                "POST /upload HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n{expect}\r\n"
            ));
            // The origin has the head, and waits for the body as we do.
            let heads = [head(&mut visitor), head(&mut visitor)];
            let continues = "http/1.1 100 continue\r\n\r\n".to_owned();
            let processing = "http/1.1 102 processing\r\n\r\n".to_owned();
            assert_eq!(heads, [continues, processing], "{protocol} {expect}");
            visitor.send("12345");
            let answered = head(&mut visitor);
            assert!(answered.starts_with("http/1.1 200 "), "{protocol}: {answered}");
            visitor.read_until("/upload 12345\n", deadline::STEP);
        }
    }
}

fn a_flood_of_them_is_cut(io: IoMode) {
    for protocol in PROTOCOLS {
        let (origin, _answer) = origin();
        let (site, connector) = site(io, &origin, protocol);
        let mut visitor = Raw::connect(site.edge.http());
        visitor.send(format!("GET /flood HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let answer = visitor.read_until("/flood \n", deadline::STEP);
        assert_eq!(answer.matches("HTTP/1.1 103 ").count(), PASSED, "{protocol}");
        assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{protocol}");
        let dropped = connector
            .metrics()
            .sum("connector_interim_answers_dropped_total", &[]);
        assert_eq!(dropped, (FLOOD - PASSED) as f64, "{protocol}");
    }
}

fn who_cannot_read_them_gets_none(io: IoMode) {
    for protocol in PROTOCOLS {
        let (origin, _answer) = origin();
        let (site, _connector) = site(io, &origin, protocol);
        let mut old = Raw::connect(site.edge.http());
        old.send(format!("GET /old HTTP/1.0\r\nHost: {HOST}\r\n\r\n"));
        let answer = old.read_until("/old \n", deadline::STEP);
        assert!(answer.contains(" 200 ") && !answer.contains(" 103 "), "{answer}");
        let answer = site.visit("/new").arg("--http2-prior-knowledge").run();
        assert_eq!((answer.status, answer.text().as_str()), (200, "/new \n"));
        // curl, over HTTP/1.1, reads over them.
        let answer = site.visit("/curl").run();
        assert_eq!((answer.status, answer.text().as_str()), (200, "/curl \n"));
        let passed = site.edge.metrics().sum("edge_interim_answers_passed_total", &[]);
        assert_eq!(passed, 2.0, "{protocol}: curl's");
    }
}

/// A rule changes them as it changes answers, but adds nothing.
fn rules_remove_headers_of_them(io: IoMode) {
    let origin = Handmade::answering(|head| {
        let ahead = match head.contains("/edited") {
            true => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Secret: 1\r\nX-Set: old\r\n\r\n",
            false => "",
        };
        format!("{ahead}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let rule = format!(
        "  - service: {}\n    originRequest:\n      responseHeaders: {{remove: [X-Secret], set: {{X-Set: new, X-More: '1'}}}}\n",
        origin.url()
    );
    let connector = site.connector(&tunnel).ingress(&rule).start();
    connector.wait_connections(4);
    site.wait_served();
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!("GET /edited HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(
        head(&mut visitor),
        "http/1.1 103 early hints\r\nlink: </a>\r\nx-set: new\r\n\r\n"
    );
    let answered = head(&mut visitor);
    assert!(
        answered.starts_with("http/1.1 200 ") && answered.contains("x-more: 1"),
        "{answered}"
    );
}

adit_tests::in_both_modes!(
    hints_come_before_the_answer,
    requests_that_follow_each_other_at_once_keep_their_order,
    whoever_expects_a_100_gets_one_and_others_the_origins,
    a_flood_of_them_is_cut,
    who_cannot_read_them_gets_none,
    rules_remove_headers_of_them,
);
