//! The same tunnel over another transport: HTTP/2 where it is asked for, and where no UDP passes.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use adit_proto::exchange::error_code::ErrorCode;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::scripted::Scripted;
use adit_tests::origin::tcp::{self, Manner};
use adit_tests::relay::{Impairment, Relay};
use adit_tests::site::connector::{Connector, ConnectorSettings};
use adit_tests::site::{HOST, Site, error_code};
use adit_tests::tcp_relay::TcpRelay;
use adit_tests::visitor::websocket::Client;
use nix::sys::signal::Signal;

/// A probe of QUIC comes within half a minute of the fall-back, and the connections follow a second apart.
const RETURN_LIMIT: Duration = Duration::from_secs(60);

fn with_flags<const N: usize>(mut settings: ConnectorSettings, flags: [&str; N]) -> ConnectorSettings {
    settings.flags.extend(flags.map(str::to_owned));
    settings
}

fn over_http2(settings: ConnectorSettings) -> ConnectorSettings {
    with_flags(settings, ["--protocol", "http2"])
}

fn over_whichever(settings: ConnectorSettings) -> ConnectorSettings {
    with_flags(settings, ["--protocol", "auto", "--max-edge-addr-retries", "1"])
}

/// An address from which TCP reaches `edge` and UDP does not.
fn firewall(edge: SocketAddr) -> (Relay, TcpRelay) {
    deadline::until("a port that is free for both", deadline::STEP, || {
        let relay = Relay::start(edge, 29, Impairment::default());
        relay.set_dark(true);
        let tcp = TcpRelay::start(relay.address(), edge).ok()?;
        Some((relay, tcp))
    })
}

/// How many connections a connector has ever registered over a transport.
fn registered_over(connector: &Connector, protocol: &str) -> usize {
    let said = format!("protocol={protocol}");
    let log = connector.process.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("Registered tunnel connection"));
    lines.filter(|line| line.contains(&said)).count()
}

fn a_tunnel_over_http2_carries_all_kinds_of_exchanges(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    site.control.route(&tunnel, "tcp.example.test");
    let rules = format!(
        "  - hostname: tcp.example.test\n    service: tcp://{}\n  - service: {}\n",
        tcp::start(Manner::Echo),
        origin.url(),
    );
    let mut connector = over_http2(site.connector(&tunnel)).ingress(&rules).start();
    connector.wait_connections(4);
    site.wait_served();
    assert_eq!(registered_over(&connector, "http2"), 4);
    assert_eq!(registered_over(&connector, "quic"), 0);

    let response = site
        .visit("/seen")
        .header("Cookie: a=1")
        .header("X-Visitor: yes")
        .run();
    let seen = response.text().to_lowercase();
    assert!(
        seen.contains("x-visitor: yes") && seen.contains("cookie: a=1"),
        "{seen}"
    );
    assert!(!seen.contains("cf-cloudflared"), "{seen}");
    let body: Vec<u8> = (0..5_000_000_usize).map(|at| (at % 251) as u8).collect();
    let sized = site.visit("/digest").post(body.clone()).run().text();
    let unsized_body = site.visit("/digest").post_unsized(body).run().text();
    assert!(
        sized.contains("bytes=5000000") && sized.contains("framing=length"),
        "{sized}"
    );
    assert!(unsized_body.contains("bytes=5000000") && unsized_body.contains("framing=chunked"));
    for path in [
        "/bytes?count=5000000&seed=7",
        "/bytes?count=5000000&seed=7&chunked",
    ] {
        assert_eq!(site.visit_tls(path).run().body.len(), 5_000_000);
    }
    assert_eq!(site.visit("/hangup").run().status, 502);

    let mut dripping = site.visit("/drip?gate=drip&count=3&sse").arg("-N").start();
    for number in 1..=3 {
        origin.open("drip", 1);
        deadline::until_true("the next event", deadline::STEP, || {
            dripping.received() == number * 9
        });
    }
    deadline::until_true("the end", deadline::STEP, || dripping.is_done());
    let flood = site.visit("/flood?mark=flood").start();
    deadline::until_true("a flood", deadline::STEP, || flood.received() > 1_000_000);
    flood.abort();
    origin.wait_mark("flood", 1, deadline::STEP);

    let mut client = Client::open(site.edge.http(), HOST, "/ws", "").expect("an upgrade");
    client.send_bytes(vec![7; 300_000]);
    assert!(client.receive() == vec![7; 300_000]);
    client.close();
    let mut client = Client::open(site.edge.http(), "tcp.example.test", "/", "").expect("an upgrade");
    client.send_bytes(vec![8; 300_000]);
    assert!(client.receive_exactly(300_000) == vec![8; 300_000]);
    client.close();

    // What is under way is finished before the connector ends.
    let held = site.visit("/hold?gate=held").start();
    origin.wait_mark("held", 1, deadline::STEP);
    connector.process.signal(Signal::SIGTERM);
    connector
        .process
        .wait_line("Unregistered tunnel connection", deadline::STEP);
    origin.open("held", 1);
    assert_eq!(held.finish().text(), "held");
    assert!(connector.process.wait_exit(deadline::STEP).success());
}

