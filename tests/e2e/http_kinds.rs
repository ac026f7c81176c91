//! Kinds of HTTP that no tool speaks by itself. Visitors and origins use the corner cases of RFC 9110 and
//! 9112, byte by byte, through a connector over QUIC and over HTTP/2.

use std::fmt::Write as _;
use std::time::Duration;

use adit_proto::exchange::error_code::ErrorCode;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::handmade::Handmade;
use adit_tests::site::{HOST, Site, error_code};
use adit_tests::visitor::raw::Raw;

/// What most origins here answer.
const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

/// Tells `story` of a site with a connector over either transport beside `origin`.
fn each_way(io: IoMode, origin: &Handmade, story: impl Fn(&Site)) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    for protocol in ["quic", "http2"] {
        let settings = site.connector(&tunnel).service(&origin.url());
        let connector = settings.run_flags(["--protocol", protocol]).start();
        connector.wait_connections(4);
        site.wait_served();
        story(&site);
    }
}

/// Sends `request` on a connection of its own, and reads the answer to the end of the connection.
fn ask(site: &Site, request: impl AsRef<[u8]>) -> String {
    let mut visitor = Raw::connect(site.edge.http());
    visitor.send(request);
    let answer = visitor.read_to_end(deadline::STEP);
    String::from_utf8_lossy(&answer.expect("the edge closes")).into_owned()
}

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{lines}Connection: close\r\n\r\n")
}

fn names_that_look_like_reserved_ones_reach_no_origin(io: IoMode) {
    let origin = Handmade::answering(|_| FINE.into());
    each_way(io, &origin, |site| {
        let before = origin.heads().len();
        let mut lies = String::new();
        for name in [
            "Cf_Access_Authenticated_User_Email",
            "cf-access_authenticated-user_email",
            "CF_ACCESS_JWT_ASSERTION",
            "X_Forwarded_For",
            "X-Forwarded_Proto",
            "x.forwarded.host",
            "Cf_Connecting_IP",
            "Cf-Connecting_IPv6",
            "X_Real_IP",
            "True_Client_IP",
            "Cf_Warp_Tag_Id",
            "Cf_Cloudflared_Proxy_Src",
            "X_Request~Id",
            "Adit-Upgrade",
            "Adit_Interim",
        ] {
            write!(lies, "{name}: liar\r\n").expect("a string grows");
        }
        let asked = get("/lies", &format!("{lies}My_Own: kept\r\nX_Forward: kept\r\n"));
        assert!(ask(site, &asked).ends_with("fine"));
        let upgrade = format!(
            "GET /lies HTTP/1.1\r\nHost: {HOST}\r\n{lies}My_Own: kept\r\nX_Forward: kept\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut visitor = Raw::connect(site.edge.http());
        visitor.send(upgrade);
        visitor.read_until("fine", deadline::STEP);
        let over_http2 = lies
            .lines()
            .fold(site.visit_tls("/lies"), |curl, line| curl.header(line));
        let over_http2 = over_http2.header("My_Own: kept").header("X_Forward: kept");
        assert_eq!(over_http2.run().text(), "fine");
        let heads = origin.heads();
        assert_eq!(heads.len(), before + 3);
        for head in &heads[before..] {
            assert!(!head.contains("liar"), "{head}");
            assert_eq!(head.matches(": kept\r\n").count(), 2, "{head}");
        }
    });
}

/// An answer of an origin, and what is looked for in the visitor's answer. A code where that is an error
/// page.
struct Odd {
    name: &'static str,
    answer: String,
    status: u16,
    code: Option<ErrorCode>,
    headers: &'static [(&'static str, Option<&'static str>)],
    body: &'static str,
}

const CHUNKED: &str = "4\r\nfine\r\n0\r\n\r\n";

/// Headers of all answers in [`odd_answers`] that are passed on.
fn odd(name: &'static str, head: &str, body: &'static str) -> Odd {
    Odd {
        name,
        answer: format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}"),
        status: 200,
        code: None,
        headers: &[],
        body: "fine",
    }
}

fn odd_answers() -> Vec<Odd> {
    let mut all = many_headers();
    all.extend(contradictions());
    all
}

fn many(count: usize) -> String {
    (0..count).fold(String::new(), |mut lines, number| {
        write!(lines, "X-Many-{number}: {number}\r\n").expect("a string grows");
        lines
    })
}

