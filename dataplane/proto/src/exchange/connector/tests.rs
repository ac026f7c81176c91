//! Heads in both directions, as tables.

use adit_wire::connect::decode_response;
use http::StatusCode;

use super::*;
use crate::exchange::reach::Reach;

const PLAIN: HeadRules<'static> = HeadRules {
    host_header: None,
    disable_chunked_encoding: false,
    may_speak_http2: false,
    added: &[],
    edits: None,
};

fn request(kind: ConnectionType, dest: &str, metadata: &[(&str, &str)]) -> ConnectRequest {
    ConnectRequest {
        dest: Bytes::copy_from_slice(dest.as_bytes()),
        kind,
        metadata: metadata.iter().copied().collect(),
        takes_interim: false,
    }
}

fn parse(dest: &str, metadata: &[(&str, &str)]) -> Result<RequestHead, RequestError> {
    RequestHead::parse(&request(ConnectionType::Http, dest, metadata))
}

#[test]
fn only_path_and_query_of_the_destination_count() {
    for (dest, host, target) in [
        ("https://app.example.com/a/b?q=1", "app.example.com", "/a/b?q=1"),
        ("https://app.example.com:8443", "app.example.com:8443", "/"),
        ("http://h?q", "h", "/?q"),
        ("/p?next=http://x/y", "", "/p?next=http://x/y"),
        ("/a#fragment", "", "/a"),
        ("", "", "/"),
        ("*", "", "*"),
    ] {
        let head = parse(dest, &[]).unwrap();
        assert_eq!((head.host(), head.target()), (host, target), "{dest}");
        assert_eq!(head.method(), Method::GET);
    }
    let head = parse(
        "https://a/",
        &[("HttpHost", "b"), ("HttpMethod", "PUT"), ("Unknown", "x")],
    )
    .unwrap();
    assert_eq!((head.host(), head.method()), ("b", &Method::PUT));
}

#[test]
fn bodies_follow_from_headers() {
    let chunked = ("HttpHeader:Transfer-Encoding", "gzip, Chunked");
    for (metadata, body) in [
        (vec![], RequestBody::Empty),
        (vec![("HttpHeader:Content-Length", "0")], RequestBody::Empty),
        (vec![("HttpHeader:content-length", "12")], RequestBody::Length(12)),
        (
            vec![
                ("HttpHeader:Content-Length", "12"),
                ("HttpHeader:Content-Length", "12"),
            ],
            RequestBody::Length(12),
        ),
        (vec![chunked], RequestBody::UntilEnd),
        (
            vec![chunked, ("HttpHeader:Content-Length", "12")],
            RequestBody::UntilEnd,
        ),
        (vec![("HttpHeader:Transfer-Encoding", "gzip")], RequestBody::Empty),
    ] {
        assert_eq!(parse("/", &metadata).unwrap().body(&PLAIN), body, "{metadata:?}");
    }
    let no_chunks = HeadRules {
        disable_chunked_encoding: true,
        ..PLAIN
    };
    let both = parse("/", &[chunked, ("HttpHeader:Content-Length", "12")]).unwrap();
    assert_eq!(both.body(&no_chunks), RequestBody::Length(12));
    let unknown = parse("/", &[chunked]).unwrap();
    assert_eq!(unknown.body(&no_chunks), RequestBody::Collected);
    let socket = request(
        ConnectionType::WebSocket,
        "/",
        &[("HttpHeader:Content-Length", "3")],
    );
    assert_eq!(
        RequestHead::parse(&socket).unwrap().body(&PLAIN),
        RequestBody::Empty
    );
}

#[test]
fn broken_heads_are_refused_with_their_reason() {
    for (metadata, message) in [
        (
            ("HttpHeader:Content-Length", "x"),
            "Error setting content-length: x is not a length",
        ),
        (
            ("HttpHeader:Content-Length", "+1"),
            "Error setting content-length: +1 is not a length",
        ),
        (
            ("HttpHeaderContent", "1"),
            "header Key: HttpHeaderContent malformed",
        ),
        (("HttpHeader:a:b", "1"), "header Key: HttpHeader:a:b malformed"),
        (("HttpHeader:a b", "1"), "header a b is not valid"),
        (("HttpHeader:X-A", "1\n2"), "header X-A is not valid"),
        (("HttpMethod", "G T"), "method is not valid"),
        (
            ("HttpMethod", "CONNECT"),
            "flows are not supported yet by this build",
        ),
    ] {
        assert_eq!(parse("/", &[metadata]).unwrap_err().to_string(), message);
    }
    let lengths = [
        ("HttpHeader:Content-Length", "1"),
        ("HttpHeader:Content-Length", "2"),
    ];
    assert!(matches!(
        parse("/", &lengths),
        Err(RequestError::ContentLength { .. })
    ));
    assert!(matches!(
        parse("/a b\u{1}", &[]),
        Err(RequestError::Destination(_))
    ));
    let flow = request(ConnectionType::Tcp, "127.0.0.1:1", &[]);
    assert!(matches!(RequestHead::parse(&flow), Err(RequestError::Flow)));
}

