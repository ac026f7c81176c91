//! Conversations with proxies byte by byte, and what is written about them.

use super::*;

fn proxy(text: &str) -> Proxy {
    text.parse().unwrap()
}

/// Speaks with a proxy that answers each message with the next of `answers`, byte by byte, and returns what
/// it heard.
fn speak(proxy: &Proxy, host: &str, answers: &[&[u8]]) -> (Vec<Bytes>, Result<(), Refused>) {
    let (mut traversal, first) = proxy.begin(host, 7844).unwrap();
    let mut said = vec![first];
    for answer in answers {
        let mut read = BytesMut::new();
        let mut step = Step::Read;
        for byte in *answer {
            assert_eq!(step, Step::Read, "an answer was understood before its end");
            read.extend_from_slice(&[*byte]);
            step = match traversal.handle(&mut read) {
                Ok(step) => step,
                Err(refused) => return (said, Err(refused)),
            };
        }
        assert!(read.is_empty());
        match step {
            Step::Send(more) => said.push(more),
            Step::Through => return (said, Ok(())),
            Step::Read => panic!("an answer was not understood: {answer:?}"),
        }
    }
    panic!("the conversation has no end");
}

#[test]
fn texts_name_proxies_and_never_show_their_passwords() {
    for (text, shown) in [
        ("http://proxy.test", "http://proxy.test:80"),
        ("HTTP://user:p%40ss@proxy.test:3128/", "http://proxy.test:3128"),
        ("socks5://[::1]", "socks5://[::1]:1080"),
        ("socks5h://u:p@10.0.0.1:9", "socks5://10.0.0.1:9"),
    ] {
        assert_eq!(proxy(text).to_string(), shown, "{text}");
        assert_eq!(format!("{:?}", proxy(text)), shown, "{text}");
    }
    for (text, error) in [
        ("proxy.test:3128", ProxyError::Form),
        ("ftp://proxy.test", ProxyError::Form),
        ("http://", ProxyError::Form),
        ("http://a b", ProxyError::Form),
        ("http://proxy.test:x", ProxyError::Form),
        ("http://proxy.test/path", ProxyError::Form),
        ("https://proxy.test", ProxyError::Https),
        ("http://u%4:p@proxy.test", ProxyError::Credentials),
        ("http://:p@proxy.test", ProxyError::Credentials),
        ("http://u%0a:p@proxy.test", ProxyError::Credentials),
    ] {
        assert_eq!(text.parse::<Proxy>(), Err(error), "{text}");
    }
}

#[test]
fn an_http_proxy_is_asked_once() {
    let proxy = proxy("http://us%65r:p%40ss@proxy.test");
    let yes = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
    let (said, through) = speak(&proxy, "edge.test", &[yes]);
    assert_eq!(through, Ok(()));
    let request = "CONNECT edge.test:7844 HTTP/1.1\r\nHost: edge.test:7844\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n";
    assert_eq!(said, [request]);
    let (said, _) = speak(&"http://proxy.test".parse().unwrap(), "::1", &[yes]);
    assert_eq!(said, ["CONNECT [::1]:7844 HTTP/1.1\r\nHost: [::1]:7844\r\n\r\n"]);
}

#[test]
fn an_http_proxy_says_why_not() {
    let refused = |proxy: &str, answer: &str| {
        let proxy = proxy.parse().unwrap();
        speak(&proxy, "edge.test", &[answer.as_bytes()]).1.unwrap_err()
    };
    let wants = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
    for (proxy, had_credentials) in [("http://p.test", false), ("http://u:p@p.test", true)] {
        assert_eq!(refused(proxy, wants), Refused::Credentials { had_credentials });
    }
    let forbidden = refused("http://p.test", "HTTP/1.0 403 Filtered\r\nA: b\r\n\r\n");
    assert_eq!(forbidden, Refused::Status { status: 403 });
    let other = refused("http://p.test", "SSH-2.0-x\r\n");
    assert_eq!(other, Refused::Protocol { kind: "HTTP" });
    let endless = "HTTP/1.1 200 ".to_owned() + &"x".repeat(ANSWER_BYTES_MAX);
    assert_eq!(
        refused("http://p.test", &endless),
        Refused::Protocol { kind: "HTTP" }
    );
}

#[test]
fn a_socks_proxy_is_told_who_asks_if_it_wants_to_know() {
    let open = proxy("socks5://p.test");
    let reply: &[u8] = &[5, 0, 0, 1, 1, 2, 3, 4, 0, 9];
    let (said, through) = speak(&open, "edge.test", &[&[5, 0], reply]);
    assert_eq!(through, Ok(()));
    assert_eq!(said, [&[5, 1, 0][..], b"\x05\x01\x00\x03\x09edge.test\x1e\xa4"]);
    let known = proxy("socks5://u:pw@p.test");
    let (said, through) = speak(
        &known,
        "192.0.2.1",
        &[&[5, 2], &[1, 0], &[5, 0, 0, 3, 1, b'x', 0, 9]],
    );
    assert_eq!(through, Ok(()));
    assert_eq!(
        said,
        [
            &[5, 2, 0, 2][..],
            b"\x01\x01u\x02pw",
            &[5, 1, 0, 1, 192, 0, 2, 1, 0x1e, 0xa4]
        ]
    );
    let six: &[u8] = &[5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 9];
    let (said, through) = speak(&known, "::1", &[&[5, 0], six]);
    assert_eq!((said.len(), through), (2, Ok(())));
}

#[test]
fn a_socks_proxy_says_why_not() {
    let (open, known) = (proxy("socks5://p.test"), proxy("socks5://u:p@p.test"));
    let refused = |proxy: &Proxy, answers: &[&[u8]]| speak(proxy, "edge.test", answers).1.unwrap_err();
    assert_eq!(
        refused(&open, &[&[5, 0xff]]),
        Refused::Credentials {
            had_credentials: false
        }
    );
    assert_eq!(
        refused(&known, &[&[5, 2], &[1, 1]]),
        Refused::Credentials {
            had_credentials: true
        }
    );
    let answer: &[u8] = &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0];
    let reason = "connection refused";
    assert_eq!(refused(&open, &[&[5, 0], answer]), Refused::Reply { reason });
    assert_eq!(
        refused(&open, &[b"HTTP/1.1 400"]),
        Refused::Protocol { kind: "SOCKS5" }
    );
    assert!(open.begin(&"x".repeat(256), 1).is_err());
}

#[test]
fn exceptions_are_names_networks_and_stars() {
    let direct =
        Direct::parse("example.test, *.wild.test,.dot.test ,10.0.0.0/8,::1,[2001:db8::1],only.test:443,x:y");
    for (host, port, wanted) in [
        ("example.test", 1, true),
        ("a.Example.test.", 1, true),
        ("badexample.test", 1, false),
        ("a.wild.test", 1, true),
        ("a.dot.test", 1, true),
        ("10.1.2.3", 1, true),
        ("11.1.2.3", 1, false),
        ("[::1]", 1, true),
        ("2001:db8::1", 1, true),
        ("only.test", 443, true),
        ("only.test", 444, false),
    ] {
        assert_eq!(direct.covers(host, port), wanted, "{host}:{port}");
    }
    assert!(Direct::parse("*").covers("anything", 1));
    assert!(!Direct::default().covers("anything", 1));
    assert!(is_this_machine("localhost") && is_this_machine("[::1]") && is_this_machine("127.9.9.9"));
    assert!(!is_this_machine("192.0.2.1"));
}