/// The same, in whose place the visitor gets this.
fn refused(code: ErrorCode, odd: Odd) -> Odd {
    Odd {
        status: code.status().as_u16(),
        code: Some(code),
        ..odd
    }
}

fn many_headers() -> Vec<Odd> {
    vec![
        Odd {
            headers: &[("x-many-119", Some("119"))],
            ..odd("120 headers", &(many(120) + "Content-Length: 4\r\n"), "fine")
        },
        Odd {
            headers: &[("x-many-479", Some("479"))],
            ..odd("480 headers", &(many(480) + "Content-Length: 4\r\n"), "fine")
        },
        refused(
            ErrorCode::OriginHeadTooLarge,
            odd("too many headers", &(many(600) + "Content-Length: 4\r\n"), "fine"),
        ),
        refused(
            ErrorCode::OriginHeadTooLarge,
            odd(
                "too long a head",
                &format!("X-Long: {}\r\nContent-Length: 4\r\n", "x".repeat(80_000)),
                "fine",
            ),
        ),
        refused(
            ErrorCode::OriginHeadTooLarge,
            odd(
                "far too long a head",
                &format!("X-Long: {}\r\nContent-Length: 4\r\n", "x".repeat(400_000)),
                "fine",
            ),
        ),
    ]
}

fn contradictions() -> Vec<Odd> {
    vec![
        Odd {
            headers: &[("content-length", None)],
            ..odd(
                "length before chunked",
                "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                CHUNKED,
            )
        },
        Odd {
            headers: &[("content-length", None)],
            ..odd(
                "length after chunked",
                "Transfer-Encoding: Chunked\r\nContent-Length: 2\r\n",
                CHUNKED,
            )
        },
        Odd {
            headers: &[("x-folded", Some("one two three")), ("x-next", Some("4"))],
            ..odd(
                "folded headers",
                "X-Folded: one\r\n two\r\n\tthree\r\nX-Next: 4\r\nContent-Length: 4\r\n",
                "fine",
            )
        },
        Odd {
            headers: &[("x-hop", None), ("connection", None), ("x-end", Some("1"))],
            ..odd(
                "headers of the connection",
                "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-End: 1\r\nContent-Length: 4\r\n",
                "fine",
            )
        },
        Odd {
            headers: &[("cf-cloudflared-response-meta", None), ("adit-error", None)],
            ..odd(
                "headers between edge and connector",
                "Cf-Cloudflared-Response-Meta: {}\r\nAdit-Error: overloaded\r\nContent-Length: 4\r\n",
                "fine",
            )
        },
        refused(
            ErrorCode::OriginBadResponse,
            odd("another coding", "Transfer-Encoding: gzip, chunked\r\n", CHUNKED),
        ),
        refused(
            ErrorCode::OriginBadResponse,
            odd(
                "a coding to the end",
                "Transfer-Encoding: gzip\r\nConnection: close\r\n",
                "fine",
            ),
        ),
        refused(
            ErrorCode::OriginBadResponse,
            odd("a header without a name", ": x\r\nContent-Length: 4\r\n", "fine"),
        ),
    ]
}

fn odd_answers_are_passed_on_whole_or_refused_by_name(io: IoMode) {
    let origin = Handmade::answering(|head| {
        let number = head
            .split([' ', '/'])
            .nth(2)
            .and_then(|number| number.parse::<usize>().ok());
        match number.and_then(|number| odd_answers().into_iter().nth(number)) {
            Some(odd) => odd.answer.into_bytes(),
            None => FINE.into(),
        }
    });
    each_way(io, &origin, |site| {
        for (number, odd) in odd_answers().iter().enumerate() {
            for visit in [Site::visit as fn(&Site, &str) -> _, Site::visit_tls] {
                let answer = visit(site, &format!("/{number}")).run();
                assert_eq!(answer.status, odd.status, "{}: {answer:?}", odd.name);
                assert_eq!(error_code(&answer), odd.code, "{}: {answer:?}", odd.name);
                for (name, value) in odd.headers {
                    assert_eq!(answer.header(name), *value, "{}: {answer:?}", odd.name);
                }
                if odd.code.is_none() {
                    assert_eq!(
                        (answer.text().as_str(), answer.exit),
                        (odd.body, 0),
                        "{}",
                        odd.name
                    );
                }
            }
        }
    });
}

