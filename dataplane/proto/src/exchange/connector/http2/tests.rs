//! Heads over HTTP/2 in both directions, as tables.

use adit_wire::http2::Headers;
use http::Request;

use super::super::{HeadRules, RequestBody};
use super::*;

const PLAIN: HeadRules<'static> = HeadRules {
    host_header: None,
    disable_chunked_encoding: false,
    may_speak_http2: false,
    added: &[],
    edits: None,
};

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
    of.iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

#[test]
fn a_kind_follows_from_headers_in_this_order() {
    let upgrade = "cf-cloudflared-proxy-connection-upgrade";
    let source = ("cf-cloudflared-proxy-src", "tcp");
    for (given, kind) in [
        (&[][..], Kind::Http),
        (&[(upgrade, "else")], Kind::Http),
        (&[("cf-cloudflared-proxy-src", "")], Kind::Http),
        (&[source], Kind::Flow),
        (&[(upgrade, "control-stream")], Kind::ControlStream),
        (&[(upgrade, "control-stream"), source], Kind::Flow),
        (&[(upgrade, "websocket"), source], Kind::WebSocket),
        (&[(upgrade, "update-configuration"), source], Kind::Configuration),
    ] {
        assert_eq!(Kind::of(&headers(given)), kind, "{given:?}");
    }
}

#[test]
fn a_request_reaches_the_origin_as_from_a_data_stream() {
    let given = [
        ("cookie", "a=1"),
        ("x-visitor", "yes"),
        ("cookie", "b=2"),
        ("cf-cloudflared-proxy-connection-upgrade", "else"),
        ("cf-trace-id", "1"),
        ("te", "trailers"),
    ];
    let head =
        RequestHead::from_http2(parts("PUT", "https://app.test:8443/a?b=c", &given), true, true).unwrap();
    assert_eq!((head.host(), head.target()), ("app.test:8443", "/a?b=c"));
    assert!(!head.is_websocket() && head.takes_trailers());
    let (request, body) = head.into_origin(&PLAIN).unwrap();
    assert_eq!(body, RequestBody::UntilEnd);
    let expected = headers(&[
        ("cookie", "a=1; b=2"),
        ("x-visitor", "yes"),
        ("host", "app.test:8443"),
        ("transfer-encoding", "chunked"),
    ]);
    assert_eq!(request.headers(), &expected);
    assert_eq!(
        (request.method(), request.uri().to_string()),
        (&Method::PUT, "/a?b=c".to_owned())
    );
}

#[test]
fn bodies_follow_from_the_length_and_the_end_of_the_stream() {
    for (given, has_body, body) in [
        (&[][..], false, RequestBody::Empty),
        (&[], true, RequestBody::UntilEnd),
        (&[("content-length", "0")], false, RequestBody::Empty),
        (&[("content-length", "12")], true, RequestBody::Length(12)),
    ] {
        let head = RequestHead::from_http2(parts("POST", "https://h/", given), has_body, true).unwrap();
        assert_eq!(head.body(&PLAIN), body, "{given:?}");
    }
    let bad = parts("POST", "https://h/", &[("content-length", "x")]);
    assert!(matches!(
        RequestHead::from_http2(bad, true, true),
        Err(RequestError::ContentLength { .. })
    ));
    let connect = parts("CONNECT", "h:1", &[]);
    assert!(matches!(
        RequestHead::from_http2(connect, true, true),
        Err(RequestError::Flow)
    ));
}

#[test]
fn a_websocket_asks_the_origin_for_one() {
    let given = [
        ("cf-cloudflared-proxy-connection-upgrade", "websocket"),
        ("sec-websocket-key", "k"),
    ];
    let head = RequestHead::from_http2(parts("GET", "https://h/ws", &given), true, true).unwrap();
    assert!(head.is_websocket());
    let (request, body) = head.into_origin(&PLAIN).unwrap();
    assert_eq!(body, RequestBody::Empty);
    let expected = headers(&[
        ("host", "h"),
        ("sec-websocket-key", "k"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
    ]);
    assert_eq!(request.headers(), &expected);
}

#[test]
fn an_edge_of_ours_may_ask_for_any_protocol() {
    let given = [
        ("cf-cloudflared-proxy-connection-upgrade", "websocket"),
        ("cf-cloudflared-adit-upgrade", "tcp"),
        ("cf-cloudflared-adit-upgrade-body", "4"),
    ];
    let asked = |given: &[(&'static str, &'static str)], is_edge_ours| {
        RequestHead::from_http2(parts("POST", "https://h/exec", given), true, is_edge_ours).unwrap()
    };
    let head = asked(&given, true);
    assert!(head.is_upgrade() && !head.is_websocket());
    let (request, body) = head.into_origin(&PLAIN).unwrap();
    assert_eq!(body, RequestBody::Length(4));
    let expected = headers(&[
        ("host", "h"),
        ("content-length", "4"),
        ("connection", "Upgrade"),
        ("upgrade", "tcp"),
    ]);
    assert_eq!(request.headers(), &expected);
    // Other edges do not know what their visitors say in these names.
    assert!(asked(&given, false).is_websocket());
    assert!(!asked(&given[1..], true).is_upgrade());
}

#[test]
fn an_origins_headers_travel_in_one() {
    let origin = headers(&[
        ("content-type", "text/html"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-length", "7"),
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("trailer", "x-sum"),
        ("cf-int-secret", "1"),
        ("cf-cloudflared-x", "1"),
        ("cf-proxy-x", "1"),
        ("cf-cache", "hit"),
    ]);
    let response = response(StatusCode::NOT_FOUND, &origin).unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let sent = response.headers();
    assert_eq!(sent.len(), 3);
    assert_eq!(sent["content-length"], "7");
    assert_eq!(sent["cf-cloudflared-response-meta"], r#"{"src":"origin"}"#);
    let inside = Headers::decode(sent["cf-cloudflared-response-headers"].as_bytes()).unwrap();
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    let mut inside: Vec<_> = inside
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    inside.sort_unstable();
    let expected = [
        ("Cf-Cache", "hit"),
        ("Content-Length", "7"),
        ("Content-Type", "text/html"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ];
    assert_eq!(inside, expected);
}

#[test]
fn a_switch_of_protocols_is_a_200_that_says_to_what() {
    let origin = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
    let response = response(StatusCode::SWITCHING_PROTOCOLS, &origin).unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    // Connection: Upgrade, and Upgrade: websocket.
    assert_eq!(
        response.headers()["cf-cloudflared-response-headers"],
        "Q29ubmVjdGlvbg:VXBncmFkZQ;VXBncmFkZQ:d2Vic29ja2V0"
    );
}

#[test]
fn answers_without_an_origin_say_whose_they_are() {
    let flow = flow_response();
    assert_eq!(flow.headers()["cf-cloudflared-response-headers"], "");
    assert_eq!(
        flow.headers()["cf-cloudflared-response-meta"],
        r#"{"src":"origin"}"#
    );
    let failure = failure(Reach::Unknown);
    assert_eq!(failure.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(failure.headers().len(), 1);
    assert_eq!(
        failure.headers()["cf-cloudflared-response-meta"],
        r#"{"src":"cloudflared"}"#
    );
    let mut large = HeaderMap::new();
    large.insert("x", HeaderValue::from_bytes(&vec![b'a'; HEAD_BYTES_MAX]).unwrap());
    assert!(response(StatusCode::OK, &large).is_err());
}
