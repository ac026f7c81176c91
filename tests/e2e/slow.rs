//! Those who take nothing, or next to nothing, cost themselves their time and nobody else his.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::raw::Raw;

/// Exchanges of each kind that stand still. Four of them once held a connection, sixteen a tunnel.
const STALLED: usize = 64;

/// More than buffers of sockets on the way take.
const BODY_BYTES: usize = 50_000_000;

/// Small requests that must get through.
const SMALL: usize = 50;

/// For all of them together, on the slowest machine.
const SMALL_TIME: Duration = Duration::from_secs(60);

fn scene(io: IoMode, protocol: &str) -> (Scripted, Site, Connector) {
    let (origin, site) = (Scripted::start(), SiteSettings::new(io).cores(2).start());
    let tunnel = site.tunnel("lab");
    let settings = site.connector(&tunnel).service(&origin.url());
    let connector = settings.run_flags(["--protocol", protocol]).start();
    site.wait_served();
    (origin, site, connector)
}

/// Visitors who ask for much and read nothing, once nothing moves for them any more.
fn stalled_downloads(origin: &Scripted, site: &Site) -> Vec<Raw> {
    let visitors = (0..STALLED).map(|_| {
        let mut visitor = Raw::connect(site.edge.http());
        visitor.send(format!(
            "GET /bytes?count={BODY_BYTES} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        ));
        visitor
    });
    let visitors = visitors.collect();
    let (mut sent, mut idle_rounds) = (0, 0);
    deadline::until_true("downloads to stand still", Duration::from_secs(120), || {
        let before = std::mem::replace(&mut sent, origin.mark("/bytes"));
        idle_rounds = if sent == before && sent > 0 {
            idle_rounds + 1
        } else {
            0
        };
        idle_rounds >= 20
    });
    visitors
}

/// Visitors who send much to an origin that reads nothing of it.
fn stalled_uploads(site: &Site) -> Vec<TcpStream> {
    let visitors = (0..STALLED).map(|_| {
        let mut visitor = TcpStream::connect(site.edge.http()).expect("the edge listens");
        let head =
            format!("POST /hold?gate=never HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
        visitor.write_all(head.as_bytes()).expect("the edge takes a head");
        visitor.set_nonblocking(true).expect("a socket option");
        visitor
    });
    let mut visitors: Vec<_> = visitors.collect();
    push_until_full(&mut visitors);
    visitors
}

/// Sends until none of them takes any more.
fn push_until_full(visitors: &mut [TcpStream]) {
    let block = vec![b'x'; 64 << 10];
    let mut idle_rounds = 0;
    deadline::until_true("uploads to stand still", Duration::from_secs(120), || {
        let mut pushed = 0;
        for visitor in &mut *visitors {
            match visitor.write(&block) {
                Ok(count) => pushed += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
        idle_rounds = if pushed == 0 { idle_rounds + 1 } else { 0 };
        idle_rounds >= 20
    });
}

/// Every small request is answered while the others stand still.
fn answers_small_requests(site: &Site) {
    let time = SMALL_TIME.as_secs().to_string();
    for number in 0..SMALL {
        let visit = site.visit(&format!("/bytes?count=2000&seed={number}"));
        let answer = visit.arg("--max-time").arg(&time).run();
        assert_eq!(
            (answer.status, answer.body.len()),
            (200, 2000),
            "request {number}: {}",
            answer.error
        );
    }
}

fn downloads_that_nobody_reads_leave_quic_to_the_others(io: IoMode) {
    let (origin, site, _connector) = scene(io, "quic");
    let visitors = stalled_downloads(&origin, &site);
    answers_small_requests(&site);
    drop(visitors);
    answers_small_requests(&site);
    deadline::until_true("windows to be given back", deadline::STEP, || {
        site.edge.metrics().sum("edge_stream_windows_grown_bytes", &[]) < 0.5
    });
}

fn uploads_that_nobody_reads_leave_quic_to_the_others(io: IoMode) {
    let (_origin, site, _connector) = scene(io, "quic");
    let visitors = stalled_uploads(&site);
    answers_small_requests(&site);
    drop(visitors);
}

fn downloads_that_nobody_reads_leave_http2_to_the_others(io: IoMode) {
    let (origin, site, _connector) = scene(io, "http2");
    let visitors = stalled_downloads(&origin, &site);
    answers_small_requests(&site);
    drop(visitors);
    answers_small_requests(&site);
}

fn uploads_that_nobody_reads_leave_http2_to_the_others(io: IoMode) {
    let (_origin, site, _connector) = scene(io, "http2");
    let visitors = stalled_uploads(&site);
    answers_small_requests(&site);
    drop(visitors);
}

/// A site whose edge is not patient.
fn impatient(io: IoMode, protocol: &str) -> (Scripted, Site, Connector) {
    let settings = SiteSettings::new(io).cores(2);
    let (origin, site) = (
        Scripted::start(),
        settings.edge_lines("limits: {send-timeout: 1s}\n").start(),
    );
    let tunnel = site.tunnel("lab");
    let settings = site.connector(&tunnel).service(&origin.url());
    let connector = settings.run_flags(["--protocol", protocol]).start();
    site.wait_served();
    (origin, site, connector)
}

/// Waits until so many exchanges have ended for this reason.
fn wait_ended(site: &Site, code: &str, count: u32) {
    deadline::until_true("the edge to end those who take nothing", deadline::STEP, || {
        site.edge
            .metrics()
            .sum("edge_exchange_errors_total", &[("code", code)])
            >= f64::from(count)
    });
}

fn a_visitor_who_takes_nothing_is_given_up(io: IoMode) {
    let (origin, site, _connector) = impatient(io, "quic");
    let mut events = Raw::connect(site.edge.http());
    events.send(format!(
        "GET /drip?gate=events&count=1&sse HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    ));
    events.read_until("\r\n\r\n", deadline::STEP);
    for number in 1..=2 {
        let mut visitor = Raw::connect(site.edge.http());
        visitor.send(format!("GET /flood?mark=gone HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        wait_ended(&site, "visitor-stalled", number);
        origin.wait_mark("gone", number.into(), deadline::STEP);
        assert!(
            visitor.read_to_end(deadline::STEP).is_some(),
            "the connection is closed"
        );
    }
    // All the while nothing was there for the one who waits for an event.
    origin.open("events", 1);
    events.read_until("data: 0\n\n", deadline::STEP);
}

/// Frames of HTTP/2 (RFC 9113 §4.1), made by hand: no client asks for nothing.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).expect("it is short").to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn a_visitor_over_http2_without_a_window_is_given_up(io: IoMode) {
    let (origin, site, _connector) = impatient(io, "quic");
    let path = "/flood?mark=gone";
    // :method GET, :scheme http, :path, :authority (RFC 7541 §6, appendix A).
    let mut head = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).expect("it is short")];
    head.extend(path.bytes());
    head.extend([0x01, u8::try_from(HOST.len()).expect("it is short")]);
    head.extend(HOST.bytes());
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    visitor.send(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    visitor.send(frame(1, 0x5, 1, &head));
    wait_ended(&site, "visitor-stalled", 1);
    origin.wait_mark("gone", 1, deadline::STEP);
    // RST_STREAM of this stream; the connection lives.
    loop {
        let head = visitor.read_exactly(9, deadline::STEP);
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        visitor.read_exactly(length, deadline::STEP);
        assert_ne!(head[3], 7, "GOAWAY");
        if head[3] == 3 {
            assert_eq!(head[5..9], 1_u32.to_be_bytes());
            break;
        }
    }
}

fn an_upload_that_nobody_takes_is_given_up(io: IoMode) {
    for protocol in ["quic", "http2"] {
        let (_origin, site, _connector) = impatient(io, protocol);
        let mut visitor = TcpStream::connect(site.edge.http()).expect("the edge listens");
        let head =
            format!("POST /hold?gate=never HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
        visitor.write_all(head.as_bytes()).expect("the edge takes a head");
        visitor.set_nonblocking(true).expect("a socket option");
        let (block, mut answer) = (vec![b'x'; 64 << 10], Vec::new());
        deadline::until_true("the edge to answer", deadline::STEP, || {
            // It may have closed, and its answer may have come.
            let _ = visitor.write(&block);
            let mut part = [0; 4_096];
            if let Ok(count) = visitor.read(&mut part) {
                answer.extend_from_slice(&part[..count]);
            }
            String::from_utf8_lossy(&answer).contains("upload-stalled")
        });
        assert!(
            answer.starts_with(b"HTTP/1.1 504 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        wait_ended(&site, "upload-stalled", 1);
    }
}

adit_tests::in_both_modes!(
    a_visitor_who_takes_nothing_is_given_up,
    a_visitor_over_http2_without_a_window_is_given_up,
    an_upload_that_nobody_takes_is_given_up,
    downloads_that_nobody_reads_leave_quic_to_the_others,
    uploads_that_nobody_reads_leave_quic_to_the_others,
    downloads_that_nobody_reads_leave_http2_to_the_others,
    uploads_that_nobody_reads_leave_http2_to_the_others,
);
