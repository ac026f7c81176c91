//! Heads there and back, and what hostile ones become.

use adit_wire::connect::{ConnectResponse, Metadata, decode_response};
use adit_wire::http2::encode_headers;
use http::Response;

use super::*;

fn head(kind: ConnectionType, dest: &str, metadata: &[(&str, &str)]) -> ConnectRequest {
    ConnectRequest {
        dest: Bytes::copy_from_slice(dest.as_bytes()),
        kind,
        metadata: metadata.iter().copied().collect(),
        takes_interim: false,
    }
}

fn shown(request: &Http2Request) -> Vec<String> {
    let headers = request.request.headers().iter();
    headers
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect()
}

#[test]
fn a_request_keeps_its_target_and_its_headers() {
    let metadata = [
        ("HttpMethod", "POST"),
        ("HttpHost", "app.test:8443"),
        ("HttpHeader:Accept", "a"),
        ("HttpHeader:accept", "b"),
        ("HttpHeader:Content-Length", "3"),
        ("HttpHeader:X-Empty", ""),
        ("FlowID", "unused here"),
    ];
    let request = http2_request(&head(
        ConnectionType::Http,
        "https://elsewhere/p?q=%20",
        &metadata,
    ))
    .unwrap();
    assert_eq!(request.request.method(), Method::POST);
    assert_eq!(request.request.uri(), "https://app.test:8443/p?q=%20");
    assert!(request.has_body);
    let mut headers = shown(&request);
    headers.sort();
    assert_eq!(
        headers,
        ["accept: a", "accept: b", "content-length: 3", "x-empty: "]
    );
}

#[test]
fn only_an_announced_body_follows() {
    let cases: [(&[(&str, &str)], bool); 4] = [
        (&[], false),
        (&[("HttpHeader:Content-Length", "0")], false),
        (&[("HttpHeader:content-length", "1")], true),
        (&[("HttpHeader:Transfer-Encoding", "chunked")], true),
    ];
    for (headers, expected) in cases {
        let metadata = [&[("HttpHost", "a.test")], headers].concat();
        let request = http2_request(&head(ConnectionType::Http, "/", &metadata)).unwrap();
        assert_eq!(request.has_body, expected, "{headers:?}");
        assert!(!request.request.headers().contains_key(TRANSFER_ENCODING));
        assert_eq!(request.request.uri(), "https://a.test/");
    }
}

#[test]
fn visitors_cannot_steer_the_connector() {
    let metadata = [
        ("HttpHost", "a.test"),
        ("HttpHeader:Cf-Cloudflared-Proxy-Src", "x"),
        (
            "HttpHeader:cf-cloudflared-proxy-connection-upgrade",
            "update-configuration",
        ),
        ("HttpHeader:CF-CLOUDFLARED-ANYTHING", "x"),
        ("HttpHeader:Connection", "x"),
        ("HttpHeader:TE", "trailers"),
        ("HttpHeader:Upgrade", "h2c"),
        ("HttpHeader:Host", "b.test"),
    ];
    let request = http2_request(&head(ConnectionType::Http, "/", &metadata)).unwrap();
    assert_eq!(shown(&request), Vec::<String>::new());
    let request = http2_request(&head(ConnectionType::WebSocket, "/", &metadata)).unwrap();
    assert_eq!(
        shown(&request),
        ["cf-cloudflared-proxy-connection-upgrade: websocket"]
    );
    assert!(request.has_body);
}

#[test]
fn an_upgrade_names_its_protocol_and_the_length_of_its_body() {
    let host = ("HttpHost", "a.test");
    let length = ("HttpHeader:Content-Length", "4");
    // No visitor speaks for the edge.
    let lie = ("HttpHeader:Cf-Cloudflared-Adit-Upgrade", "lie");
    let metadata = [host, length, lie, ("AditUpgrade", "tcp")];
    let request = http2_request(&head(ConnectionType::WebSocket, "/", &metadata)).unwrap();
    assert!(request.has_body && request.asked == Asked::Protocol);
    let mut headers = shown(&request);
    headers.sort();
    assert_eq!(
        headers,
        [
            "cf-cloudflared-adit-upgrade-body: 4",
            "cf-cloudflared-adit-upgrade: tcp",
            "cf-cloudflared-proxy-connection-upgrade: websocket"
        ]
    );
    // A length would end a WebSocket, and has no meaning for it.
    let metadata = [host, ("HttpHeader:Content-Length", "0")];
    let request = http2_request(&head(ConnectionType::WebSocket, "/", &metadata)).unwrap();
    assert_eq!(
        shown(&request),
        ["cf-cloudflared-proxy-connection-upgrade: websocket"]
    );
    // Ordinary requests have no such mark.
    let request = http2_request(&head(ConnectionType::Http, "/", &[host, ("AditUpgrade", "tcp")])).unwrap();
    assert_eq!((shown(&request).len(), request.asked), (0, Asked::Http));
}

