//! Heads, targets and chunked bodies by their edges.

use super::*;

fn whole(text: &str) -> Result<Option<Head>, Fault> {
    read(text.as_bytes())
}

fn with(lines: &str) -> Result<Framing, Fault> {
    whole(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).map(|head| head.unwrap().framing)
}

#[test]
fn the_end_of_a_body_is_clear_or_the_head_is_refused() {
    for (lines, expected) in [
        ("", Ok(Framing::Length(0))),
        ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
        (
            "content-length:5\r\nCONTENT-LENGTH: 5 \r\n",
            Ok(Framing::Length(5)),
        ),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: gzip, Chunked\r\n", Ok(Framing::Chunked)),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            Ok(Framing::Chunked),
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Err(Fault::Framing),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Err(Fault::Framing),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            Err(Fault::Framing),
        ),
        (
            "Content-Length: 5\nTransfer-Encoding: chunked\n",
            Err(Fault::Framing),
        ),
        ("Transfer-Encoding: chunked, identity\r\n", Err(Fault::Framing)),
        ("Transfer-Encoding: identity\r\n", Err(Fault::Framing)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(Fault::Framing)),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err(Fault::Framing),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            Err(Fault::Framing),
        ),
        ("Transfer-Encoding: \r\n", Err(Fault::Framing)),
        ("Transfer-Encoding: xchunked\r\n", Err(Fault::Framing)),
        ("Transfer-Encoding: \u{b}chunked\r\n", Err(Fault::Malformed)),
        ("Transfer-Encoding : chunked\r\n", Err(Fault::Malformed)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(Fault::Framing)),
        ("Content-Length: 5, 5\r\n", Err(Fault::Framing)),
        ("Content-Length: +5\r\n", Err(Fault::Framing)),
        ("Content-Length: -5\r\n", Err(Fault::Framing)),
        ("Content-Length: 0x5\r\n", Err(Fault::Framing)),
        ("Content-Length: \r\n", Err(Fault::Framing)),
        ("Content-Length: 18446744073709551616\r\n", Err(Fault::Framing)),
        ("X: a\r\n Content-Length: 5\r\n", Err(Fault::Malformed)),
    ] {
        assert_eq!(with(lines), expected, "{lines:?}");
    }
    let old = whole("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(old, Err(Fault::Framing));
}

#[test]
fn targets_that_no_uri_has_are_found_and_encoded() {
    for (target, wanted) in [
        ("/?q={\"a\":1}", Some("/?q={%22a%22:1}")),
        ("/{\"a\"}|^\\", None),
        ("/a<b>?c=<d>`", Some("/a%3Cb%3E?c=%3Cd%3E`")),
        ("/`\"", Some("/%60\"")),
        ("/caf\u{e9}?\u{fc}", Some("/caf%C3%A9?%C3%BC")),
        ("/a?b?c\"", Some("/a?b?c%22")),
        ("http://a/<", Some("http://a/%3C")),
        ("*", None),
        ("/%3C%zz", None),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\n\r\n");
        let head = whole(&text).unwrap().unwrap();
        let found = head.raw_target.map(|range| {
            assert_eq!(&text[range.clone()], target);
            String::from_utf8(encoded(&text.as_bytes()[range])).unwrap()
        });
        assert_eq!(found.as_deref(), wanted, "{target}");
    }
    for target in ["a<", "<", "http://<a/", "http://\u{e9}/"] {
        assert_eq!(
            whole(&format!("GET {target} HTTP/1.1\r\n\r\n")),
            Err(Fault::Target),
            "{target}"
        );
    }
    for target in ["/a b", "/\u{1}", "/\u{7f}", "/\t", ""] {
        let faulty = whole(&format!("GET {target} HTTP/1.1\r\n\r\n"));
        assert_eq!(faulty, Err(Fault::Malformed), "{target:?}");
    }
}

