//! Those who take nothing, or next to nothing, cost themselves their time and nobody else his.

use std::io::{ErrorKind, Write as _};
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

/// Visitors who ask for much and read nothing.
fn stalled_downloads(site: &Site) -> Vec<Raw> {
    let visitors = (0..STALLED).map(|_| {
        let mut visitor = Raw::connect(site.edge.http());
        visitor.send(format!(
            "GET /bytes?count={BODY_BYTES} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        ));
        visitor
    });
    visitors.collect()
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
    let (_origin, site, _connector) = scene(io, "quic");
    let visitors = stalled_downloads(&site);
    answers_small_requests(&site);
    drop(visitors);
    answers_small_requests(&site);
}

fn uploads_that_nobody_reads_leave_quic_to_the_others(io: IoMode) {
    let (_origin, site, _connector) = scene(io, "quic");
    let visitors = stalled_uploads(&site);
    answers_small_requests(&site);
    drop(visitors);
}

fn downloads_that_nobody_reads_leave_http2_to_the_others(io: IoMode) {
    let (_origin, site, _connector) = scene(io, "http2");
    let visitors = stalled_downloads(&site);
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

adit_tests::in_both_modes!(
    downloads_that_nobody_reads_leave_quic_to_the_others,
    uploads_that_nobody_reads_leave_quic_to_the_others,
    downloads_that_nobody_reads_leave_http2_to_the_others,
    uploads_that_nobody_reads_leave_http2_to_the_others,
);
