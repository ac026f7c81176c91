//! Heads on their way through edge and connector, each step by itself.

use std::hint::black_box;

use adit_proto::exchange::connector::{HeadRules, RequestHead, encode_response_head};
use adit_proto::exchange::edge::{Authority, authority, public_response, tunnel_request};
use adit_wire::connect::{ConnectionType, decode_request, decode_response};
use bytes::Bytes;
use http::{Method, Version};

use super::Work;
use super::message::{ID, Request, Response, WEBSOCKET_KEY};

/// What a rule without settings does to a head.
const RULES: HeadRules<'static> = HeadRules {
    host_header: None,
    disable_chunked_encoding: false,
    may_speak_http2: false,
    added: &[],
    edits: None,
};

/// Which host the visitor asks for.
pub(super) fn edge_authority() -> Work {
    let request = Request::new();
    Box::new(move || {
        black_box(authority(&black_box(request.public())).expect("a host"));
    })
}

/// The head for the connector, not yet encoded.
pub(super) fn edge_tunnel_request() -> Work {
    let request = Request::new();
    Box::new(move || {
        let public = request.public();
        let authority = Authority {
            text: super::message::HOST.into(),
            hostname: super::message::HOST.parse().expect("a hostname"),
        };
        let sent = tunnel_request(
            &public,
            &authority,
            &request.visitor,
            &request.policy,
            ID,
            WEBSOCKET_KEY,
        );
        black_box(sent.expect("a good request"));
    })
}

/// All that the edge does to a request's head.
pub(super) fn edge_request_head() -> Work {
    let request = Request::new();
    Box::new(move || {
        black_box(request_bytes(&request));
    })
}

/// All that the edge does to a response's head.
pub(super) fn edge_response_head() -> Work {
    let head = response_bytes(&Response::new());
    Box::new(move || visit(&mut head.clone()))
}

/// All that the connector does to a request's head.
pub(super) fn connector_request_head() -> Work {
    let head = request_bytes(&Request::new());
    Box::new(move || {
        let head = parse(&mut head.clone());
        forward(head);
    })
}

/// All that the connector does to a response's head.
pub(super) fn connector_response_head() -> Work {
    let response = Response::new();
    Box::new(move || {
        black_box(response_bytes(&response));
    })
}

pub(super) fn wire_decode_request() -> Work {
    let head = request_bytes(&Request::new());
    Box::new(move || {
        black_box(decode_request(&mut head.clone()).expect("a good head"));
    })
}

pub(super) fn wire_decode_response() -> Work {
    let head = response_bytes(&Response::new());
    Box::new(move || {
        black_box(decode_response(&mut head.clone()).expect("a good head"));
    })
}

pub(super) fn wire_encode_request() -> Work {
    let mut head = request_bytes(&Request::new());
    let decoded = decode_request(&mut head).expect("a good head");
    let decoded = decoded.expect("a whole head");
    Box::new(move || {
        black_box(decoded.encode().expect("a small head"));
    })
}

pub(super) fn wire_encode_response() -> Work {
    let mut head = response_bytes(&Response::new());
    let decoded = decode_response(&mut head).expect("a good head");
    let decoded = decoded.expect("a whole head");
    Box::new(move || {
        black_box(decoded.encode().expect("a small head"));
    })
}

/// Edge: a visitor's request becomes the first bytes of a data stream.
pub(super) fn request_bytes(request: &Request) -> Bytes {
    let public = black_box(request.public());
    let authority = authority(&public).expect("a host");
    let sent = tunnel_request(
        &public,
        &authority,
        &request.visitor,
        &request.policy,
        ID,
        WEBSOCKET_KEY,
    );
    sent.expect("a good request").head
}

/// Connector: the first bytes of a data stream become what ingress rules ask about.
pub(super) fn parse(received: &mut Bytes) -> RequestHead {
    let request = decode_request(received)
        .expect("a good head")
        .expect("a whole head");
    RequestHead::parse(&request).expect("a good request")
}

/// Connector: the request as the HTTP client takes it.
pub(super) fn forward(head: RequestHead) {
    black_box(head.into_origin(&RULES).expect("a good request"));
}

/// Connector: an origin's response becomes the answer's first bytes.
pub(super) fn response_bytes(response: &Response) -> Bytes {
    encode_response_head(response.status, black_box(&response.headers)).expect("a small head")
}

/// Edge: the answer's first bytes become the response for the visitor.
pub(super) fn visit(received: &mut Bytes) {
    let head = decode_response(received)
        .expect("a good head")
        .expect("a whole head");
    let response = public_response(head, &Method::GET, ConnectionType::Http, None, Version::HTTP_11);
    black_box(response.expect("a good response"));
}