/// UDP is blocked, then it is not: nobody who is visiting notices either.
fn rules_and_limits_hold_over_http2(io: IoMode) {
    let (nginx, origin, site) = (Nginx::start(), Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let rules = format!(
        "  - hostname: {HOST}\n    path: ^/(seen|hold)\n    service: {}\n    \
         originRequest: {{circuitBreaker: {{maxRequests: 1, maxPending: 0}}}}\n  \
         - service: {}\n    originRequest: {{h2cOrigin: true, originAddresses: ['{}'], maxFails: 1, stripPrefix: /app, \
         requestHeaders: {{set: {{X-Rule: set}}}}, responseHeaders: {{set: {{Server: hidden}}}}}}\n",
        origin.url(),
        nginx.plain_http2_url(),
        adit_tests::origin::refused_address(),
    );
    let connector = over_http2(site.connector(&tunnel)).ingress(&rules).start();
    connector.wait_connections(4);
    site.wait_served();
    for _ in 0..4 {
        let told = site.visit("/app/tell?x").run();
        assert_eq!(told.line("uri"), "/tell?x", "{told:?}");
        assert_eq!(told.line("protocol"), "HTTP/2.0");
        assert_eq!(
            (told.line("x-rule").as_str(), told.header("server")),
            ("set", Some("hidden"))
        );
        let body = vec![b'x'; 100_000];
        assert!(matches!(
            site.visit("/app/put").method("PUT").post(body).run().status,
            201 | 204
        ));
    }
    let held = site.visit("/hold?gate=end").start();
    origin.wait_mark("end", 1, deadline::STEP);
    let refused = site.visit("/seen").run();
    assert_eq!(error_code(&refused), Some(ErrorCode::OriginBusy), "{refused:?}");
    origin.open("end", 1);
    assert_eq!(held.finish().text(), "held");
}

fn edges_of_the_wanted_family_are_dialled(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let edge = site.edge.addresses.tunnel;
    let free = |port: u16| SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    // The edge listens on IPv4 only.
    let relay = deadline::until("a port of IPv6", deadline::STEP, || {
        let port = adit_tests::origin::free_address().port();
        Some((free(port), TcpRelay::start(free(port), edge).ok()?))
    });
    for (version, ip) in [("6", "ip=::1"), ("4", "ip=127.0.0.1")] {
        let mut settings = over_http2(site.connector(&tunnel)).service(&nginx.url());
        settings.edges = [[edge; 4], [relay.0; 4]].concat();
        let mut connector = with_flags(settings, ["--edge-ip-version", version]).start();
        connector.wait_connections(4);
        site.wait_served();
        let log = connector.process.log();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("Registered tunnel connection"))
            .collect();
        assert!(
            lines.len() == 4 && lines.iter().all(|line| line.contains(ip)),
            "{version}: {lines:?}"
        );
        assert!(connector.process.terminate(deadline::STEP).success());
    }
}

