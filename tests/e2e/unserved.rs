//! Requests that never become one, each with its page, its line in the access log and its count.

use std::path::Path;
use std::time::Duration;

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::handmade::Handmade;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::raw::Raw;
use serde_json::Value;

/// How long a head may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

fn line(log: &Path, path: &str, status: u16) -> Value {
    deadline::until(&format!("a line of {path}"), deadline::STEP, || {
        let text = std::fs::read_to_string(log).ok()?;
        let mut lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["path"] == path && line["status"] == status)
    })
}

fn errors(site: &Site, code: &str) -> f64 {
    site.edge
        .metrics()
        .sum("edge_exchange_errors_total", &[("code", code)])
}

/// Their targets, how they are sent, and the status, code and reason of their refusal.
fn refused_heads() -> Vec<(&'static str, String, u16, &'static str, &'static str)> {
    let many = format!(
        "GET /many HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n",
        "X: 1\r\n".repeat(101)
    );
    let long = format!(
        "GET /long HTTP/1.1\r\nHost: {HOST}\r\nX: {}\r\n\r\n",
        "x".repeat(40 << 10)
    );
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    vec![
        (
            "/colon",
            "GET /colon HTTP/1.1\r\nno colon\r\n\r\n".to_owned(),
            400,
            "bad-request",
            "malformed",
        ),
        (
            "a<b",
            "GET a<b HTTP/1.1\r\n\r\n".to_owned(),
            400,
            "bad-request",
            "target",
        ),
        (
            "/both",
            format!("POST /both HTTP/1.1\r\nHost: {HOST}\r\n{both}\r\n"),
            400,
            "bad-request",
            "framing",
        ),
        ("/many", many, 431, "head-too-large", "too-large"),
        ("/long", long, 431, "head-too-large", "too-large"),
    ]
}

fn what_is_refused_by_itself_has_a_page_a_line_and_a_count(io: IoMode) {
    let site = SiteSettings::new(io)
        .edge_lines("access-log: access.log\n")
        .start();
    let log = site.edge.folder().join("access.log");
    for (path, sent, status, code, reason) in refused_heads() {
        let refused = |site: &Site| {
            let reason = [("reason", reason)];
            site.edge.metrics().sum("edge_heads_refused_total", &reason)
        };
        let before = (errors(&site, code), refused(&site));
        let mut visitor = Raw::connect(site.edge.http());
        visitor.send(sent);
        let answer = visitor.read_to_end(deadline::STEP).expect("the edge closes");
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer}"
        );
        assert!(
            answer.contains("connection: close\r\n") && answer.contains(code),
            "{path}: {answer}"
        );
        let line = line(&log, path, status);
        assert_eq!(
            (line["error"].as_str(), line["client"].as_str()),
            (Some(code), Some("127.0.0.1"))
        );
        let id = line["request_id"].as_str().expect("an id");
        assert!(
            answer.contains(&format!("x-request-id: {id}\r\n")),
            "{path}: {answer}"
        );
        assert_eq!(
            (errors(&site, code), refused(&site)),
            (before.0 + 1.0, before.1 + 1.0),
            "{path}"
        );
    }
}

fn a_head_that_takes_too_long_is_told_so(io: IoMode) {
    let site = SiteSettings::new(io)
        .edge_lines("access-log: access.log\n")
        .start();
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\nX-Half: "));
    let answer = visitor
        .read_to_end(HEAD_DEADLINE + deadline::STEP)
        .expect("the edge closes");
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("head-too-slow"),
        "{answer}"
    );
    let line = line(&site.edge.folder().join("access.log"), "/slow", 408);
    assert_eq!(line["error"], "head-too-slow");
    assert!(errors(&site, "head-too-slow") > 0.5);
    assert!(site.edge.metrics().sum("edge_heads_timed_out_total", &[]) > 0.5);
}

/// Whoever leaves in the middle of a body has left, and has sent nothing wrong.
fn an_upload_that_breaks_off_is_a_visitor_that_left(io: IoMode) {
    let origin = Handmade::start(|talk| {
        while let Some(head) = talk.head()? {
            if head.starts_with("POST") {
                talk.bytes(1 << 20)?;
            }
            talk.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")?;
        }
        Ok(())
    });
    let site = SiteSettings::new(io)
        .edge_lines("access-log: access.log\n")
        .start();
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let log = site.edge.folder().join("access.log");
    for (path, framing, sent) in [
        ("/length", "Content-Length: 1000000", "some".to_owned()),
        ("/chunk", "Transfer-Encoding: chunked", "ff\r\nsome".to_owned()),
        (
            "/between",
            "Transfer-Encoding: chunked",
            "4\r\nsome\r\n".to_owned(),
        ),
        ("/size", "Transfer-Encoding: chunked", "4".to_owned()),
    ] {
        for way in ["end", "close"] {
            let path = format!("{path}/{way}");
            let mut visitor = Raw::connect(site.edge.http());
            visitor.send(format!(
                "POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n{sent}"
            ));
            if way == "end" {
                visitor.finish();
                visitor.read_to_end(deadline::STEP).expect("the edge closes");
            }
            drop(visitor);
            let line = line(&log, &path, 499);
            assert_eq!(line["error"], "visitor-gone", "{path}: {line}");
        }
    }
    assert!(errors(&site, "bad-request") < 0.5);
}

/// A HEADERS frame that ends its stream.
fn headers(stream: u8, block: &[&[u8]]) -> Vec<u8> {
    let block = block.concat();
    let size = u8::try_from(block.len()).expect("a short block");
    [&[0, 0, size, 1, 5, 0, 0, 0, stream], block.as_slice()].concat()
}

/// What the HTTP/2 library refuses by itself is seen in the frames that it sends.
fn what_http2_refuses_by_itself_is_counted(io: IoMode) {
    // :method GET, :scheme http, and :path / by their numbers in the static table; the host as a literal.
    const GET: &[u8] = &[0x82, 0x86];
    const ROOT: &[u8] = &[0x84];
    let site = SiteSettings::new(io)
        .edge_lines("access-log: access.log\n")
        .start();
    let sent = |site: &Site, name: &str| {
        let code = [("code", "protocol-error")];
        site.edge
            .metrics()
            .sum(&format!("edge_http2_{name}_sent_total"), &code)
    };
    let size = u8::try_from(HOST.len()).expect("a short name");
    let host = [&[0x01, size], HOST.as_bytes()].concat();
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    visitor.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    visitor.send(headers(1, &[GET, &host]));
    deadline::until_true("a request without a path to be reset", deadline::STEP, || {
        sent(&site, "resets") > 0.5
    });
    assert!(sent(&site, "goaways") < 0.5);
    visitor.send(headers(3, &[GET, ROOT, &host, b"\x00\x01X\x01y"]));
    visitor.read_to_end(deadline::STEP).expect("the edge closes");
    assert!(sent(&site, "goaways") > 0.5);
    let log = site.edge.folder().join("access.log");
    let line = deadline::until("a line of the connection", deadline::STEP, || {
        let text = std::fs::read_to_string(&log).ok()?;
        serde_json::from_str::<Value>(text.lines().next()?).ok()
    });
    assert_eq!(
        (line["protocol"].as_str(), line["status"].as_u64()),
        (Some("h2"), Some(400))
    );
    assert_eq!(line["error"], "bad-request");
}

adit_tests::in_both_modes!(
    what_http2_refuses_by_itself_is_counted,
    what_is_refused_by_itself_has_a_page_a_line_and_a_count,
    a_head_that_takes_too_long_is_told_so,
    an_upload_that_breaks_off_is_a_visitor_that_left,
);
