//! TCP services, reached as clients of cloudflared reach them: bytes in the binary messages of a WebSocket.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::refused_address;
use adit_tests::origin::tcp::{self, Manner};
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::websocket::Client;

/// The header with which clients of a bastion say where to.
const JUMP: &str = "Cf-Access-Jump-Destination";

fn open(site: &Site, host: &str, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
    Client::open_with(site.edge.http(), host, "/", headers)
}

/// Sends and hears the same.
fn assert_echoes(client: &mut Client, bytes: &[u8]) {
    client.send_bytes(bytes.to_vec());
    assert!(
        client.receive_exactly(bytes.len()) == bytes,
        "{} bytes",
        bytes.len()
    );
}

/// Waits until the edge knows the route of `host`.
fn wait_routed(site: &Site, host: &str) {
    deadline::until_true("the route", deadline::STEP, || {
        site.visit_host(host, "/").run().status == 426
    });
}

fn bytes_pass_and_ends_are_passed_on(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    for host in ["count.example.test", "greet.example.test", "dead.example.test"] {
        site.control.route(&tunnel, host);
    }
    let rules = format!(
        "  - hostname: count.example.test\n    service: ssh://{}\n  - hostname: greet.example.test\n    service: rdp://{}\n  \
         - hostname: dead.example.test\n    service: tcp://{}\n  - service: tcp://{}\n",
        tcp::start(Manner::Count),
        tcp::start(Manner::Greet),
        refused_address(),
        tcp::start(Manner::Echo),
    );
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    for host in [
        HOST,
        "count.example.test",
        "greet.example.test",
        "dead.example.test",
    ] {
        wait_routed(&site, host);
    }
    let mut client = open(&site, HOST, &[]).expect("an upgrade");
    for size in [1, 125, 126, 16 << 10, (16 << 10) + 1, 3_000_000] {
        let bytes: Vec<u8> = (0..size).map(|place: usize| (place % 251) as u8).collect();
        assert_echoes(&mut client, &bytes);
    }
    // Text has no place here: a connector of cloudflared drops it as well.
    client.send("dropped");
    client.ping(b"are you there?");
    assert_echoes(&mut client, b"kept");
    client.close();

    // A close ends one direction, so the reply to the end still comes.
    let mut counted = open(&site, "count.example.test", &[]).expect("an upgrade");
    assert_eq!(counted.response.headers()["adit-half-close"], "?1");
    counted.send_bytes(vec![7; 100_000]);
    assert_eq!(counted.close_and_hear(), b"heard 100000 bytes");

    let mut greeted = open(&site, "greet.example.test", &[]).expect("an upgrade");
    assert_eq!(greeted.receive_exactly(5), b"hello");
    assert!(greeted.ends(), "the origin has ended");

    assert_eq!(open(&site, "dead.example.test", &[]).err(), Some(502));
    deadline::until_true("all to be counted", deadline::STEP, || {
        let count = |name| connector.metrics().sum(name, &[]) as u64;
        (
            count("cloudflared_tcp_total_sessions"),
            count("cloudflared_tcp_active_sessions"),
            count("cloudflared_proxy_connect_latency_count"),
            count("cloudflared_proxy_connect_streams_errors"),
        ) == (3, 0, 3, 1)
    });
}

fn a_bastion_goes_where_the_visitor_says(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    site.control.route(&tunnel, "mode.example.test");
    let rules = "  - hostname: mode.example.test\n    service: tcp://192.0.2.1:9\n    originRequest: {bastionMode: true}\n  \
                 - service: bastion\n";
    let connector = site.connector(&tunnel).ingress(rules).start();
    connector.wait_connections(4);
    let origin = tcp::start(Manner::Echo).to_string();
    for host in [HOST, "mode.example.test"] {
        wait_routed(&site, host);
        for place in [origin.clone(), format!("tcp://{origin}/x")] {
            let mut client = open(&site, host, &[(JUMP, &place)]).expect("an upgrade");
            assert_echoes(&mut client, b"through the bastion");
        }
        for headers in [&[][..], &[(JUMP, "no port")], &[(JUMP, "127.0.0.1")]] {
            assert_eq!(open(&site, host, headers).err(), Some(502), "{headers:?}");
        }
        let dead = refused_address().to_string();
        assert_eq!(open(&site, host, &[(JUMP, &dead)]).err(), Some(502));
    }
    let mut process = connector.process;
    process.wait_line(
        "Did not receive final destination from client. The --destination flag is likely not set on the client side",
        deadline::STEP,
    );
}

/// A request of SOCKS5 for an IPv4 address, after a greeting.
fn ask(client: &mut Client, address: std::net::SocketAddr) -> Vec<u8> {
    let std::net::IpAddr::V4(host) = address.ip() else {
        panic!("the origins listen on IPv4");
    };
    client.send_bytes(vec![5, 1, 0]);
    assert_eq!(client.receive_exactly(2), [5, 0]);
    let request = [&[5, 1, 0, 1][..], &host.octets(), &address.port().to_be_bytes()];
    client.send_bytes(request.concat());
    client.receive_exactly(10)
}

fn a_socks_proxy_goes_where_its_rules_allow(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    for host in ["closed.example.test", "one.example.test"] {
        site.control.route(&tunnel, host);
    }
    let (allowed, denied) = (tcp::start(Manner::Echo), tcp::start(Manner::Echo));
    let dead = refused_address();
    let rules = format!(
        "  - hostname: closed.example.test\n    service: socks-proxy\n  - hostname: one.example.test\n    service: tcp://{allowed}\n    \
         originRequest: {{proxyType: socks}}\n  - service: socks-proxy\n    originRequest:\n      ipRules:\n      \
         - {{prefix: 127.0.0.0/8, ports: [{}], allow: false}}\n      - {{prefix: 127.0.0.1/32, allow: true}}\n",
        denied.port()
    );
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    for host in [HOST, "closed.example.test", "one.example.test"] {
        wait_routed(&site, host);
    }
    let reply = |host: &str, address| {
        let mut client = open(&site, host, &[]).expect("an upgrade");
        let reply = ask(&mut client, address);
        if reply[1] == 0 {
            assert_echoes(&mut client, b"through the proxy");
        } else {
            assert!(client.ends(), "a client that is turned down is let go");
        }
        reply[1]
    };
    assert_eq!(reply(HOST, allowed), 0);
    assert_eq!(reply(HOST, denied), 2);
    assert_eq!(reply(HOST, dead), 5);
    assert_eq!(reply(HOST, "192.0.2.1:22".parse().expect("an address")), 2);
    assert_eq!(reply("closed.example.test", allowed), 2);
    // The rule says where to, whatever the client asks for.
    assert_eq!(reply("one.example.test", dead), 0);
    let mut nonsense = open(&site, HOST, &[]).expect("an upgrade");
    nonsense.send_bytes(b"GET / HTTP/1.1\r\n\r\n".to_vec());
    assert!(nonsense.ends(), "what speaks no SOCKS is let go");
}

adit_tests::in_both_modes!(
    bytes_pass_and_ends_are_passed_on,
    a_bastion_goes_where_the_visitor_says,
    a_socks_proxy_goes_where_its_rules_allow,
);
