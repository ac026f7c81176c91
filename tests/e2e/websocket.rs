//! WebSockets: echo both ways, an origin that speaks first, TLS, ends, refusals.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::websocket::Client;

fn messages_echo_in_order_and_whole(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let mut client = Client::open(site.edge.http(), HOST, "/ws", "").expect("an upgrade");
    assert_eq!(client.response.status().as_u16(), 101);
    for number in 0..200 {
        let text = format!("message {number}");
        client.send(&text);
        assert_eq!(client.receive(), text.as_bytes());
    }
    for size in [0, 125, 126, 65_535, 65_536, 3_000_000] {
        let bytes = vec![7; size];
        client.send_bytes(bytes.clone());
        assert!(client.receive() == bytes, "a message of {size} bytes");
    }
    client.close();
    origin.wait_mark("/ws-end", 1, deadline::STEP);
}

fn an_origin_may_speak_first_and_choose_a_protocol(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let mut client = Client::open(site.edge.http(), HOST, "/ws-first", "chat, other").expect("an upgrade");
    let chosen = client.response.headers().get("sec-websocket-protocol");
    assert_eq!(chosen.and_then(|value| value.to_str().ok()), Some("chat"));
    assert_eq!(client.receive(), b"hello");
    client.send("again");
    assert_eq!(client.receive(), b"again");

    let root = &site.certificate.certificate;
    let mut secure = Client::open_tls(site.edge.https(), HOST, "/ws-first", root).expect("an upgrade");
    assert_eq!(secure.receive(), b"hello");
    secure.send_bytes(vec![9; 100_000]);
    assert_eq!(secure.receive().len(), 100_000);
}

fn an_end_on_one_side_ends_the_other(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &origin.url());
    // The visitor's connection breaks without a goodbye.
    let mut client = Client::open(site.edge.http(), HOST, "/ws", "").expect("an upgrade");
    client.send("x");
    client.receive();
    drop(client);
    origin.wait_mark("/ws-end", 1, deadline::STEP);
    // The connector dies: the visitor learns of it.
    let mut client = Client::open(site.edge.http(), HOST, "/ws", "").expect("an upgrade");
    client.send("x");
    client.receive();
    let mut connector = connector;
    connector.process.kill();
    assert!(client.ends(), "the visitor's connection ends with the connector");
}

fn a_refused_upgrade_is_passed_on(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let refusal = |path| Client::open(site.edge.http(), HOST, path, "").err();
    assert_eq!(refusal("/ws-refuse"), Some(403));
    assert_eq!(refusal("/seen"), Some(200));
    assert_eq!(refusal("/hangup"), Some(502));
    let nobody = Client::open(site.edge.http(), "nobody.example.test", "/ws", "").err();
    assert_eq!(nobody, Some(404));
}

fn many_at_once_across_cores(io: IoMode) {
    let (origin, site) = (Scripted::start(), SiteSettings::new(io).cores(2).start());
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let open = |_| Client::open(site.edge.http(), HOST, "/ws", "").expect("an upgrade");
    let mut clients: Vec<Client> = (0..100).map(open).collect();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&format!("{round}/{number}"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.receive(), format!("{round}/{number}").as_bytes());
        }
    }
    drop(clients);
    origin.wait_mark("/ws-end", 100, deadline::STEP);
}

fn the_built_in_service_echoes_without_an_origin(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, "hello_world");
    let mut client = Client::open(site.edge.http(), HOST, "/ws?x=1", "").expect("an upgrade");
    client.send("hello");
    assert_eq!(client.receive(), b"hello");
    for size in [0, 125, 126, 65_536, 3_000_000] {
        let bytes = vec![7; size];
        client.send_bytes(bytes.clone());
        assert!(client.receive() == bytes, "a message of {size} bytes");
    }
    client.close();
    // The page is not for sockets, nor the socket for page views.
    let page = Client::open(site.edge.http(), HOST, "/", "").err();
    assert_eq!(page, Some(200));
    assert_eq!(site.visit("/ws").run().status, 400);
}

adit_tests::in_both_modes!(
    the_built_in_service_echoes_without_an_origin,
    messages_echo_in_order_and_whole,
    an_origin_may_speak_first_and_choose_a_protocol,
    an_end_on_one_side_ends_the_other,
    a_refused_upgrade_is_passed_on,
    many_at_once_across_cores,
);