fn requests_that_are_for_no_origin_are_refused(io: IoMode) {
    let origin = Handmade::answering(|_| FINE.into());
    each_way(io, &origin, |site| {
        let before = origin.heads().len();
        let post = |lines: &str| {
            format!("POST /refused HTTP/1.1\r\nHost: {HOST}\r\n{lines}Connection: close\r\n\r\n{CHUNKED}")
        };
        for (name, request, status, code) in [
            (
                "authority form",
                get(&format!("{HOST}:80"), ""),
                400,
                "bad-request",
            ),
            ("asterisk form", get("*", ""), 400, "bad-request"),
            (
                "ftp",
                get(&format!("ftp://{HOST}/refused"), ""),
                400,
                "bad-request",
            ),
            (
                "file",
                get(&format!("file://{HOST}/refused"), ""),
                400,
                "bad-request",
            ),
            (
                "connect",
                format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nConnection: close\r\n\r\n"),
                501,
                "unsupported",
            ),
            (
                "gzip",
                post("Transfer-Encoding: gzip, chunked\r\n"),
                501,
                "unsupported",
            ),
        ] {
            let answer = ask(site, request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{name}: {answer}"
            );
            assert!(answer.contains(code), "{name}: {answer}");
        }
        let absolute = get(&format!("http://{HOST}/whole"), "");
        assert!(ask(site, absolute).ends_with("fine"));
        let heads = origin.heads();
        assert_eq!(heads.len(), before + 1, "{heads:?}");
        assert!(heads[before].starts_with("GET /whole HTTP/1.1\r\n"), "{heads:?}");
    });
}

/// Requests in which one server sees another end, and so another next request, than the next one.
fn requests_with_two_ends_are_refused(io: IoMode) {
    let origin = Handmade::answering(|_| FINE.into());
    each_way(io, &origin, |site| {
        let before = origin.heads().len();
        let next = format!("GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        for (name, lines) in [
            ("chunked twice", "Transfer-Encoding: chunked, chunked"),
            ("chunked not last", "Transfer-Encoding: chunked, identity"),
            (
                "chunked in two lines",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            ),
            (
                "length and chunked",
                "Content-Length: 4\r\nTransfer-Encoding: chunked",
            ),
            (
                "chunked and length",
                "Transfer-Encoding: chunked\r\nContent-Length: 14",
            ),
            ("two lengths", "Content-Length: 4\r\nContent-Length: 5"),
            ("a list of lengths", "Content-Length: 14, 14"),
        ] {
            let mut visitor = Raw::connect(site.edge.http());
            visitor.send(format!(
                "POST /refused HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n\r\n{CHUNKED}{next}"
            ));
            let answer = visitor.read_to_end(deadline::STEP).expect("the edge closes");
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
            assert!(
                answer.contains("connection: close\r\n") && answer.contains("bad-request"),
                "{name}: {answer}"
            );
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        }
        assert_eq!(origin.heads().len(), before);
    });
}