#[test]
fn only_a_switch_names_a_protocol_other_than_websocket() {
    let status = |asked, headers: &[(&str, &str)]| {
        let response = read(&answer(200, ORIGIN, Some(headers)), asked);
        pairs(&response.metadata)[0].1.clone()
    };
    let named = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
    assert_eq!(status(Asked::Protocol, &named), "101");
    assert_eq!(status(Asked::Protocol, &[("Content-Type", "text/plain")]), "200");
    // Some origins advertise protocols.
    assert_eq!(status(Asked::WebSocket, &named), "200");
    assert_eq!(status(Asked::Http, &named), "200");
}

#[test]
fn a_flow_goes_to_its_address() {
    let metadata = [
        ("FlowID", "7"),
        ("cf-trace-id", "abc:1:0:1"),
        ("HttpHeader:X", "y"),
    ];
    let request = http2_request(&head(ConnectionType::Tcp, "[::1]:22", &metadata)).unwrap();
    assert_eq!(request.request.uri().authority().unwrap(), "[::1]:22");
    assert_eq!(
        shown(&request),
        ["cf-cloudflared-proxy-src: edge", "cf-trace-id: abc:1:0:1"]
    );
}

#[test]
fn what_http_cannot_say_is_refused() {
    let host = ("HttpHost", "a.test");
    for (dest, metadata) in [
        ("/", vec![]),
        ("", vec![host]),
        ("/a b", vec![host]),
        ("/", vec![("HttpHost", "a b")]),
        ("/", vec![host, ("HttpMethod", "GE T")]),
        ("/", vec![host, ("HttpHeader:X", "a\nb")]),
        ("/", vec![host, ("HttpHeader:a b", "x")]),
        ("/", vec![host, ("HttpHeader", "x")]),
    ] {
        let refused = http2_request(&head(ConnectionType::Http, dest, &metadata));
        assert!(refused.is_err(), "{dest:?} {metadata:?}");
    }
    assert!(http2_request(&head(ConnectionType::Tcp, "a b", &[])).is_err());
}

fn answer(status: u16, meta: Option<&str>, headers: Option<&[(&str, &str)]>) -> response::Parts {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "the library's");
    if let Some(meta) = meta {
        response = response.header(RESPONSE_META, meta);
    }
    if let Some(headers) = headers {
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        response = response.header(RESPONSE_HEADERS, encode_headers(pairs));
    }
    response.body(()).unwrap().into_parts().0
}

const ORIGIN: Option<&str> = Some(ResponseMeta::Origin.as_str());

fn read(answer: &response::Parts, asked: Asked) -> ConnectResponse {
    let Http2Response { mut head, has_body } = http2_response(answer, asked, BodyForm::Plain);
    let response = decode_response(&mut head).unwrap().unwrap();
    assert!(head.is_empty());
    assert_eq!(has_body, response.error.is_empty());
    response
}

fn pairs(metadata: &Metadata) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    metadata
        .iter()
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}

