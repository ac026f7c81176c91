//! WebSockets and streamed bodies through the stock connector.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::raw::Raw;
use adit_tests::visitor::websocket::Client;

use crate::{Over, over_both};

fn websockets_echo(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("websockets_echo") else {
        return;
    };
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = crate::serve(stock, &site, &tunnel, &origin.url(), over);
    let mut client = Client::open(site.edge.http(), HOST, "/ws-first", "").expect("an upgrade");
    assert_eq!(client.receive(), b"hello");
    for size in [1, 126, 65_536, 1_000_000] {
        client.send_bytes(vec![5; size]);
        assert_eq!(client.receive().len(), size);
    }
    client.close();
    origin.wait_mark("/ws-end", 1, deadline::STEP);
    let root = &site.certificate.certificate;
    let mut secure = Client::open_tls(site.edge.https(), HOST, "/ws", root).expect("an upgrade");
    secure.send("over TLS");
    assert_eq!(secure.receive(), b"over TLS");
    assert_eq!(
        Client::open(site.edge.http(), HOST, "/ws-refuse", "").err(),
        Some(403)
    );
}

fn events_arrive_one_by_one(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("events_arrive_one_by_one") else {
        return;
    };
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = crate::serve(stock, &site, &tunnel, &origin.url(), over);
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!(
        "GET /drip?gate=events&count=5&sse HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    ));
    for number in 0..5 {
        origin.open("events", 1);
        visitor.read_until(&format!("data: {number}\n\n"), deadline::STEP);
    }
    visitor.read_until("\r\n0\r\n\r\n", deadline::STEP);
}

fn ends_and_errors_are_passed_on(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("ends_and_errors_are_passed_on") else {
        return;
    };
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = crate::serve(stock, &site, &tunnel, &origin.url(), over);
    let flood = site.visit("/flood?mark=gone").start();
    deadline::until_true("the flood to arrive", deadline::STEP, || {
        flood.received() > 1_000_000
    });
    flood.abort();
    origin.wait_mark("gone", 1, deadline::STEP);
    let cut = site.visit("/truncate").run();
    assert!(cut.status == 502 || cut.exit != 0, "{cut:?}");
    assert_eq!(site.visit("/hangup").run().status, 502);
    // Over HTTP/2 the edge resets the rest of the upload, as it may. curl 7.88 then forgets the answer it
    // has.
    let early = site
        .visit_tls("/refuse-body")
        .arg("--http1.1")
        .post(vec![b'.'; 3_000_000])
        .run();
    assert_eq!(early.status, 413, "{early:?}");
    assert_eq!(site.visit("/seen").run().status, 200);
}

over_both!(
    websockets_echo,
    events_arrive_one_by_one,
    ends_and_errors_are_passed_on
);
