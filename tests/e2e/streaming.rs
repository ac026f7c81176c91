//! Bytes arrive when they are sent, in both directions, and an end on one side is an end on the other.

use std::time::Duration;

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::raw::Raw;

/// A site that serves a scripted origin.
fn scene(io: IoMode) -> (Scripted, Site, Connector) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &origin.url());
    (origin, site, connector)
}

/// The origin makes each event only after the visitor has the one before, so nothing may wait for a buffer to
/// fill.
fn events_arrive_one_by_one(io: IoMode) {
    let (origin, site, _connector) = scene(io);
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!(
        "GET /drip?gate=events&count=5&sse HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    ));
    let head = visitor.read_until("\r\n\r\n", deadline::STEP).to_lowercase();
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    for number in 0..5 {
        origin.open("events", 1);
        visitor.read_until(&format!("data: {number}\n\n"), deadline::STEP);
    }
    visitor.read_until("\r\n0\r\n\r\n", deadline::STEP);

    let mut tls = site.visit_tls("/drip?gate=more&count=3&sse").arg("-N").start();
    for number in 1..=3 {
        origin.open("more", 1);
        deadline::until_true("the next event over HTTP/2", deadline::STEP, || {
            tls.received() == number * 9
        });
        assert!(number == 3 || !tls.is_done());
    }
    assert_eq!(tls.finish().text(), "data: 0\n\ndata: 1\n\ndata: 2\n\n");
}

fn an_upload_reaches_the_origin_while_it_is_sent(io: IoMode) {
    let (origin, site, _connector) = scene(io);
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!(
        "POST /digest HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    for number in 1..=5 {
        visitor.send("4\r\nwxyz\r\n");
        origin.wait_mark("/digest", number * 4, deadline::STEP);
    }
    visitor.send("0\r\n\r\n");
    visitor.read_until("bytes=20 ", deadline::STEP);

    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!(
        "POST /digest HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 6\r\n\r\nabc"
    ));
    origin.wait_mark("/digest", 23, deadline::STEP);
    visitor.send("def");
    visitor.read_until("bytes=6 ", deadline::STEP);
}

fn expect_is_answered_by_the_edge(io: IoMode) {
    let (_origin, site, _connector) = scene(io);
    let mut visitor = Raw::connect(site.edge.http());
    let head =
        format!("POST /digest HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    visitor.send(&head);
    visitor.read_until("HTTP/1.1 100 Continue\r\n\r\n", deadline::STEP);
    visitor.send("12345");
    let answer = visitor.read_until("expect=none", deadline::STEP);
    assert!(
        answer.contains("bytes=5 "),
        "the origin never sees Expect: {answer}"
    );

    // curl waits a second for the 100 and then sends anyway; with the 100 it sends at once.
    let quick = site
        .visit("/digest")
        .post("x".repeat(100_000))
        .header("Expect: 100-continue")
        .run();
    assert_eq!(quick.word("bytes"), "100000");
    assert!(
        quick.first_byte < Duration::from_millis(900),
        "{:?}",
        quick.first_byte
    );
}

fn an_answer_before_the_end_of_the_upload_reaches_the_visitor(io: IoMode) {
    let (_origin, site, _connector) = scene(io);
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!(
        "POST /refuse-body HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\nfirst"
    ));
    visitor.read_until("HTTP/1.1 413", deadline::STEP);

    let body = vec![b'.'; 3_000_000];
    // Over HTTP/2, Debian's curl 7.88 fails its own upload when the stream ends first, in about half of the
    // runs.
    let refused = site.visit_tls("/refuse-body").arg("--http1.1").post(body).run();
    assert_eq!(refused.status, 413, "{refused:?}");
    assert_eq!(site.visit("/seen").run().status, 200);
}

fn a_visitor_that_leaves_ends_the_origin_request(io: IoMode) {
    let (origin, site, _connector) = scene(io);
    for (mark, visit) in [
        ("plain", Site::visit as fn(&Site, &str) -> _),
        ("tls", Site::visit_tls),
    ] {
        let flood = visit(&site, &format!("/flood?mark={mark}")).start();
        deadline::until_true("the flood to arrive", deadline::STEP, || {
            flood.received() > 1_000_000
        });
        flood.abort();
        origin.wait_mark(mark, 1, deadline::STEP);
    }
    // Also before any byte of the answer: the origin's connection closes, which its next write would notice.
    let mut waiting = Raw::connect(site.edge.http());
    waiting.send(format!("GET /hold?gate=never HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    origin.wait_mark("never", 1, deadline::STEP);
    drop(waiting);
    deadline::until_true("the exchange to end at the edge", deadline::STEP, || {
        site.edge.metrics().sum("edge_exchanges_in_flight", &[]) < 0.5
    });
}

fn an_answer_that_breaks_off_never_looks_complete(io: IoMode) {
    let (_origin, site, _connector) = scene(io);
    for visit in [Site::visit as fn(&Site, &str) -> _, Site::visit_tls] {
        let cut = visit(&site, "/truncate").run();
        assert!(cut.status == 502 || cut.exit != 0, "{cut:?}");
        let none = visit(&site, "/hangup").run();
        assert_eq!(none.status, 502, "{none:?}");
    }
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!(
        "POST /digest HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense"
    ));
    let answer = visitor
        .read_to_end(deadline::STEP)
        .expect("a broken request ends its connection");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(site.visit("/seen").run().status, 200);
}

fn one_slow_exchange_holds_up_nobody(io: IoMode) {
    let (origin, site, _connector) = scene(io);
    let held: Vec<_> = (0..50).map(|_| site.visit("/hold?gate=all").start()).collect();
    origin.wait_mark("all", 50, deadline::STEP);
    let quick = site.load("/seen").width(4, 1).requests(400);
    assert_eq!((quick.succeeded, quick.failed), (400, 0), "{}", quick.text);
    origin.open("all", 50);
    for one in held {
        assert_eq!(one.finish().text(), "held");
    }
}

adit_tests::in_both_modes!(
    events_arrive_one_by_one,
    an_upload_reaches_the_origin_while_it_is_sent,
    expect_is_answered_by_the_edge,
    an_answer_before_the_end_of_the_upload_reaches_the_visitor,
    a_visitor_that_leaves_ends_the_origin_request,
    an_answer_that_breaks_off_never_looks_complete,
    one_slow_exchange_holds_up_nobody,
);