#[test]
fn targets_that_are_no_text_are_found_too() {
    let bytes = b"\r\nGET /\xff\xe9?\x80 HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
    let head = read(bytes).unwrap().unwrap();
    assert_eq!((head.size, head.framing), (bytes.len(), Framing::Length(3)));
    let range = head.raw_target.unwrap();
    assert_eq!(encoded(&bytes[range]), b"/%FF%E9?%80");
    assert_eq!(read(&bytes[..bytes.len() - 1]), Ok(None));
    assert_eq!(read(b"GET h\xf4p://a/ HTTP/1.1\r\n\r\n"), Err(Fault::Target));
    assert_eq!(read(b"GET /\xff\x01 HTTP/1.1\r\n\r\n"), Err(Fault::Malformed));
    assert_eq!(request_line(b"GET /a HTTP/1.1\r\nX"), (Some("GET"), Some("/a")));
}

#[test]
fn heads_have_their_limits() {
    let many = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(count));
    assert!(whole(&many(HEADERS_MAX)).unwrap().is_some());
    assert_eq!(whole(&many(HEADERS_MAX + 1)), Err(Fault::TooLarge));
    let long = |size: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(size - 23));
    assert!(whole(&long(HEAD_BYTES_MAX)).unwrap().is_some());
    assert_eq!(whole(&long(HEAD_BYTES_MAX + 1)), Err(Fault::TooLarge));
    assert_eq!(
        whole(&long(HEAD_BYTES_MAX + 9)[..HEAD_BYTES_MAX]),
        Err(Fault::TooLarge)
    );
}

#[test]
fn a_head_is_whole_at_its_empty_line_and_not_before() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "\r\n\nGET / HTTP/1.0\r\nHost: a\n\r\n",
    ] {
        assert_eq!(whole(text).unwrap().unwrap().size, text.len());
        let more = format!("{text}POST / HTTP/1.1\r\n");
        assert_eq!(whole(&more).unwrap().unwrap().size, text.len());
        for cut in empty_lines(text.as_bytes())..text.len() {
            assert_eq!(whole(&text[..cut]), Ok(None), "{cut} of {text:?}");
            assert!(may_be_whole(text.as_bytes(), cut), "{cut} of {text:?}");
            let is_early = text.as_bytes()[..cut].windows(2).any(|pair| pair == b"\n\n");
            assert!(is_early || !may_be_whole(&text.as_bytes()[..cut], cut.saturating_sub(1)));
        }
    }
    assert_eq!(whole("\u{16}\u{3}\u{1}"), Err(Fault::Malformed));
    assert_eq!(empty_lines(b"\r\n\n\r\n\rG"), 5);
}

/// All of it at once, and cut anywhere.
fn chunked(body: &[u8]) -> Result<Option<usize>, NotChunked> {
    let at_once = ChunkedBody::default().handle_bytes(body);
    for cut in 0..=body.len() {
        let mut parts = ChunkedBody::default();
        let first = parts.handle_bytes(&body[..cut]);
        let in_two = match first {
            Ok(None) => parts
                .handle_bytes(&body[cut..])
                .map(|end| end.map(|size| cut + size)),
            ended => ended,
        };
        assert_eq!(in_two, at_once, "{cut} of {}", body.escape_ascii());
    }
    at_once
}

#[test]
fn chunked_bodies_end_where_they_end() {
    for (body, rest) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "GET"),
        ("5;a=\"b\"\r\nhello\r\n00\r\n\r\n", "\r\n"),
        ("A \t\r\n0123456789\r\n0 ;\r\nX: 1\r\nY: 2\r\n\r\n", "0\r\n\r\n"),
    ] {
        assert_eq!(
            chunked(format!("{body}{rest}").as_bytes()),
            Ok(Some(body.len())),
            "{body:?}"
        );
    }
    assert_eq!(chunked(b"5\r\nhell"), Ok(None));
    for body in [
        "\r\n",
        "g\r\n",
        "5\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5 5\r\n",
        "5;a\n",
        "0\r\n\rX",
        "10000000000000000\r\n",
        "-1\r\n",
        "0x5\r\n",
        "0\r\nX: 1\r\r\n",
    ] {
        assert_eq!(chunked(body.as_bytes()), Err(NotChunked), "{body:?}");
    }
}
