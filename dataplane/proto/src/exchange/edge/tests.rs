//! Heads to origins and back, as the edge writes and reads them.

use super::*;
use crate::exchange::error_code::ErrorCode;
use adit_wire::connect::{ConnectRequest, ConnectResponse, ConnectionType, Metadata, decode_request};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";
const ID: RequestId = RequestId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

struct Case {
    method: Method,
    target: &'static str,
    version: Version,
    headers: HeaderMap,
    protocol: Option<&'static str>,
    body: BodyLength,
    visitor: Visitor,
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

fn case(lines: &[(&str, &str)]) -> Case {
    Case {
        method: Method::GET,
        target: "/a?b=c",
        version: Version::HTTP_11,
        headers: headers(lines),
        protocol: None,
        body: BodyLength::Empty,
        visitor: Visitor {
            address: [192, 0, 2, 1].into(),
            scheme: Scheme::Https,
        },
    }
}

fn policy() -> Policy {
    Policy {
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        colo: "fra01".into(),
    }
}

/// What a connector makes of what it is sent.
#[derive(Debug)]
struct Sent {
    head: ConnectRequest,
    method: Method,
    client: IpAddr,
}

fn send(case: &Case) -> Result<Sent, ErrorCode> {
    let uri: Uri = case.target.parse().unwrap();
    let request = PublicRequest {
        method: &case.method,
        uri: &uri,
        version: case.version,
        headers: &case.headers,
        protocol: case.protocol,
        body: case.body,
    };
    let authority = authority(&request)?;
    let mut sent = tunnel_request(&request, &authority, &case.visitor, &policy(), ID, KEY)?;
    let head = decode_request(&mut sent.head).unwrap().unwrap();
    assert!(sent.head.is_empty() && head.kind == sent.kind);
    Ok(Sent {
        head,
        method: sent.method,
        client: sent.client,
    })
}

fn values(request: &Sent, name: &str) -> Vec<String> {
    let key = format!("httpheader:{}", name.to_ascii_lowercase());
    request
        .head
        .metadata
        .iter()
        .filter(|(k, _)| String::from_utf8_lossy(k).to_ascii_lowercase() == key)
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .collect()
}

#[test]
fn a_request_keeps_what_is_the_visitors_and_gains_what_is_ours() {
    let sent = send(&case(&[
        ("host", "App.Example.com:8443"),
        ("accept", "*/*"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ]))
    .unwrap();
    assert_eq!(sent.head.dest, "https://App.Example.com:8443/a?b=c");
    assert_eq!(sent.head.kind, ConnectionType::Http);
    let first: Metadata = sent.head.metadata.iter().take(2).collect();
    let expected = [("HttpMethod", "GET"), ("HttpHost", "App.Example.com:8443")];
    assert_eq!(first, expected.into_iter().collect());
    let expected = [
        ("accept", "*/*"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "App.Example.com:8443"),
        (
            "forwarded",
            "for=192.0.2.1;host=\"App.Example.com:8443\";proto=https",
        ),
        ("x-request-id", "0123456789abcdef0011223344556677"),
        ("cf-connecting-ip", "192.0.2.1"),
        ("cf-ray", "0123456789abcdef-FRA01"),
        ("cf-visitor", "{\"scheme\":\"https\"}"),
    ];
    for (name, value) in expected {
        assert_eq!(values(&sent, name), [value], "{name}");
    }
    assert_eq!(values(&sent, "x-twice"), ["1", "2"]);
    assert!(values(&sent, "host").is_empty());
}

#[test]
fn connection_headers_and_expect_stay_here() {
    let sent = send(&case(&[
        ("host", "a.example"),
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAA"),
        ("proxy-authorization", "secret"),
        ("expect", "100-continue"),
    ]))
    .unwrap();
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "expect",
    ] {
        assert!(values(&sent, name).is_empty(), "{name}");
    }
}

#[test]
fn framing_is_told_so_that_the_connector_forwards_the_body() {
    let cases = [
        (BodyLength::Known(5), "content-length", vec!["5"]),
        (BodyLength::Known(5), "transfer-encoding", vec![]),
        (BodyLength::Unknown, "transfer-encoding", vec!["chunked"]),
        (BodyLength::Unknown, "content-length", vec![]),
        (BodyLength::Empty, "content-length", vec!["0"]),
        (BodyLength::Empty, "transfer-encoding", vec![]),
    ];
    for (body, name, wanted) in cases {
        let mut asked = case(&[
            ("host", "a.example"),
            ("content-length", "0"),
            ("transfer-encoding", "chunked"),
        ]);
        asked.method = Method::POST;
        asked.body = body;
        assert_eq!(values(&send(&asked).unwrap(), name), wanted, "{body:?} {name}");
    }
    assert!(values(&send(&case(&[("host", "a.example")])).unwrap(), "content-length").is_empty());
}

#[test]
fn strangers_words_about_themselves_do_not_count() {
    let lines = [
        ("host", "a.example"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", "1"),
        ("forwarded", "for=203.0.113.9"),
        ("x-request-id", "mine"),
        ("cf-connecting-ip", "203.0.113.9"),
        ("cf-warp-tag-id", "x"),
        ("cf-access-jwt-assertion", "x"),
        ("x-real-ip", "203.0.113.9"),
    ];
    let sent = send(&case(&lines)).unwrap();
    let all = format!("{:?}", sent.head.metadata);
    assert!(!all.contains("203.0.113.9") && !all.contains("mine"), "{all}");
    assert!(values(&sent, "cf-access-jwt-assertion").is_empty());
    assert_eq!(values(&sent, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(sent.client, IpAddr::from([192, 0, 2, 1]));

    let mut trusted = case(&lines);
    trusted.visitor.address = "::ffff:10.1.1.1".parse().unwrap();
    let sent = send(&trusted).unwrap();
    assert_eq!(values(&sent, "x-forwarded-for"), ["203.0.113.9, 10.1.1.1"]);
    assert_eq!(values(&sent, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&sent, "x-request-id"), ["mine"]);
    assert_eq!(values(&sent, "cf-visitor"), ["{\"scheme\":\"http\"}"]);
    assert_eq!(
        values(&sent, "forwarded"),
        ["for=203.0.113.9, for=10.1.1.1;host=\"a.example\";proto=https"]
    );
    assert_eq!(values(&sent, "cf-access-jwt-assertion"), ["x"]);
}

#[test]
fn the_visitor_is_the_last_address_that_no_trusted_proxy_has() {
    let cases = [
        (
            &[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.2.2.2")][..],
            "203.0.113.9",
        ),
        (
            &[
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-for", "10.2.2.2"),
            ],
            "203.0.113.9",
        ),
        (&[("x-forwarded-for", "10.3.3.3, 10.2.2.2")], "10.3.3.3"),
        (&[("x-forwarded-for", "nonsense, 10.2.2.2")], "10.2.2.2"),
        (&[("x-forwarded-for", "[2001:db8::7]:4711")], "2001:db8::7"),
        (
            &[
                ("x-forwarded-for", "203.0.113.9"),
                ("cf-connecting-ip", "9.9.9.9"),
            ],
            "203.0.113.9",
        ),
        (&[("cf-connecting-ip", "9.9.9.9")], "9.9.9.9"),
        (&[], "10.1.1.1"),
    ];
    for (lines, wanted) in cases {
        let mut asked = case(&[("host", "a.example")]);
        asked.headers.extend(headers(lines));
        asked.visitor.address = [10, 1, 1, 1].into();
        let sent = send(&asked).unwrap();
        assert_eq!(sent.client.to_string(), wanted, "{lines:?}");
        assert_eq!(values(&sent, "cf-connecting-ip"), [wanted]);
    }
}

#[test]
fn a_websocket_is_recognised_over_both_versions() {
    let h1 = case(&[
        ("host", "a.example"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "chat"),
    ]);
    let sent = send(&h1).unwrap();
    assert_eq!(sent.head.kind, ConnectionType::WebSocket);
    assert_eq!(values(&sent, "sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    assert_eq!(values(&sent, "sec-websocket-protocol"), ["chat"]);
    assert_eq!(values(&sent, "upgrade"), ["websocket"]);
    assert_eq!(values(&sent, "connection"), ["Upgrade"]);

    let mut h2 = case(&[]);
    h2.method = Method::CONNECT;
    h2.version = Version::HTTP_2;
    h2.target = "https://a.example/chat";
    h2.protocol = Some("websocket");
    let sent = send(&h2).unwrap();
    assert_eq!(
        (sent.head.kind, sent.method.clone()),
        (ConnectionType::WebSocket, Method::GET)
    );
    assert_eq!(sent.head.dest, "https://a.example/chat");
    assert_eq!(values(&sent, "sec-websocket-key"), [KEY]);
    assert_eq!(values(&sent, "upgrade"), ["websocket"]);

    h2.protocol = None;
    assert_eq!(send(&h2).unwrap_err(), ErrorCode::Unsupported);

    let mut with_body = h1;
    with_body.body = BodyLength::Known(1);
    assert_eq!(send(&with_body).unwrap().head.kind, ConnectionType::Http);
}

#[test]
fn contradictory_or_missing_hosts_are_refused() {
    let cases = [
        (&[][..], "/", Version::HTTP_11, Some(ErrorCode::HostMissing)),
        (
            &[("host", "")],
            "/",
            Version::HTTP_11,
            Some(ErrorCode::HostMissing),
        ),
        (
            &[("host", "a.example"), ("host", "a.example")],
            "/",
            Version::HTTP_11,
            Some(ErrorCode::BadRequest),
        ),
        (
            &[("host", "a b")],
            "/",
            Version::HTTP_11,
            Some(ErrorCode::BadRequest),
        ),
        (
            &[("host", "user@a.example")],
            "/",
            Version::HTTP_11,
            Some(ErrorCode::BadRequest),
        ),
        (
            &[("host", "b.example")],
            "https://a.example/",
            Version::HTTP_2,
            Some(ErrorCode::BadRequest),
        ),
        (
            &[("host", "a.example")],
            "https://a.example/",
            Version::HTTP_2,
            None,
        ),
        (
            &[("host", "b.example")],
            "http://a.example/",
            Version::HTTP_11,
            None,
        ),
        (
            &[("host", "a.example")],
            "*",
            Version::HTTP_11,
            Some(ErrorCode::BadRequest),
        ),
    ];
    for (lines, target, version, wanted) in cases {
        let mut asked = case(lines);
        asked.target = target;
        asked.version = version;
        assert_eq!(send(&asked).err(), wanted, "{lines:?} {target}");
    }
}

#[test]
fn heads_above_the_limits_are_refused() {
    let mut many = case(&[("host", "a.example")]);
    for index in 0..100 {
        many.headers.append(
            HeaderName::from_bytes(format!("x-{index}").as_bytes()).unwrap(),
            HeaderValue::from_static("1"),
        );
    }
    assert_eq!(send(&many).unwrap_err(), ErrorCode::HeadTooLarge);
    let mut long = case(&[("host", "a.example")]);
    long.headers
        .append("x-long", HeaderValue::from_bytes(&vec![b'a'; 32 << 10]).unwrap());
    assert_eq!(send(&long).unwrap_err(), ErrorCode::HeadTooLarge);
}

#[test]
fn cookies_of_http2_become_one_line() {
    let sent = send(&case(&[
        ("host", "a.example"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ]))
    .unwrap();
    assert_eq!(values(&sent, "cookie"), ["a=1; b=2"]);
}

#[test]
fn header_values_are_bytes() {
    let mut asked = case(&[("host", "a.example")]);
    asked
        .headers
        .append("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    let sent = send(&asked).unwrap();
    let found = sent
        .head
        .metadata
        .iter()
        .find(|(key, _)| key.ends_with(b"x-latin"))
        .unwrap();
    assert_eq!(found.1, &b"caf\xe9"[..]);
}

type Lines = &'static [(&'static str, &'static [u8])];

fn answer(lines: &[(&'static str, &'static [u8])]) -> ConnectResponse {
    ConnectResponse {
        error: Bytes::new(),
        metadata: lines.iter().copied().collect(),
    }
}

/// Method, metadata, and the status and body that the visitor gets.
type Answer<'a> = (&'a Method, Lines, Option<(u16, ResponseBody)>);

#[test]
fn response_heads_are_translated() {
    let (get, head) = (Method::GET, Method::HEAD);
    let cases: [Answer<'_>; 13] = [
        (
            &get,
            &[("HttpStatus", b"200")],
            Some((200, ResponseBody::UntilFinish)),
        ),
        (
            &get,
            &[("HttpStatus", b"200"), ("HttpHeader:Content-Length", b"7")],
            Some((200, ResponseBody::Length(7))),
        ),
        (
            &get,
            &[("HttpStatus", b"200"), ("HttpHeader:Content-Length", b"0")],
            Some((200, ResponseBody::Empty)),
        ),
        (
            &head,
            &[("HttpStatus", b"200"), ("HttpHeader:Content-Length", b"7")],
            Some((200, ResponseBody::Empty)),
        ),
        (&get, &[("HttpStatus", b"204")], Some((204, ResponseBody::Empty))),
        (
            &get,
            &[("HttpStatus", b"304"), ("HttpHeader:Content-Length", b"7")],
            Some((304, ResponseBody::Empty)),
        ),
        (
            &get,
            &[("HttpStatus", b"999"), ("Unknown", b"x")],
            Some((999, ResponseBody::UntilFinish)),
        ),
        (&get, &[("HttpStatus", b"103")], None),
        (&get, &[("HttpStatus", b"101")], None),
        (&get, &[("HttpStatus", b"2x0")], None),
        (&get, &[("HttpHeader:A", b"b")], None),
        (&get, &[("HttpStatus", b"200"), ("HttpHeader:A", b"b\r\nc")], None),
        (&get, &[("HttpStatus", b"200"), ("HttpHeader:A B", b"b")], None),
    ];
    for (method, lines, wanted) in cases {
        let got = public_response(
            answer(lines),
            method,
            ConnectionType::Http,
            None,
            Version::HTTP_11,
        );
        let told = got
            .as_ref()
            .map(|response| (response.status.as_u16(), response.body))
            .ok();
        assert_eq!(told, wanted, "{method} {lines:?}");
        if let Err(error) = got {
            assert_eq!(error.code(), ErrorCode::OriginBadResponse);
        }
    }
}

#[test]
fn lengths_of_a_response_must_agree() {
    let same = answer(&[
        ("HttpStatus", b"200"),
        ("HttpHeader:Content-Length", b"7"),
        ("HttpHeader:content-length", b"7"),
    ]);
    let got = public_response(same, &Method::GET, ConnectionType::Http, None, Version::HTTP_11).unwrap();
    assert_eq!(got.headers.get_all("content-length").iter().count(), 1);
    for (first, second) in [(&b"7"[..], &b"8"[..]), (b"+7", b"7"), (b"", b""), (b"7, 7", b"7")] {
        let metadata = [
            ("HttpStatus", &b"200"[..]),
            ("HttpHeader:Content-Length", first),
            ("HttpHeader:Content-Length", second),
        ];
        let response = ConnectResponse {
            error: Bytes::new(),
            metadata: metadata.into_iter().collect(),
        };
        assert!(
            public_response(
                response,
                &Method::GET,
                ConnectionType::Http,
                None,
                Version::HTTP_11
            )
            .is_err()
        );
    }
}

#[test]
fn connection_headers_of_the_origin_stay_there() {
    let response = answer(&[
        ("HttpStatus", b"200"),
        ("HttpHeader:Connection", b"X-Hop, close"),
        ("HttpHeader:X-Hop", b"1"),
        ("HttpHeader:Transfer-Encoding", b"chunked"),
        ("HttpHeader:Cf-Int-Cloudflared-Tracing", b"spans"),
        ("HttpHeader:Set-Cookie", b"a=1"),
        ("HttpHeader:Set-Cookie", b"b=2"),
        ("HttpHeader:X-Latin", b"caf\xe9"),
    ]);
    let got = public_response(
        response,
        &Method::GET,
        ConnectionType::Http,
        None,
        Version::HTTP_2,
    )
    .unwrap();
    let names: Vec<_> = got.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["set-cookie", "x-latin"]);
    assert_eq!(got.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(got.headers["x-latin"].as_bytes(), b"caf\xe9");
}

#[test]
fn switching_protocols_is_said_in_the_visitors_version() {
    let lines: Lines = &[
        ("HttpStatus", b"101"),
        ("HttpHeader:Upgrade", b"websocket"),
        ("HttpHeader:Connection", b"Upgrade"),
        ("HttpHeader:Sec-Websocket-Accept", b"proof"),
    ];
    let h1 = public_response(
        answer(lines),
        &Method::GET,
        ConnectionType::WebSocket,
        None,
        Version::HTTP_11,
    )
    .unwrap();
    assert_eq!((h1.status.as_u16(), h1.body), (101, ResponseBody::Upgraded));
    assert_eq!(h1.headers["upgrade"], "websocket");
    assert_eq!(h1.headers["connection"], "Upgrade");
    assert_eq!(h1.headers["sec-websocket-accept"], "proof");
    let h2 = public_response(
        answer(lines),
        &Method::GET,
        ConnectionType::WebSocket,
        None,
        Version::HTTP_2,
    )
    .unwrap();
    assert_eq!((h2.status.as_u16(), h2.body), (200, ResponseBody::Upgraded));
    assert!(h2.headers.is_empty(), "{:?}", h2.headers);
}

#[test]
fn a_switch_names_what_the_origin_has_answered() {
    let switched = |protocol: Option<&'static str>, answered: &'static [u8]| {
        let lines: Vec<(&'static str, &'static [u8])> = match answered {
            b"" => vec![("HttpStatus", b"101")],
            named => vec![("HttpStatus", b"101"), ("HttpHeader:Upgrade", named)],
        };
        let protocol = protocol.map(HeaderValue::from_static);
        public_response(
            answer(&lines),
            &Method::POST,
            ConnectionType::WebSocket,
            protocol.as_ref(),
            Version::HTTP_11,
        )
        .map(|response| response.headers["upgrade"].clone())
    };
    assert_eq!(switched(Some("spdy"), b"SPDY/3.1").unwrap(), "SPDY/3.1");
    assert_eq!(switched(None, b"WebSocket").unwrap(), "WebSocket");
    assert_eq!(switched(None, b"").unwrap(), "websocket");
    for (asked, answered) in [(Some("tcp"), &b""[..]), (Some("tcp"), b"h2c"), (None, b"tcp")] {
        let error = switched(asked, answered).unwrap_err();
        assert_eq!(error.code(), ErrorCode::OriginBadResponse, "{asked:?}");
    }
}

#[test]
fn a_reported_failure_is_the_origins() {
    let response = ConnectResponse {
        error: Bytes::from("dial tcp: refused"),
        metadata: Metadata::default(),
    };
    let error = public_response(
        response,
        &Method::GET,
        ConnectionType::Http,
        None,
        Version::HTTP_11,
    )
    .unwrap_err();
    assert_eq!(error.code(), ErrorCode::OriginUnreachable);
    assert_eq!(error.to_string(), "the connector reports: dial tcp: refused");
}

#[test]
fn only_those_who_take_trailers_get_a_head_that_asks_for_them() {
    let host = ("host", "a.example");
    let grpc = ("content-type", "application/grpc+proto");
    for (lines, wanted) in [
        (vec![host], Trailers::Unwanted),
        (vec![host, ("te", "trailers")], Trailers::Taken),
        (vec![host, grpc, ("te", "trailers")], Trailers::Needed),
        (
            vec![
                host,
                ("te", "trailers"),
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
            ],
            Trailers::Unwanted,
        ),
    ] {
        let mut case = case(&lines);
        if wanted == Trailers::Needed {
            case.method = Method::POST;
        }
        let uri: Uri = case.target.parse().unwrap();
        let request = PublicRequest {
            method: &case.method,
            uri: &uri,
            version: case.version,
            headers: &case.headers,
            protocol: None,
            body: case.body,
        };
        let authority = authority(&request).unwrap();
        let sent = tunnel_request(&request, &authority, &case.visitor, &policy(), ID, KEY).unwrap();
        assert_eq!(sent.trailers, wanted, "{lines:?}");
        let pairs = |mut head: Bytes| {
            let head = decode_request(&mut head).unwrap().unwrap();
            let pairs: Vec<_> = head.metadata.iter().collect();
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(key, value)| (key.to_vec(), value.to_vec()))
                .collect();
            pairs
        };
        // A connector that knows nothing of it sees the same as without.
        let mut plain = pairs(sent.head);
        assert!(
            !plain
                .iter()
                .any(|(key, _)| key == b"AditTrailers" || key.ends_with(b"te"))
        );
        assert_eq!(sent.head_for_trailers.is_some(), wanted != Trailers::Unwanted);
        if let Some(head) = sent.head_for_trailers {
            plain.push((b"AditTrailers".to_vec(), b"true".to_vec()));
            assert_eq!(pairs(head), plain);
        }
    }
}

#[test]
fn bodies_are_in_frames_only_if_the_connector_says_so() {
    let read = |lines: &[(&str, &[u8])]| {
        let response = ConnectResponse {
            error: Bytes::new(),
            metadata: lines.iter().copied().collect(),
        };
        let got = public_response(
            response,
            &Method::GET,
            ConnectionType::Http,
            None,
            Version::HTTP_2,
        )
        .unwrap();
        (got.is_framed, got.headers.contains_key("trailer"))
    };
    let (status, announced) = (("HttpStatus", &b"200"[..]), ("HttpHeader:Trailer", &b"x-sum"[..]));
    assert_eq!(read(&[status, announced]), (false, false));
    assert_eq!(
        read(&[status, ("AditTrailers", b"true"), announced]),
        (true, true)
    );
    assert_eq!(read(&[status, ("AditTrailers", b"1"), announced]), (false, false));
    assert_eq!(
        read(&[status, ("HttpHeader:AditTrailers", b"true"), announced]),
        (false, false)
    );
}