#[test]
fn an_answer_is_made_of_the_origins_headers_only() {
    let headers = [
        ("Content-Type", "text/plain"),
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
    ];
    let response = read(&answer(404, ORIGIN, Some(&headers)), Asked::Http);
    assert!(response.error.is_empty());
    let expected = [
        ("HttpStatus", "404"),
        ("HttpHeader:Content-Type", "text/plain"),
        ("HttpHeader:Set-Cookie", "a"),
        ("HttpHeader:Set-Cookie", "b"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(pairs(&response.metadata), expected);
    let bare = read(&answer(200, ORIGIN, Some(&[])), Asked::Http);
    assert_eq!(
        pairs(&bare.metadata),
        [("HttpStatus".to_owned(), "200".to_owned())]
    );
}

/// Status, headers and kind of an exchange, and the status that the visitor's side sees.
type Case<'a> = (u16, &'a [(&'a str, &'a str)], Asked, &'a str);

#[test]
fn a_switch_is_told_from_a_plain_answer() {
    let cases: [Case<'_>; 6] = [
        (200, &[("Sec-Websocket-Accept", "x")], Asked::WebSocket, "101"),
        (200, &[("Upgrade", "WebSocket")], Asked::WebSocket, "101"),
        (200, &[("Upgrade", "h2c")], Asked::WebSocket, "200"),
        (200, &[], Asked::WebSocket, "200"),
        (403, &[("Upgrade", "websocket")], Asked::WebSocket, "403"),
        (200, &[("Upgrade", "websocket")], Asked::Http, "200"),
    ];
    for (status, headers, kind, expected) in cases {
        let response = read(&answer(status, ORIGIN, Some(headers)), kind);
        let status = pairs(&response.metadata).swap_remove(0).1;
        assert_eq!(status, expected, "{headers:?} {kind:?}");
    }
}

#[test]
fn a_flow_is_answered_without_headers() {
    let response = read(&answer(200, ORIGIN, Some(&[])), Asked::Flow);
    assert_eq!(response, ConnectResponse::default());
    let limited = Some(
        ResponseMeta::Connector {
            is_rate_limited: true,
        }
        .as_str(),
    );
    let response = read(&answer(502, limited, None), Asked::Flow);
    assert!(!response.error.is_empty());
    let expected = (FLOW_CONNECT_RATE_LIMITED.to_owned(), TRUE.to_owned());
    assert_eq!(pairs(&response.metadata), [expected]);
    assert!(!read(&answer(404, ORIGIN, None), Asked::Flow).error.is_empty());
}

#[test]
fn an_answer_that_is_none_becomes_a_report() {
    let own = Some(
        ResponseMeta::Connector {
            is_rate_limited: false,
        }
        .as_str(),
    );
    let mut broken = answer(200, ORIGIN, None);
    broken
        .headers
        .insert(RESPONSE_HEADERS, HeaderValue::from_static("%%"));
    let large = "x".repeat(100 << 10);
    for answer in [
        answer(502, own, None),
        answer(200, None, Some(&[])),
        answer(200, Some("{"), Some(&[])),
        answer(200, ORIGIN, None),
        answer(200, ORIGIN, Some(&[("X", &large)])),
        answer(
            200,
            ORIGIN,
            Some(&[
                ("X", large.get(..60 << 10).unwrap()),
                ("Y", large.get(..9 << 10).unwrap()),
            ]),
        ),
        broken,
    ] {
        let response = read(&answer, Asked::Http);
        assert!(!response.error.is_empty());
        assert!(response.metadata.is_empty());
    }
}

#[test]
fn the_wish_for_trailers_is_said_as_http2_says_it() {
    let host = ("HttpHost", "a.test");
    let request = http2_request(&head(ConnectionType::Http, "/", &[host])).unwrap();
    assert_eq!(request.wanted, BodyForm::Plain);
    let marked = http2_request(&head(
        ConnectionType::Http,
        "/",
        &[host, ("AditTrailers", "true")],
    ))
    .unwrap();
    assert_eq!(marked.wanted, BodyForm::Framed);
    assert_eq!(shown(&marked), ["te: trailers"]);
    let parts = answer(200, ORIGIN, Some(&[("Content-Type", "application/grpc")]));
    let mut head = http2_response(&parts, Asked::Http, BodyForm::Framed).head;
    let response = decode_response(&mut head).unwrap().unwrap();
    let expected = [
        ("HttpStatus", "200"),
        ("AditTrailers", "true"),
        ("HttpHeader:Content-Type", "application/grpc"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(pairs(&response.metadata), expected);
}

#[test]
fn an_answer_from_inside_of_a_stock_connector_has_no_signature() {
    let answer = |status: u16, headers: &[(&str, &str)]| {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    };
    let heard = |answer: &response::Parts, asked| {
        let head = http2_response(answer, asked, BodyForm::Plain);
        let mut bytes = head.head;
        let response: ConnectResponse = decode_response(&mut bytes).unwrap().unwrap();
        (response.error.is_empty(), response.metadata.len())
    };
    let plain = [
        ("content-type", "text/plain"),
        ("date", "today"),
        ("x-other", "1"),
    ];
    let profile = answer(200, &plain);
    assert_eq!(heard(&profile, Asked::Http), (true, 2));
    assert!(!heard(&profile, Asked::WebSocket).0);
    assert!(!heard(&answer(502, &plain), Asked::Http).0);
    // Half of a signature is none.
    let half = answer(200, &[(RESPONSE_HEADERS, "")]);
    assert!(!heard(&half, Asked::Http).0);
}
