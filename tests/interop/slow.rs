//! Uploads that an origin does not read, and downloads that a visitor does not read, beside small requests. A
//! stock connector's windows cannot be changed, and still nobody waits behind another.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::raw::Raw;

use crate::{Over, over_both};

/// On four connections, each of whose windows two of them would use up.
const STALLED: usize = 64;

/// More than buffers of sockets on the way take.
const BODY_BYTES: usize = 50_000_000;

fn answers_small_requests(site: &Site) {
    for number in 0..50 {
        let visit = site.visit(&format!("/bytes?count=2000&seed={number}"));
        let answer = visit.arg("--max-time").arg("60").run();
        assert_eq!(
            (answer.status, answer.body.len()),
            (200, 2000),
            "request {number}: {}",
            answer.error
        );
    }
}

fn downloads_that_nobody_reads_hold_up_nobody(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("downloads_that_nobody_reads_hold_up_nobody") else {
        return;
    };
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = crate::serve(stock, &site, &tunnel, &origin.url(), over);
    let visitors: Vec<_> = (0..STALLED)
        .map(|_| {
            let mut visitor = Raw::connect(site.edge.http());
            visitor.send(format!(
                "GET /bytes?count={BODY_BYTES} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
            ));
            visitor
        })
        .collect();
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
    answers_small_requests(&site);
    drop(visitors);
}

/// Over HTTP/2 heads need no window, so requests without a body pass whatever is left of it.
fn uploads_that_nobody_reads_hold_up_nobody(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("uploads_that_nobody_reads_hold_up_nobody") else {
        return;
    };
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = crate::serve(stock, &site, &tunnel, &origin.url(), over);
    let mut visitors: Vec<_> = (0..STALLED)
        .map(|_| {
            let mut visitor = TcpStream::connect(site.edge.http()).expect("the edge listens");
            let head = format!(
                "POST /hold?gate=never HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
            );
            visitor.write_all(head.as_bytes()).expect("the edge takes a head");
            visitor.set_nonblocking(true).expect("a socket option");
            visitor
        })
        .collect();
    let block = vec![b'x'; 64 << 10];
    let mut idle_rounds = 0;
    deadline::until_true("uploads to stand still", Duration::from_secs(120), || {
        let pushed: usize = visitors
            .iter_mut()
            .map(|visitor| visitor.write(&block).unwrap_or(0))
            .sum();
        idle_rounds = if pushed == 0 { idle_rounds + 1 } else { 0 };
        idle_rounds >= 20
    });
    answers_small_requests(&site);
}

over_both!(
    downloads_that_nobody_reads_hold_up_nobody,
    uploads_that_nobody_reads_hold_up_nobody,
);