/// What old clients and some libraries send in a target, and what the origin gets.
fn targets_with_odd_characters_reach_the_origin(io: IoMode) {
    let origin = Handmade::answering(|_| FINE.into());
    each_way(io, &origin, |site| {
        for (target, wanted) in [
            (&b"/?q={\"a\":1}"[..], "/?q={%22a%22:1}"),
            (b"/a<b>`?c=<d>", "/a%3Cb%3E%60?c=%3Cd%3E"),
            (b"/x?a|b^c`\\", "/x?a|b^c`\\"),
            ("/caf\u{e9}?\u{fc}".as_bytes(), "/caf%C3%A9?%C3%BC"),
            (b"/\xe9?\xfc", "/%E9?%FC"),
        ] {
            let before = origin.heads().len();
            let lines = format!(" HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
            let answer = ask(site, [b"GET ", target, lines.as_bytes()].concat());
            assert!(answer.ends_with("fine"), "{wanted}: {answer}");
            let head = origin.heads().remove(before);
            assert!(
                head.starts_with(&format!("GET {wanted} HTTP/1.1\r\n")),
                "{wanted}: {head}"
            );
        }
        let before = origin.heads().len();
        assert_eq!(site.visit_tls("/cafe?{\u{fc}}").arg("-g").run().text(), "fine");
        let head = origin.heads().remove(before);
        assert!(head.starts_with("GET /cafe?{%C3%BC} HTTP/1.1\r\n"), "{head}");
    });
}

fn a_name_with_its_final_dot_is_the_same_host(io: IoMode) {
    let origin = Handmade::answering(|_| FINE.into());
    each_way(io, &origin, |site| {
        for host in [
            format!("{HOST}."),
            format!("{HOST}.:8080"),
            HOST.to_uppercase() + ".",
        ] {
            let before = origin.heads().len();
            let answer = ask(
                site,
                format!("GET /dot HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
            );
            assert!(answer.ends_with("fine"), "{host}: {answer}");
            let head = origin.heads().remove(before);
            let expected = host.replacen('.', "\0", 2).replace('.', "").replace('\0', ".");
            assert!(head.contains(&format!("Host: {expected}\r\n")), "{host}: {head}");
        }
    });
}

fn who_ends_the_sending_side_still_gets_the_answer(io: IoMode) {
    let origin = Handmade::start(|talk| {
        while let Some(head) = talk.head()? {
            if head.starts_with("POST") {
                talk.bytes(4)?;
            }
            if head.contains(" /slow ") {
                std::thread::sleep(Duration::from_secs(1));
                talk.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfine")?;
                std::thread::sleep(Duration::from_secs(1));
                talk.send("fine")?;
            } else {
                talk.send(FINE)?;
            }
        }
        Ok(())
    });
    each_way(io, &origin, |site| {
        for (request, end) in [
            (
                format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
                "\r\n\r\nfinefine",
            ),
            (
                format!("POST /slow HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbody"),
                "\r\n\r\nfinefine",
            ),
            (
                format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /b HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
                "\r\n\r\nfine",
            ),
        ] {
            let mut visitor = Raw::connect(site.edge.http());
            visitor.send(&request);
            visitor.finish();
            let answer = visitor
                .read_to_end(deadline::STEP)
                .expect("the edge closes in turn");
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.ends_with(end), "{request}: {answer}");
            let requests = request.matches(" HTTP/1.1\r\n").count();
            assert_eq!(
                answer.matches("HTTP/1.1 200").count(),
                requests,
                "{request}: {answer}"
            );
        }
        // The end of the sending side in the middle of a body is a break.
        let mut visitor = Raw::connect(site.edge.http());
        visitor.send(format!(
            "POST /slow HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\n\r\nbo"
        ));
        visitor.finish();
        let answer = visitor
            .read_to_end(deadline::STEP)
            .expect("the edge closes in turn");
        assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    });
}

fn an_early_answer_reaches_who_still_sends(io: IoMode) {
    const EARLY: &str =
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n";
    let origin = Handmade::start(|talk| {
        if let Some(head) = talk.head()? {
            talk.send(if head.starts_with("POST") { EARLY } else { FINE })?;
            if head.contains(" /rude ") {
                // Closed with bytes unread, which resets the connection.
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    });
    each_way(io, &origin, |site| {
        for framing in ["Content-Length: 8388608", "Transfer-Encoding: chunked"] {
            let mut visitor = Raw::connect(site.edge.http());
            visitor.send(format!(
                "POST /early HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n"
            ));
            let piece = if framing.starts_with("Transfer") {
                format!("10000\r\n{}\r\n", "x".repeat(1 << 16))
            } else {
                "x".repeat(1 << 16)
            };
            for _ in 0..128 {
                if !visitor.try_send(&piece) {
                    break;
                }
            }
            let answer = visitor.read_until("no\n", deadline::STEP);
            assert!(answer.starts_with("HTTP/1.1 413"), "{framing}: {answer}");
        }
        // What is left of a body is read and dropped, for the request behind it.
        let body = "x".repeat(100_000);
        for framed in [
            format!("Content-Length: 100000\r\n\r\n{body}"),
            format!("Transfer-Encoding: chunked\r\n\r\n186a0\r\n{body}\r\n0\r\n\r\n"),
        ] {
            let mut visitor = Raw::connect(site.edge.http());
            for _ in 0..8 {
                visitor.send(format!("POST /early HTTP/1.1\r\nHost: {HOST}\r\n{framed}"));
                let answer = visitor.read_until("no\n", deadline::STEP);
                assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
            }
            visitor.send(format!("GET /next HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
            let answer = visitor.read_until("fine", deadline::STEP);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        // Over HTTP/2 the answer has to be there before the reset of the stream is.
        let big = site.write("big", &"x".repeat(8 << 20));
        for path in ["/early", "/rude"].into_iter().cycle().take(16) {
            let upload = site.visit_tls(path).arg("--http2").upload("POST", &big);
            let answer = upload.run();
            let seen = (answer.status, answer.text(), answer.exit);
            assert_eq!(seen, (413, "no\n".to_owned(), 0), "{answer:?}");
        }
    });
}

/// A service as Docker has it: a `POST` with a short body asks for `tcp`, and then either side speaks and
/// ends as it likes. Over HTTP/2 a connector is asked without the upgrade, as a stock one is.
fn any_protocol_is_switched_to(io: IoMode) {
    let origin = Handmade::start(|talk| {
        while let Some(head) = talk.head()? {
            let head = head.to_lowercase();
            if !head.contains("\r\nupgrade: tcp\r\n") || !head.contains("\r\nconnection: upgrade\r\n") {
                let body = talk.bytes(if head.contains("content-length: 5") { 5 } else { 0 })?;
                talk.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                ))?;
                talk.send(body)?;
                continue;
            }
            let body = talk.bytes(if head.contains("content-length: 5") { 5 } else { 0 })?;
            talk.send(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
                 Content-Length: 0\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly:",
            )?;
            talk.send(body)?;
            talk.echo()?;
            // The visitor has nothing to add, and waits.
            return talk.send(" and the last word");
        }
        Ok(())
    });
    each_way(io, &origin, |site| {
        let ask = |method: &str, lines: &str, body: &str| {
            let mut visitor = Raw::connect(site.edge.http());
            let head = format!("{method} /attach HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n{body}");
            visitor.send(head);
            let head = visitor.read_until("\r\n\r\n", deadline::STEP).to_lowercase();
            (visitor, head)
        };
        let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
        let with_body = format!("{upgrade}Content-Length: 5\r\n");
        for (method, lines, body) in [("POST", with_body.as_str(), "hello"), ("GET", upgrade, "")] {
            let (mut visitor, head) = ask(method, lines, body);
            assert!(head.starts_with("http/1.1 101 "), "{head}");
            assert!(
                head.contains("\r\nupgrade: tcp\r\n") && !head.contains("content-length"),
                "{head}"
            );
            visitor.send("ping");
            let wanted = format!("early:{body}ping");
            let came = visitor.read_exactly(wanted.len(), deadline::STEP);
            assert_eq!(String::from_utf8_lossy(&came), wanted);
            visitor.finish();
            let last = visitor.read_to_end(deadline::STEP).expect("the origin ends");
            assert_eq!(String::from_utf8_lossy(&last), " and the last word");
        }
        // What is too long to be held, and what the tunnel speaks by itself, is asked without.
        for lines in [
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            "Connection: Upgrade\r\nUpgrade: a, b\r\n",
        ] {
            let (_, head) = ask("GET", lines, "");
            assert!(head.starts_with("http/1.1 200 "), "{head}");
        }
    });
}

/// Interim answers have no end of their own. A few before an answer are no trouble.
fn endless_interim_answers_are_given_up(io: IoMode) {
    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
    let origin = Handmade::start(|talk| {
        while let Some(head) = talk.head()? {
            if head.starts_with("GET /endless") {
                let many = HINT.repeat(1_000);
                loop {
                    talk.send(&many)?;
                }
            }
            talk.send(HINT.repeat(20))?;
            talk.send(FINE)?;
        }
        Ok(())
    });
    each_way(io, &origin, |site| {
        for lines in [
            "",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        ] {
            let request = format!("GET /endless HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n");
            let mut visitor = Raw::connect(site.edge.http());
            visitor.send(request);
            // Those that come before the limit are passed on.
            let mut answer = visitor.read_until("\r\n\r\n", deadline::STEP);
            while answer.starts_with("HTTP/1.1 103 ") {
                answer = visitor.read_until("\r\n\r\n", deadline::STEP);
            }
            assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
            let answer = site.visit("/endless").run();
            assert_eq!(
                error_code(&answer),
                Some(ErrorCode::OriginHeadTooLarge),
                "{answer:?}"
            );
        }
        let answer = ask(site, get("/few", ""));
        assert!(
            answer.contains("HTTP/1.1 200 ") && answer.ends_with("fine"),
            "{answer}"
        );
    });
}

adit_tests::in_both_modes!(
    endless_interim_answers_are_given_up,
    any_protocol_is_switched_to,
    names_that_look_like_reserved_ones_reach_no_origin,
    odd_answers_are_passed_on_whole_or_refused_by_name,
    requests_that_are_for_no_origin_are_refused,
    requests_with_two_ends_are_refused,
    targets_with_odd_characters_reach_the_origin,
    a_name_with_its_final_dot_is_the_same_host,
    who_ends_the_sending_side_still_gets_the_answer,
    an_early_answer_reaches_who_still_sends,
);