fn where_udp_is_blocked_a_tunnel_uses_tcp_until_it_is_not(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let (relay, _tcp) = firewall(site.edge.addresses.tunnel);
    let mut connector = over_whichever(site.connector(&tunnel))
        .edge(relay.address())
        .service(&origin.url())
        .start();
    connector
        .process
        .wait_line("Switching to fallback protocol http2", deadline::STEP);
    connector.wait_connections(4);
    site.wait_served();
    assert_eq!(registered_over(&connector, "http2"), 4);
    assert_eq!(registered_over(&connector, "quic"), 0);

    let held = site.visit("/hold?gate=held").start();
    origin.wait_mark("held", 1, deadline::STEP);
    let mut client = Client::open(site.edge.http(), HOST, "/ws", "").expect("an upgrade");
    client.send("over TCP");
    assert_eq!(client.receive(), b"over TCP");
    relay.set_dark(false);
    deadline::until_true("all connections over QUIC", RETURN_LIMIT, || {
        let response = site.visit("/seen").run();
        assert_eq!(response.status, 200, "{response:?}");
        registered_over(&connector, "quic") == 4
    });
    // What began over TCP goes on over TCP.
    client.send("still");
    assert_eq!(client.receive(), b"still");
    origin.open("held", 1);
    assert_eq!(held.finish().text(), "held");
    client.close();
    connector.wait_connections(4);
    assert_eq!(site.visit("/seen").run().status, 200);
    assert_eq!(registered_over(&connector, "http2"), 4);
    deadline::until_true("control to know", deadline::STEP, || {
        site.control.connection_count(&tunnel) == 4
    });
    assert!(connector.process.terminate(deadline::STEP).success());
}

/// The only connection of a tunnel moves: visitors wait for a moment.
fn a_single_connection_moves_without_losing_a_visitor(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let (relay, _tcp) = firewall(site.edge.addresses.tunnel);
    let connector = over_whichever(site.connector(&tunnel))
        .edge(relay.address())
        .lines("ha-connections: 1\n")
        .service(&nginx.url())
        .start();
    connector.wait_connections(1);
    site.wait_served();
    relay.set_dark(false);
    deadline::until_true("the connection over QUIC", RETURN_LIMIT, || {
        let response = site.visit("/").run();
        assert_eq!(response.status, 200, "{response:?}");
        registered_over(&connector, "quic") == 1
    });
    assert_eq!(site.visit("/").run().status, 200);
}

/// An edge that ends takes its TCP connections along, and gets them back.
fn a_connector_that_leaves_over_http2_sends_the_last_byte(io: IoMode) {
    const BYTES: usize = 8_000_000;
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    // What the origin has sent waits in the connector for a link that is slower.
    let link = TcpRelay::slow(site.edge.addresses.tunnel, 4_000_000).expect("a free port");
    let settings = over_http2(site.connector(&tunnel))
        .edge(link.address())
        .service(&origin.url());
    let mut connector = settings.start();
    connector.wait_connections(4);
    site.wait_served();
    let path = format!("/bytes?count={BYTES}");
    let downloads = [(); 4].map(|()| site.visit(&path).start());
    deadline::until_true("all to be under way", deadline::STEP, || {
        downloads.iter().all(|download| download.received() > 1_000_000)
    });
    assert!(connector.process.terminate(deadline::STEP).success());
    for download in downloads {
        let done = download.finish();
        assert_eq!((done.exit, done.body.len()), (0, BYTES), "{}", done.error);
    }
}

fn connections_over_http2_come_back_after_an_edge_does(io: IoMode) {
    let (nginx, mut site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = over_http2(site.connector(&tunnel)).service(&nginx.url()).start();
    connector.wait_connections(4);
    site.wait_served();
    for kill in [false, true] {
        if kill {
            site.edge.process.kill();
        } else {
            assert!(site.edge.process.terminate(deadline::STEP).success());
        }
        site.edge.start_again();
        deadline::until_true("the page", Duration::from_secs(40), || {
            site.visit("/").run().status == 200
        });
        connector.wait_connections(4);
    }
}

adit_tests::in_both_modes!(
    a_tunnel_over_http2_carries_all_kinds_of_exchanges,
    rules_and_limits_hold_over_http2,
    edges_of_the_wanted_family_are_dialled,
    where_udp_is_blocked_a_tunnel_uses_tcp_until_it_is_not,
    a_single_connection_moves_without_losing_a_visitor,
    a_connector_that_leaves_over_http2_sends_the_last_byte,
    connections_over_http2_come_back_after_an_edge_does,
);
