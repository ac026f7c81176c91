//! Upgrades to other protocols than WebSocket, as container engines and clusters ask for them, byte by byte.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::handmade::{Handmade, Talk};
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::raw::Raw;

/// What a container engine says when it hands a connection over, its length of an empty body included.
const UPGRADED: &str = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
                        Content-Length: 0\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nX-Kept: yes\r\n\r\nhello\n";

/// Transports of a tunnel.
const PROTOCOLS: [&str; 2] = ["quic", "http2"];

/// Large enough to fill windows, so that both directions wait for each other.
const FLOW_BYTES: usize = 3 << 20;

/// Reads the body of `head` if it has one.
fn body_of(talk: &mut Talk, head: &str) -> std::io::Result<Vec<u8>> {
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|length| length.parse().ok());
    talk.bytes(length.unwrap_or(0))
}

/// Switches to an echo where it is asked for `tcp`, and says what else it was asked.
fn engine() -> Handmade {
    Handmade::start(|talk| {
        while let Some(head) = talk.head()? {
            let body = body_of(talk, &head)?;
            if head.contains("/switch") && head.contains("Connection: Upgrade\r\nUpgrade: tcp\r\n") {
                talk.send(UPGRADED)?;
                talk.send(&body)?;
                return talk.echo();
            }
            let text = format!("asked with {} bytes\n", body.len());
            let length = text.len();
            talk.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
            ))?;
        }
        Ok(())
    })
}

fn site(io: IoMode, origin: &Handmade, protocol: &str) -> (Site, impl Sized) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let settings = site.connector(&tunnel).service(&origin.url());
    let connector = settings.run_flags(["--protocol", protocol]).start();
    connector.wait_connections(4);
    site.wait_served();
    (site, connector)
}

fn ask(site: &Site, method: &str, path: &str, lines: &str, body: &str) -> Raw {
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\n{lines}\r\n{body}"
    ));
    visitor
}

fn a_flow_is_held_back_by_who_does_not_read(io: IoMode) {
    for protocol in PROTOCOLS {
        let origin = engine();
        let (site, _connector) = site(io, &origin, protocol);
        the_flow_is_held_back(&site);
    }
}

fn the_flow_is_held_back(site: &Site) {
    let mut visitor = ask(site, "POST", "/switch", "Upgrade: tcp\r\n", "");
    visitor.read_until("hello\n", deadline::STEP);
    let mut sender = visitor.sender();
    let sending = std::thread::spawn(move || sender.send(vec![b'y'; FLOW_BYTES]));
    // The echo fills every window on the way before anything is read here.
    let echoed = visitor.read_exactly(FLOW_BYTES, deadline::STEP);
    sending.join().expect("all of it is taken");
    assert!(echoed.iter().all(|byte| *byte == b'y'));
}

fn who_is_not_switched_gets_an_answer(io: IoMode) {
    for protocol in PROTOCOLS {
        let origin = engine();
        let (site, _connector) = site(io, &origin, protocol);
        nobody_is_switched(&site, &origin);
    }
}

fn nobody_is_switched(site: &Site, origin: &Handmade) {
    // The origin does not want to.
    let asked = "Upgrade: tcp\r\nContent-Length: 4\r\n";
    let mut visitor = ask(site, "POST", "/stay", asked, "body");
    visitor.read_until("asked with 4 bytes\n", deadline::STEP);
    // Requests in these would pass the edge unseen, so the origin is not asked for them.
    for protocol in ["h2c", "H2", "HTTP/2.0", "TLS/1.2"] {
        let lines = format!("Upgrade: {protocol}\r\n");
        let mut visitor = ask(site, "GET", "/switch", &lines, "");
        let answer = visitor.read_until("asked with 0 bytes\n", deadline::STEP);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{lines}: {answer}");
        let heads = origin.heads();
        let head = heads.last().expect("the origin was asked").to_lowercase();
        assert!(!head.contains("upgrade"), "{lines}: {head}");
    }
    // A body that is not held goes as ever.
    let large = "z".repeat((64 << 10) + 1);
    let lines = format!("Upgrade: tcp\r\nContent-Length: {}\r\n", large.len());
    let mut visitor = ask(site, "POST", "/switch", &lines, &large);
    visitor.read_until("asked with 65537 bytes\n", deadline::STEP);
    // No visitor speaks for the edge.
    let lie = "Adit-Upgrade: tcp\r\nAditUpgrade: tcp\r\nCf-Cloudflared-Adit-Upgrade: tcp\r\n";
    let mut visitor = ask(site, "GET", "/switch", lie, "");
    visitor.read_until("asked with 0 bytes\n", deadline::STEP);
}

/// The visitor hears what the origin says, and nothing that nobody asked for.
fn a_switch_is_to_what_the_origin_says(io: IoMode) {
    let origin = Handmade::start(|talk| {
        let Some(head) = talk.head()? else {
            return Ok(());
        };
        let named = match head.split_whitespace().nth(1) {
            Some("/named") => "Upgrade: SPDY/3.1\r\n",
            Some("/other") => "Upgrade: h2c\r\n",
            Some("/silent") => "",
            _ => return talk.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        };
        talk.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{named}\r\n"
        ))?;
        talk.echo()
    });
    for protocol in PROTOCOLS {
        let (site, _connector) = site(io, &origin, protocol);
        let mut visitor = ask(&site, "GET", "/named", "Upgrade: spdy\r\n", "");
        let head = visitor.read_until("\r\n\r\n", deadline::STEP);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(
            head.to_lowercase().contains("\r\nupgrade: spdy/3.1\r\n"),
            "{head}"
        );
        visitor.send("ping");
        visitor.read_until("ping", deadline::STEP);
        for path in ["/other", "/silent"] {
            let mut visitor = ask(&site, "GET", path, "Upgrade: spdy\r\n", "");
            let head = visitor.read_until("\r\n\r\n", deadline::STEP);
            assert!(head.starts_with("HTTP/1.1 502 "), "{path}: {head}");
        }
    }
}

/// A WebSocket has no length, whatever its request says of a body that it has not.
fn a_websocket_whose_request_announces_no_body_flows(io: IoMode) {
    let origin = Handmade::start(|talk| {
        let Some(head) = talk.head()? else {
            return Ok(());
        };
        if !head.to_lowercase().contains("upgrade: websocket") {
            return talk.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        talk.send("HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        talk.echo()
    });
    for protocol in PROTOCOLS {
        let (site, _connector) = site(io, &origin, protocol);
        let lines = "Upgrade: websocket\r\nContent-Length: 0\r\n";
        let mut visitor = ask(&site, "GET", "/chat", lines, "");
        let head = visitor.read_until("\r\n\r\n", deadline::STEP);
        assert!(head.starts_with("HTTP/1.1 101 "), "{protocol}: {head}");
        visitor.send("ping");
        visitor.read_until("ping", deadline::STEP);
    }
}

adit_tests::in_both_modes!(
    a_flow_is_held_back_by_who_does_not_read,
    who_is_not_switched_gets_an_answer,
    a_switch_is_to_what_the_origin_says,
    a_websocket_whose_request_announces_no_body_flows,
);
