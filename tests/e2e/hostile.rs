//! Hostile tunnel clients, connectors and visitors: they are refused or ended, in bounded memory, and nobody
//! else notices.

use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use adit_driver::quic::Connection;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::stranger::{self, Stranger};
use adit_tests::visitor::raw::Raw;
use adit_wire::connect::{Entry, encode_response};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// What the edge may grow by under attack.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

struct Scene {
    _nginx: Nginx,
    site: Site,
    _connector: Connector,
    credentials: PathBuf,
}

fn scene(io: IoMode) -> Scene {
    let (nginx, site) = (Nginx::start(), SiteSettings::new(io).cores(2).start());
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &nginx.url());
    Scene {
        _nginx: nginx,
        site,
        _connector: connector,
        credentials: tunnel.credentials,
    }
}

/// Runs `attack` while visitors are served, and checks that all of them were, and what the edge's memory did.
fn undisturbed(site: &mut Site, attack: impl FnOnce(&Site)) {
    assert_eq!(site.load("/h").width(8, 1).requests(200).failed, 0);
    site.edge.process.forget_peak();
    let before = site.edge.process.memory().resident;
    let load = site.load("/h").width(8, 1).run_for(Duration::from_secs(4));
    attack(site);
    let outcome = load.finish();
    assert_eq!(
        (outcome.failed, outcome.done),
        (0, outcome.succeeded),
        "{}",
        outcome.text
    );
    let growth = site.edge.process.memory().peak.saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "the edge grew by {} KiB", growth >> 10);
    assert!(site.edge.process.exited().is_none());
    assert_eq!(site.visit("/").run().text(), "served by nginx\n");
}

/// First bytes of control streams that promise more than anybody should believe.
fn bombs() -> Vec<Bytes> {
    let framed = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut many_segments = framed(&[511]);
    many_segments.extend(std::iter::repeat_n(0xff, 4096));
    let mut nested = framed(&[0, 4096]);
    // Struct pointers, each to a struct of one pointer right behind it: as deep as the message is long.
    nested.extend((0..4096).flat_map(|_| [0, 0, 0, 0, 0, 0, 1, 0]));
    let mut lists = framed(&[0, 2]);
    // A list of 2^29 void elements: it takes no room and a naive reader visits each.
    lists.extend([0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0xf8, 0xff, 0xff, 0xff]);
    let mut random = vec![0; 9000];
    StdRng::seed_from_u64(1).fill_bytes(&mut random);
    [
        framed(&[0, 0x0080_0000]),
        framed(&[u32::MAX, u32::MAX]),
        framed(&[0, u32::MAX]),
        many_segments,
        nested,
        lists,
        random,
    ]
    .into_iter()
    .map(Bytes::from)
    .collect()
}

/// Sends `bytes` on a new stream and waits until the edge ends the stream or the connection.
async fn spit(connection: &Connection, bytes: Bytes) {
    let Ok((mut send, mut recv)) = connection.open_bi().await else {
        return;
    };
    // The edge may end either before it has taken everything.
    send.write(bytes).await.ok();
    while let Ok(Some(_)) = recv.read_chunk().await {}
}

fn garbage_on_the_control_stream_ends_the_connection(io: IoMode) {
    let mut scene = scene(io);
    let ca = scene.site.control.ca();
    undisturbed(&mut scene.site, |site| {
        stranger::visit(site.edge.addresses.tunnel, &ca, |stranger| async move {
            let mut visits = Vec::new();
            for bomb in bombs().into_iter().cycle().take(70) {
                let stranger = stranger.clone();
                visits.push(tokio::task::spawn_local(async move {
                    let connection = stranger.connect().await.expect("a handshake");
                    // The rest of what it promised never comes; the edge has its own deadline.
                    spit(&connection, bomb).await;
                    connection.closed().await;
                }));
            }
            for visit in visits {
                visit.await.expect("the edge ended the connection");
            }
        });
    });
}

fn silence_after_the_handshake_ends_in_seconds(io: IoMode) {
    let mut scene = scene(io);
    let ca = scene.site.control.ca();
    undisturbed(&mut scene.site, |site| {
        stranger::visit(site.edge.addresses.tunnel, &ca, |stranger| async move {
            let mut silent = Vec::new();
            for _ in 0..50 {
                silent.push(stranger.connect().await.expect("a handshake"));
            }
            let start = std::time::Instant::now();
            for connection in &silent {
                connection.closed().await;
            }
            assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
        });
        let metrics = site.edge.metrics();
        assert!(metrics.sum("edge_registrations_timed_out_total", &[]) >= 50.0);
    });
}