#[test]
fn the_origin_gets_end_to_end_headers_and_its_host() {
    let head = parse(
        "https://app.example.com/x?y",
        &[
            ("HttpMethod", "POST"),
            ("HttpHost", "app.example.com"),
            ("HttpHeader:Accept", "a"),
            ("HttpHeader:accept", "b"),
            ("HttpHeader:Connection", "keep-alive"),
            ("HttpHeader:Upgrade", "h2c"),
            ("HttpHeader:Expect", "100-continue"),
            ("HttpHeader:Host", "evil"),
            ("HttpHeader:Cf-Trace-Id", "t"),
            ("HttpHeader:Cf-Warp-Tag-Id", "forged"),
        ],
    )
    .unwrap();
    let added = [(
        HeaderName::from_static("cf-warp-tag-id"),
        HeaderValue::from_static("me"),
    )];
    let (request, body) = head
        .into_origin(&HeadRules {
            added: &added,
            ..PLAIN
        })
        .unwrap();
    assert_eq!(
        (request.uri().to_string().as_str(), body),
        ("/x?y", RequestBody::Empty)
    );
    let mut headers: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    assert_eq!(
        headers,
        [
            "accept: a",
            "accept: b",
            "cf-warp-tag-id: me",
            "content-length: 0",
            "host: app.example.com"
        ]
    );
}

#[test]
fn an_overridden_host_is_told_to_the_origin() {
    let host = HeaderValue::from_static("internal");
    let head = parse(
        "/",
        &[
            ("HttpHost", "app.example.com"),
            ("HttpHeader:X-Forwarded-Host", "x"),
        ],
    )
    .unwrap();
    let (request, _) = head
        .into_origin(&HeadRules {
            host_header: Some(&host),
            ..PLAIN
        })
        .unwrap();
    assert_eq!(request.headers()[HOST], "internal");
    assert_eq!(request.headers()["x-forwarded-host"], "app.example.com");
}

#[test]
fn a_websocket_asks_for_its_upgrade() {
    let socket = request(
        ConnectionType::WebSocket,
        "/ws",
        &[
            ("HttpHost", "h"),
            ("HttpHeader:Sec-WebSocket-Key", "k"),
            ("HttpHeader:Connection", "close"),
        ],
    );
    let (request, _) = RequestHead::parse(&socket).unwrap().into_origin(&PLAIN).unwrap();
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "k"),
    ] {
        assert_eq!(request.headers()[name], value);
    }
}

fn decoded(status: StatusCode, headers: &[(&'static str, &str)]) -> Vec<(String, String)> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let mut bytes = encode_response_head(status, &map).unwrap();
    let response = decode_response(&mut bytes).unwrap().unwrap();
    assert!(bytes.is_empty() && response.error.is_empty());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    response
        .metadata
        .iter()
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}

#[test]
fn responses_carry_their_status_first_and_every_value() {
    let sent = [
        ("content-type", "text/plain"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("x-a1-bC", "c"),
        ("connection", "close"),
        ("keep-alive", "5"),
        ("transfer-encoding", "chunked"),
    ];
    let seen = decoded(
        StatusCode::OK,
        &sent.map(|(name, value)| (if name == "x-a1-bC" { "x-a1-bc" } else { name }, value)),
    );
    let expected = [
        ("HttpStatus", "200"),
        ("HttpHeader:Content-Type", "text/plain"),
        ("HttpHeader:Set-Cookie", "a"),
        ("HttpHeader:Set-Cookie", "b"),
        ("HttpHeader:X-A1-Bc", "c"),
    ];
    assert_eq!(
        seen,
        expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
    let switch = decoded(
        StatusCode::SWITCHING_PROTOCOLS,
        &[("upgrade", "websocket"), ("connection", "upgrade")],
    );
    assert_eq!(switch.len(), 3);
}

#[test]
fn error_texts_are_cut_between_characters() {
    let mut bytes = encode_error(&"é".repeat(ERROR_BYTES_MAX), Reach::Unknown).unwrap();
    let response = decode_response(&mut bytes).unwrap().unwrap();
    assert_eq!(response.error.len(), ERROR_BYTES_MAX);
    assert!(std::str::from_utf8(&response.error).is_ok() && response.metadata.is_empty());
}

#[test]
fn how_far_a_request_has_come_stands_beside_the_error() {
    for reach in [Reach::Unknown, Reach::Nowhere, Reach::Asked] {
        let mut bytes = encode_error("cannot connect", reach).unwrap();
        let response = decode_response(&mut bytes).unwrap().unwrap();
        assert_eq!(Reach::reported(&response.error, &response.metadata), reach);
    }
}

#[test]
fn who_takes_trailers_asks_for_them_where_http2_may_be_spoken() {
    let mark = ("AditTrailers", "true");
    for (metadata, may_speak_http2, takes, asks) in [
        (vec![], true, false, false),
        (vec![mark], true, true, true),
        (vec![mark], false, true, false),
        // A visitor's own word is no mark.
        (vec![("HttpHeader:AditTrailers", "true")], true, false, false),
        (vec![("HttpHeader:TE", "trailers")], true, false, false),
    ] {
        let head = parse("/", &metadata).unwrap();
        assert_eq!(head.takes_trailers(), takes, "{metadata:?}");
        let rules = HeadRules {
            may_speak_http2,
            ..PLAIN
        };
        let (request, _) = head.into_origin(&rules).unwrap();
        assert_eq!(request.headers().contains_key(TE), asks, "{metadata:?}");
    }
}

#[test]
fn a_framed_answer_says_so_before_its_headers() {
    let headers = HeaderMap::from_iter([(http::header::TRAILER, HeaderValue::from_static("x-sum"))]);
    let mut head = encode_framed_response_head(StatusCode::OK, &headers).unwrap();
    let response = decode_response(&mut head).unwrap().unwrap();
    let keys: Vec<_> = response.metadata.iter().map(|(key, _)| key.to_vec()).collect();
    assert_eq!(keys, [&b"HttpStatus"[..], b"AditTrailers", b"HttpHeader:Trailer"]);
}
