//! Heads byte by byte: cut anywhere, one behind the other, and such as are none.

use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::request_head::Fault;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::lab::{Lab, Script, run};

/// Sends the parts, with time to read each, and reads the answers to the end of the connection.
async fn ask(lab: &Lab, parts: &[&[u8]]) -> String {
    let mut visitor = lab.visitor();
    for part in parts {
        // The edge may have had enough.
        if visitor.write_all(part).await.is_err() {
            break;
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    let mut answers = Vec::new();
    visitor.read_to_end(&mut answers).await.unwrap();
    String::from_utf8(answers).unwrap()
}

/// What each answer says of the request, and its body: without dates and ids, and however bodies are cut into
/// chunks.
fn comparable(answers: &str) -> String {
    let (mut out, mut rest) = (String::new(), answers);
    while let Some((head, mut body)) = rest.split_once("\r\n\r\n") {
        out.extend(head.lines().filter(|line| !line.starts_with("date: ")));
        if head.contains("chunked") {
            while let Some((size, data)) = body.split_once("\r\n") {
                let size = usize::from_str_radix(size, 16).unwrap();
                out += &data[..size];
                body = &data[size + 2..];
                if size == 0 {
                    break;
                }
            }
        }
        rest = body;
    }
    out + rest
}

#[test]
fn heads_may_be_cut_anywhere_and_follow_each_other() {
    run(async {
        let lab = Lab::start();
        lab.connector(1, Script::Echo);
        let all = b"\r\nGET /<1>?\" HTTP/1.1\r\nHost: app.example\r\n\r\n\
            POST /2 HTTP/1.1\r\nhost: app.example\r\ncontent-length: 20\r\n\r\nGET /no HTTP/1.1\r\n\r\n\
            POST /3 HTTP/1.1\r\nhost: app.example\r\ntransfer-encoding: chunked\r\n\r\n\
            4;x\r\nfour\r\n13\r\nGET /no HTTP/1.1\r\n\n\r\n0\r\nx: GET /no\r\n\r\n\r\n\
            GET /\xff HTTP/1.1\nhost: app.example\n\n\
            GET /last HTTP/1.0\r\nHost: app.example\r\n\r\n";
        let whole = ask(&lab, &[all]).await;
        for seen in ["GET /%3C1%3E?%22", "POST /2", "POST /3", "GET /%FF", "GET /last"] {
            assert_eq!(
                whole.matches(&format!("x-seen: {seen}\r\n")).count(),
                1,
                "{whole}"
            );
        }
        assert_eq!(
            (whole.matches("x-seen").count(), whole.matches("four").count()),
            (5, 1)
        );
        for cut in 1..all.len() {
            let cut_up = ask(&lab, &[&all[..cut], &all[cut..]]).await;
            assert_eq!(comparable(&cut_up), comparable(&whole), "cut at {cut}");
        }
        let single: Vec<_> = all.chunks(1).collect();
        assert_eq!(comparable(&ask(&lab, &single).await), comparable(&whole));
        let metrics = &lab.core.metrics;
        assert_eq!(
            (metrics.heads_refused[0].get(), metrics.heads_timed_out.get()),
            (0, 0)
        );
        assert_eq!(metrics.exchanges_in_flight.get(), 0);
    });
}

#[test]
fn a_refused_head_is_answered_after_those_before_it_and_is_the_last() {
    let cases = [
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n", 400, Fault::Malformed),
        ("\u{16}\u{3}\u{1}\u{2}", 400, Fault::Malformed),
        ("GET < HTTP/1.1\r\nhost: app.example\r\n\r\n", 400, Fault::Target),
        (
            "POST / HTTP/1.1\r\nhost: app.example\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            Fault::Framing,
        ),
    ];
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(101));
    let long = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(33 << 10));
    let cases = cases.into_iter().chain([
        (many.as_str(), 431, Fault::TooLarge),
        (long.as_str(), 431, Fault::TooLarge),
    ]);
    for (text, status, fault) in cases {
        run(async move {
            let lab = Lab::start();
            lab.connector(1, Script::Echo);
            for before in [0, 1, 2] {
                let good = "GET /good HTTP/1.1\r\nhost: app.example\r\n\r\n".repeat(before);
                let sent = format!("{good}{text}GET /never HTTP/1.1\r\nhost: app.example\r\n\r\n");
                let answers = ask(&lab, &[sent.as_bytes()]).await;
                assert_eq!(answers.matches("x-seen: GET /good").count(), before, "{answers}");
                assert_eq!(answers.matches("x-seen").count(), before, "{answers}");
                let last = &answers[answers.rfind("HTTP/1.1 ").unwrap()..];
                assert!(last.starts_with(&format!("HTTP/1.1 {status} ")), "{answers}");
                assert!(last.contains("connection: close\r\n") && last.contains("x-request-id: "));
                assert!(last.ends_with("</html>\n"), "{answers}");
            }
            let metrics = &lab.core.metrics;
            let code = if status == 431 {
                ErrorCode::HeadTooLarge
            } else {
                ErrorCode::BadRequest
            };
            assert_eq!(metrics.heads_refused[fault.index()].get(), 3, "{text:?}");
            assert_eq!(metrics.errors[code.index()].get(), 3);
            assert_eq!(metrics.exchanges_in_flight.get(), 0);
        });
    }
}

