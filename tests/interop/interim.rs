//! Interim answers of an origin behind a stock connector, which passes none.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::handmade::Handmade;
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::raw::Raw;

use crate::{Over, over_both, serve};

fn they_end_at_the_connector(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("they_end_at_the_connector") else {
        return;
    };
    let origin = Handmade::answering(|_| {
        let ahead = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
        format!("{ahead}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").into_bytes()
    });
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let _connector = serve(stock, &site, &tunnel, &origin.url(), over);
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!("GET /hinted HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let head = visitor.read_until("\r\n\r\n", deadline::STEP);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let asked = origin.heads().concat().to_lowercase();
    assert!(
        !asked.contains("adit"),
        "a stock connector is asked as ever: {asked}"
    );
}

over_both!(they_end_at_the_connector);
