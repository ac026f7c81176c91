//! The request and the response that the cases carry: what a browser and a web server of today send.

use adit_proto::exchange::edge::{BodyLength, Policy, PublicRequest, RequestId, Scheme, Visitor};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};

/// Bytes of the response body.
const BODY_BYTES: usize = 1_024;

pub(super) const HOST: &str = "app.example.com";

pub(super) const ID: RequestId = RequestId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

pub(super) const WEBSOCKET_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

const REQUEST: [(&str, &str); 13] = [
    ("host", HOST),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    ),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://app.example.com/projects/adit/overview"),
    ("connection", "keep-alive"),
    (
        "cookie",
        "session=0f3c9a7e5b1d4c2f8a6e; theme=dark; _ga=GA1.2.1234567890.1700000000",
    ),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("priority", "u=0, i"),
    ("if-none-match", "\"65a1b2c3-400\""),
];

const RESPONSE: [(&str, &str); 11] = [
    ("server", "nginx/1.22.1"),
    ("date", "Mon, 01 Jun 2026 12:00:00 GMT"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-length", "1024"),
    ("last-modified", "Mon, 01 Jun 2026 11:00:00 GMT"),
    ("connection", "keep-alive"),
    ("etag", "\"65a1b2c3-400\""),
    ("cache-control", "private, max-age=0, must-revalidate"),
    ("vary", "Accept-Encoding, Cookie"),
    ("x-content-type-options", "nosniff"),
    ("accept-ranges", "bytes"),
];

/// A visitor's request as the HTTP server hands it over.
pub(super) struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    pub(super) visitor: Visitor,
    pub(super) policy: Policy,
}

/// An origin's response as the HTTP client hands it over.
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new() -> Self {
        Self {
            method: Method::GET,
            uri: Uri::from_static("/projects/adit/files/report.html?version=3&lang=en"),
            headers: headers(&REQUEST),
            visitor: Visitor {
                address: [192, 0, 2, 1].into(),
                scheme: Scheme::Https,
            },
            policy: Policy {
                trusted_proxies: vec!["10.0.0.0/8".parse().expect("a block")],
                colo: "fra01".into(),
            },
        }
    }

    pub(super) fn public(&self) -> PublicRequest<'_> {
        PublicRequest {
            method: &self.method,
            uri: &self.uri,
            version: Version::HTTP_11,
            headers: &self.headers,
            protocol: None,
            body: BodyLength::Empty,
        }
    }
}

impl Response {
    pub(super) fn new() -> Self {
        Self {
            status: StatusCode::OK,
            headers: headers(&RESPONSE),
            body: Bytes::from(vec![b'x'; BODY_BYTES]),
        }
    }
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for &(name, value) in lines {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}