const WORDS: [&str; 34] = [
    "GET ",
    "POST ",
    "/",
    "*",
    "http://",
    "app.example",
    " ",
    "HTTP/1.1",
    "HTTP/1.0",
    "\r\n",
    "\n",
    "\r",
    "host: ",
    "content-length: ",
    "transfer-encoding: ",
    "chunked",
    "gzip",
    ", ",
    "5",
    "0",
    "\t",
    ":",
    "x",
    "<",
    "\"",
    "?",
    "#",
    "\u{e9}",
    "\u{1}",
    "connection: close",
    "upgrade: a",
    "expect: 100-continue",
    "%",
    "CONNECT ",
];

/// A head with some words changed.
fn odd_head(random: &mut StdRng) -> String {
    let mut words: Vec<&str> = vec![
        "GET ",
        "/",
        " ",
        "HTTP/1.1",
        "\r\n",
        "host: ",
        "app.example",
        "\r\n",
    ];
    if random.random() {
        words.extend(["transfer-encoding: ", "chunked", "\r\n"]);
    }
    if random.random() {
        words.extend(["content-length: ", "5", "\r\n"]);
    }
    words.extend(["x", ": ", "x", "\r\n", "\r\n"]);
    for _ in 0..random.random_range(0..4) {
        let (at, word) = (
            random.random_range(0..words.len()),
            WORDS[random.random_range(0..WORDS.len())],
        );
        match random.random_range(0..3) {
            0 => words.insert(at, word),
            1 => words[at] = word,
            _ => drop(words.remove(at)),
        }
    }
    words.concat()
}

/// hyper's own refusals have no page: what the look before it lets pass, it takes.
#[test]
fn what_passes_the_look_hyper_takes() {
    run(async {
        let lab = Lab::start();
        lab.connector(1, Script::Echo);
        let mut random = StdRng::seed_from_u64(12);
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..4_000 {
            let head = odd_head(&mut random);
            let mut visitor = lab.visitor();
            visitor.write_all(head.as_bytes()).await.unwrap();
            visitor.shutdown().await.unwrap();
            let mut answer = Vec::new();
            visitor.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer);
            let heads = answer.matches("HTTP/1.1 ").count() - answer.matches("HTTP/1.1 100 ").count();
            taken += answer.matches("x-seen: ").count();
            refused += answer.matches("</html>").count();
            let (pages, echoes) = (
                answer.matches("x-request-id: ").count(),
                answer.matches("x-seen: ").count(),
            );
            assert_eq!(heads, pages + echoes, "{head:?}: {answer}");
        }
        assert!(taken > 300 && refused > 1_000, "{taken} {refused}");
    });
}
