//! Origins that break the rules: what a visitor gets, and that nobody else notices.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use adit_proto::exchange::error_code::ErrorCode;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::broken::{Answer, Broken, Issued};
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site, SiteSettings, error_code};
use adit_tests::visitor::curl::Response;

/// A rule for each service at `/0`, `/1`, …, with its keys of `originRequest`, and nginx for everything else.
fn serve(site: &Site, nginx: &Nginx, services: &[(String, String)]) -> Connector {
    let tunnel = site.tunnel("lab");
    let mut rules = String::new();
    for (number, (service, keys)) in services.iter().enumerate() {
        writeln!(
            rules,
            "  - hostname: {HOST}\n    path: ^/{number}$\n    service: {service}\n    originRequest: {keys}"
        )
        .expect("a string grows");
    }
    writeln!(rules, "  - service: {}", nginx.url()).expect("a string grows");
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    site.wait_served();
    connector
}

fn get(site: &Site, number: usize) -> Response {
    site.visit(&format!("/{number}")).run()
}

fn others_are_served(site: &Site) {
    assert_eq!(site.visit("/").run().text(), "served by nginx\n");
}

/// Answers without a head that can be passed on.
fn no_heads() -> Vec<(&'static str, Answer)> {
    let bytes = |text: &str| Answer::Bytes(text.as_bytes().to_vec());
    let long = format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(100_000)
    );
    vec![
        ("closes at once", Answer::Close),
        ("closes after the request", bytes("")),
        ("half a head", bytes("HTTP/1.1 200 OK\r\nContent-Le")),
        ("another protocol", bytes("SSH-2.0-OpenSSH_9.2\r\n")),
        ("binary", Answer::Bytes((0..=255).rev().collect())),
        ("a status that is none", bytes("HTTP/1.1 99 X\r\n\r\n")),
        ("no status", bytes("HTTP/1.1\r\n\r\n")),
        (
            "two lengths",
            bytes("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        ),
        (
            "a length of letters",
            bytes("HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabc"),
        ),
        ("a header without a name", bytes("HTTP/1.1 200 OK\r\n: x\r\n\r\n")),
        ("too long a header", bytes(&long)),
        (
            "an endless head",
            Answer::Endless(
                b"HTTP/1.1 200 OK\r\n".to_vec(),
                b"X-Again: and again\r\n".to_vec(),
            ),
        ),
        (
            "an endless line",
            Answer::Endless(b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 4096]),
        ),
        (
            "switches unasked",
            bytes("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
        ),
    ]
}

fn what_is_no_answer_is_an_error_page(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let cases = no_heads();
    let origins: Vec<Broken> = cases
        .iter()
        .map(|(_, answer)| Broken::start(answer.clone()))
        .collect();
    let services: Vec<_> = origins
        .iter()
        .map(|origin| (format!("http://{}", origin.address), "{}".to_owned()))
        .collect();
    let _connector = serve(&site, &nginx, &services);
    for (number, (name, _)) in cases.iter().enumerate() {
        let answer = get(&site, number);
        assert_eq!(answer.status, 502, "{name}: {answer:?}");
        assert!(error_code(&answer).is_some(), "{name}: {answer:?}");
        others_are_served(&site);
    }
}

/// Answers that begin well, each with what a visitor gets of the body. `None` for a transfer that the visitor
/// sees to be broken.
fn bodies() -> Vec<(&'static str, Answer, Option<&'static str>)> {
    let bytes = |text: &str| Answer::Bytes(text.as_bytes().to_vec());
    vec![
        (
            "too much",
            bytes("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more"),
            Some("hello"),
        ),
        (
            "two answers",
            bytes(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
            ),
            Some("ok"),
        ),
        (
            "until the end",
            bytes("HTTP/1.0 200 OK\r\n\r\nhello"),
            Some("hello"),
        ),
        (
            "byte by byte",
            Answer::ByteByByte(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
            ),
            Some("hello"),
        ),
        (
            "informed first",
            bytes(
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            ),
            Some("hello"),
        ),
        (
            "too little",
            bytes("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"),
            None,
        ),
        (
            "no last chunk",
            bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            None,
        ),
        (
            "a chunk of letters",
            bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
            None,
        ),
        (
            "a chunk beyond measure",
            bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nfffffffffffffffff\r\n"),
            None,
        ),
    ]
}

fn broken_bodies_never_look_whole(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let cases = bodies();
    let origins: Vec<Broken> = cases
        .iter()
        .map(|(_, answer, _)| Broken::start(answer.clone()))
        .collect();
    let services: Vec<_> = origins
        .iter()
        .map(|origin| (format!("http://{}", origin.address), "{}".to_owned()))
        .collect();
    let _connector = serve(&site, &nginx, &services);
    for (number, (name, _, body)) in cases.iter().enumerate() {
        // Again, on what a connector may have kept of the first time.
        for _ in 0..2 {
            let answer = get(&site, number);
            match body {
                Some(body) => {
                    let (status, text) = (answer.status, answer.text());
                    assert_eq!((status, answer.exit, text.as_str()), (200, 0, *body), "{name}");
                }
                // The news of the break may overtake the head.
                None if answer.status == 502 => assert!(error_code(&answer).is_some(), "{name}: {answer:?}"),
                None => assert_ne!((answer.status, answer.exit), (200, 0), "{name}: {answer:?}"),
            }
        }
        others_are_served(&site);
    }
}

fn silence_ends_and_a_visitor_who_leaves_is_not_kept(io: IoMode) {
    let nginx = Nginx::start();
    let site = SiteSettings::new(io)
        .edge_lines("limits: {response-head-timeout: 1s}\n")
        .start();
    let mute = Broken::start(Answer::Hang(Vec::new()));
    let stuck = Broken::start(Answer::Hang(
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello".to_vec(),
    ));
    let services = [&mute, &stuck].map(|origin| (format!("http://{}", origin.address), "{}".to_owned()));
    let _connector = serve(&site, &nginx, &services);
    let start = Instant::now();
    let answer = get(&site, 0);
    assert_eq!(error_code(&answer), Some(ErrorCode::OriginTimeout), "{answer:?}");
    assert!(start.elapsed() >= Duration::from_secs(1));
    deadline::until_true("the silent origin to be let go", deadline::STEP, || {
        mute.left() == 1
    });
    let answer = site.visit("/1").arg("--max-time").arg("2").run();
    assert_eq!((answer.status, answer.exit), (200, 28), "{answer:?}");
    deadline::until_true("the stuck origin to be let go", deadline::STEP, || {
        stuck.left() == 1
    });
    others_are_served(&site);
}

/// An origin with TLS and how it is asked, with what the connector's log says; `None` for one that answers.
struct Secured {
    name: &'static str,
    service: String,
    keys: String,
    why: Option<&'static str>,
}

/// Each way in which an origin's TLS can be wrong, and one in which it is right. The servers live as long as
/// the second and the third value.
fn secured(folder: &Path) -> (Vec<Secured>, Vec<Broken>, TcpListener) {
    let issued = |name: &str, year: i32| Issued::new(folder, name, year);
    let good = issued("origin.test", 2099);
    let (expired, other) = (issued("origin.test", 2020), issued("other.test", 2099));
    let trusting = |issued: &Issued| {
        let file = issued.file.display();
        format!("{{caPool: {file}, originServerName: origin.test, tlsTimeout: 1s}}")
    };
    let origins = vec![
        Broken::tls(&good),
        Broken::tls(&expired),
        Broken::tls(&other),
        Broken::start(Answer::Bytes(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())),
        Broken::start(Answer::Close),
    ];
    // The kernel connects, and nobody shakes hands.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let silent_at = silent.local_addr().expect("a bound socket has an address");
    let case = |name, address: SocketAddr, keys: String, why| Secured {
        name,
        service: format!("https://{address}"),
        keys,
        why,
    };
    let at = |place: usize| origins[place].address;
    let (none, failed) = (None, Some("TLS handshake failed"));
    let untrusting = "{originServerName: origin.test}".to_owned();
    let cases = vec![
        case("good", at(0), trusting(&good), none),
        case("expired", at(1), trusting(&expired), Some("expired")),
        case(
            "another name",
            at(2),
            trusting(&other),
            Some("not valid for name"),
        ),
        case("self-signed", at(0), untrusting, Some("UnknownIssuer")),
        case("not TLS", at(3), trusting(&good), failed),
        case("cut short", at(4), trusting(&good), failed),
        case("silent", silent_at, trusting(&good), failed),
        Secured {
            name: "no such name",
            service: "http://nowhere.invalid:80".to_owned(),
            keys: "{connectTimeout: 5s}".to_owned(),
            why: Some("cannot resolve nowhere.invalid"),
        },
    ];
    (cases, origins, silent)
}

fn what_cannot_be_trusted_or_reached_is_not_used(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let folder = tempfile::tempdir().expect("a temp dir");
    let (cases, _origins, _silent) = secured(folder.path());
    let services: Vec<_> = cases
        .iter()
        .map(|case| (case.service.clone(), case.keys.clone()))
        .collect();
    let mut connector = serve(&site, &nginx, &services);
    for (number, case) in cases.iter().enumerate() {
        let name = case.name;
        let mark = connector.process.mark();
        let answer = get(&site, number);
        match case.why {
            None => assert_eq!(answer.text(), "fine", "{name}: {answer:?}"),
            Some(why) => {
                assert_eq!(
                    error_code(&answer),
                    Some(ErrorCode::OriginUnreachable),
                    "{name}: {answer:?}"
                );
                connector.process.wait_line_after(mark, why, deadline::STEP);
            }
        }
        others_are_served(&site);
    }
}

adit_tests::in_both_modes!(
    what_is_no_answer_is_an_error_page,
    broken_bodies_never_look_whole,
    silence_ends_and_a_visitor_who_leaves_is_not_kept,
    what_cannot_be_trusted_or_reached_is_not_used,
);