fn other_protocols_and_wrong_proofs_are_turned_away(io: IoMode) {
    let scene = scene(io);
    let site = &scene.site;
    let good = std::fs::read(&scene.credentials).expect("credentials");
    let forged: serde_json::Value = serde_json::from_slice(&good).expect("JSON");
    let forge = |key: &str, value: &str| {
        let mut forged = forged.clone();
        forged[key] = value.into();
        forged.to_string().into_bytes()
    };
    let proofs = vec![
        forge("TunnelSecret", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        forge("TunnelSecret", "AA=="),
        forge("TunnelID", "11111111-2222-3333-4444-555555555555"),
        forge("AccountTag", "somebody-else"),
    ];
    stranger::visit(site.edge.addresses.tunnel, &site.control.ca(), move |stranger| {
        let (proofs, good) = (proofs.clone(), good.clone());
        async move {
            for protocol in [&b"h3"[..], b"http/1.1"] {
                assert!(
                    stranger.connect_as(protocol).await.is_err(),
                    "{protocol:?} is not spoken here"
                );
            }
            for proof in proofs {
                let connection = stranger.connect().await.expect("a handshake");
                let refusal = Stranger::register(&connection, &proof)
                    .await
                    .expect_err("a forged proof");
                assert!(refusal.contains("Unauthorized"), "{refusal}");
            }
            let connection = stranger.connect().await.expect("a handshake");
            Stranger::register(&connection, &good)
                .await
                .expect("the true proof");
            connection.close(0, b"");
        }
    });
}

/// Datagrams that are no QUIC, handshakes that never go on, from many sources.
fn half_open_handshakes_and_noise_are_bounded(io: IoMode) {
    let mut scene = scene(io);
    undisturbed(&mut scene.site, |site| {
        let edge = site.edge.addresses.tunnel;
        let mut random = StdRng::seed_from_u64(2);
        for source in 0..200 {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
            for number in 0..20_u8 {
                let mut datagram = vec![0; random.random_range(1..1300)];
                random.fill_bytes(&mut datagram);
                if number % 2 == 0 && datagram.len() > 6 {
                    // The form of an Initial packet of version 1, or of a version that does not exist.
                    datagram.resize(1200, 0);
                    datagram[0] = 0xc3;
                    let version: u32 = if source % 2 == 0 { 1 } else { 0x1a2a_3a4a };
                    datagram[1..5].copy_from_slice(&version.to_be_bytes());
                    datagram[5] = 8;
                    datagram[14] = 8;
                }
                // A full socket buffer is no failure of the edge.
                socket.send_to(&datagram, edge).ok();
            }
        }
        deadline::until_true("half-open handshakes to be forgotten", deadline::STEP, || {
            site.edge.metrics().sum("edge_handshakes_half_open", &[]) < 0.5
        });
    });
}

/// Answers of a connector that has registered rightly and then misbehaves.
fn answers() -> Vec<Option<Bytes>> {
    let head = |entries: &[Entry<'_>]| encode_response(b"", entries).expect("a head");
    let with = |status: &'static [u8]| head(&[Entry::new("HttpStatus", status)]);
    let truncated = with(b"200").slice(..20);
    let mut huge = with(b"200").to_vec();
    huge[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    vec![
        None,
        Some(Bytes::new()),
        Some(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n")),
        Some(truncated),
        Some(Bytes::from(huge)),
        Some(with(b"99999")),
        Some(with(b"-1")),
        Some(with(b"two hundred")),
        Some(head(&[])),
        Some(head(&[
            Entry::new("HttpStatus", b"200"),
            Entry::new("HttpHeader:X", b"a\r\nSet-Cookie: b=c"),
        ])),
        Some(head(&[
            Entry::new("HttpStatus", b"200"),
            Entry::new("HttpHeader:Content-Length", b"5"),
        ])),
        Some(head(&[Entry::new("HttpStatus", b"101")])),
    ]
}

fn a_misbehaving_connector_gives_errors_to_its_own_visitors_only(io: IoMode) {
    let mut scene = scene(io);
    let bad = scene
        .site
        .control
        .create("bad", &scene.site.folder().join("bad.json"));
    scene.site.control.route(&bad, "bad.example.test");
    let credentials = std::fs::read(&bad.credentials).expect("credentials");
    let ca = scene.site.control.ca();
    undisturbed(&mut scene.site, |site| {
        let (edge, http) = (site.edge.addresses.tunnel, site.edge.http());
        let visitors = std::thread::spawn(move || {
            let visit = || {
                let mut raw = Raw::connect(http);
                raw.send("GET / HTTP/1.1\r\nHost: bad.example.test\r\nConnection: close\r\n\r\n");
                raw.read_to_end(Duration::from_secs(30))
                    .map(|answer| String::from_utf8_lossy(&answer).into_owned())
            };
            deadline::until_true("the bad connector to be asked", deadline::STEP, || {
                visit().is_some_and(|answer| !answer.contains("tunnel-no-connection"))
            });
            (0..answers().len() * 2).map(|_| visit()).collect::<Vec<_>>()
        });
        let credentials = credentials.clone();
        stranger::visit(edge, &ca, move |stranger| {
            let credentials = credentials.clone();
            async move {
                let connection = stranger.connect().await.expect("a handshake");
                Stranger::register(&connection, &credentials)
                    .await
                    .expect("the true proof");
                let mut answers = answers().into_iter().cycle();
                // Until the visitors are through and the test ends the connection by going away.
                let quiet = Duration::from_secs(5);
                while let Ok(Ok((mut send, _recv))) =
                    tokio::time::timeout(quiet, connection.accept_bi()).await
                {
                    match answers.next().flatten() {
                        Some(bytes) => {
                            send.write(bytes).await.ok();
                            send.finish();
                        }
                        None => send.reset(7),
                    }
                }
            }
        });
        for answer in visitors.join().expect("the visitors") {
            let answer = answer.expect("the edge ended the connection");
            assert!(!answer.contains("Set-Cookie"), "header injection: {answer}");
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer}");
        }
    });
}

fn hostile_visitors_are_answered_or_cut_off(io: IoMode) {
    let mut scene = scene(io);
    undisturbed(&mut scene.site, |site| {
        // Heads that never end, on many connections; they are closed after the head timeout of 10 s.
        let mut slow: Vec<Raw> = (0..100).map(|_| Raw::connect(site.edge.http())).collect();
        for visitor in &mut slow {
            visitor.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: "));
        }
        let wrong = [
            "\r\n\r\n\r\n".to_owned(),
            "GET\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: other.test\r\n\r\n"),
            "GET / HTTP/1.1\r\nHost: in valid\r\n\r\n".to_owned(),
            format!(
                "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"
            ),
            format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: -5\r\n\r\n"),
            format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: gzip\r\n\r\n"),
            format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
            format!(
                "GET / HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n",
                "X-Many: 1\r\n".repeat(2000)
            ),
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}".to_owned(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense".to_owned(),
        ];
        for request in wrong {
            let mut visitor = Raw::connect(site.edge.http());
            visitor.try_send(&request);
            visitor.finish();
            let answer = visitor.read_to_end(Duration::from_secs(20));
            let answer = String::from_utf8_lossy(&answer.unwrap_or_else(|| panic!("{request:?} is ended")))
                .into_owned();
            assert!(!answer.starts_with("HTTP/1.1 2"), "{request:?}: {answer}");
        }
        // TLS that is none, and handshakes that never go on.
        let mut half: Vec<TcpStream> = Vec::new();
        for number in 0..100 {
            let mut stream = TcpStream::connect(site.edge.https()).expect("a connection");
            let hello: &[u8] = if number % 2 == 0 {
                b"GET / HTTP/1.1\r\n\r\n"
            } else {
                &[22, 3, 1, 2, 0, 1]
            };
            stream.write_all(hello).ok();
            half.push(stream);
        }
        assert_eq!(site.visit_tls("/").run().status, 200);
        for mut visitor in slow {
            assert!(
                visitor.read_to_end(Duration::from_secs(20)).is_some(),
                "a slow head is cut off"
            );
        }
        let metrics = site.edge.metrics();
        assert!(
            metrics.sum("edge_heads_timed_out_total", &[]) >= 100.0,
            "the limit is counted"
        );
    });
}

adit_tests::in_both_modes!(
    garbage_on_the_control_stream_ends_the_connection,
    silence_after_the_handshake_ends_in_seconds,
    other_protocols_and_wrong_proofs_are_turned_away,
    half_open_handshakes_and_noise_are_bounded,
    a_misbehaving_connector_gives_errors_to_its_own_visitors_only,
    hostile_visitors_are_answered_or_cut_off,
);
