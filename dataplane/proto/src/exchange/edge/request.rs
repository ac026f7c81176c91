//! A visitor's request head as the connector gets it.
//!
//! Hop-by-hop headers end here (RFC 9110 §7.6.1). What says who the visitor is gets written by us: copies
//! sent by the visitor are dropped unless its address is a trusted proxy's.

use std::fmt::Write;
use std::net::IpAddr;

use adit_wire::connect::{ConnectionType, Entry, HeadError, encode_request};
use adit_wire::metadata::{HTTP_HOST, HTTP_METHOD};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

/// Whom the request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// The address of the connection it came on.
    pub address: IpAddr,
    /// `http` or `https`, as the visitor sees it.
    pub scheme: &'a str,
    /// Whether that address may speak for others.
    pub is_trusted: bool,
}

/// Which customary headers are written.
#[derive(Clone, Copy, Debug)]
pub struct HeaderPolicy<'a> {
    /// This exchange's id, 32 hexadecimal digits.
    pub request_id: &'a str,
    /// The edge's site, for `Cf-Ray`.
    pub colo: &'a str,
}

/// How much body follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// None.
    Empty,
    /// This many bytes.
    Known(u64),
    /// Until the end of the stream.
    Unknown,
}

/// A visitor's request head.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Method, as sent.
    pub method: &'a Method,
    /// Target; only path and query are used.
    pub uri: &'a Uri,
    /// The host asked for, as sent.
    pub host: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// Body that follows.
    pub body: BodyLength,
    /// Whether it asks for a WebSocket.
    pub is_websocket: bool,
}

/// The head cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It does not fit the limits of a stream head.
    #[error("the request head cannot be encoded")]
    Head(#[from] HeadError),
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");
const RAY: HeaderName = HeaderName::from_static("cf-ray");
const VISITOR: HeaderName = HeaderName::from_static("cf-visitor");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Steers a connector's HTTP/2 transport; a visitor must not reach it.
const INTERNAL_UPGRADE: HeaderName = HeaderName::from_static("cf-cloudflared-proxy-connection-upgrade");

/// Encodes the head of the data stream for this request.
///
/// # Errors
/// [`RequestError::Head`] above the limits of a stream head.
pub fn encode(
    head: &RequestHead<'_>,
    visitor: &Visitor<'_>,
    policy: &HeaderPolicy<'_>,
) -> Result<Bytes, RequestError> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let dest = format!("{}://{}{path}", visitor.scheme, head.host);
    let added = added(head, visitor, policy);
    let mut entries = Vec::with_capacity(head.headers.len() + added.len() + 4);
    entries.push(Entry::new(HTTP_METHOD, head.method.as_str().as_bytes()));
    entries.push(Entry::new(HTTP_HOST, head.host.as_bytes()));
    for (name, value) in head.headers {
        if !is_dropped(name, head, visitor) {
            entries.push(Entry::header(name.as_str().as_bytes(), value.as_bytes()));
        }
    }
    for (name, value) in &added {
        entries.push(Entry::header(name.as_str().as_bytes(), value.as_bytes()));
    }
    if head.body == BodyLength::Unknown && !head.is_websocket {
        // Without it the connector drops the body (protocol/data-streams.md §2).
        entries.push(Entry::header(b"Transfer-Encoding", b"chunked"));
    }
    let kind = if head.is_websocket { ConnectionType::WebSocket } else { ConnectionType::Http };
    Ok(encode_request(&dest, kind, &entries)?)
}

/// Headers of this connection only, those the connection header names, and those written anew.
fn is_dropped(name: &HeaderName, head: &RequestHead<'_>, visitor: &Visitor<'_>) -> bool {
    let hop_by_hop = [
        &header::CONNECTION,
        &header::TRANSFER_ENCODING,
        &header::UPGRADE,
        &header::TE,
        &header::TRAILER,
        &header::PROXY_AUTHORIZATION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        // The edge answers it itself: an origin's 100 never reaches the visitor.
        &header::EXPECT,
        &header::HOST,
        &INTERNAL_UPGRADE,
    ];
    let written = [&REQUEST_ID, &CONNECTING_IP, &RAY, &VISITOR];
    let forwarding = [&FORWARDED_FOR, &FORWARDED_PROTO, &FORWARDED_HOST, &header::FORWARDED];
    hop_by_hop.contains(&name)
        || (written.contains(&name) && !(visitor.is_trusted && *name == REQUEST_ID))
        || forwarding.contains(&name)
        || (*name == header::CONTENT_LENGTH && !matches!(head.body, BodyLength::Known(_)))
        || is_named_by_connection(name, head.headers)
}

fn is_named_by_connection(name: &HeaderName, headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(name.as_str()))
}

fn added(
    head: &RequestHead<'_>,
    visitor: &Visitor<'_>,
    policy: &HeaderPolicy<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut added = Vec::with_capacity(8);
    let mut add = |name: HeaderName, text: &str| {
        // Everything written here is visible ASCII; a host with other bytes was refused before.
        if let Ok(value) = HeaderValue::from_str(text) {
            added.push((name, value));
        }
    };
    let trusted = |name: HeaderName| {
        let value = visitor.is_trusted.then(|| head.headers.get(name)).flatten()?;
        value.to_str().ok()
    };
    let address = visitor.address.to_canonical();
    let mut chain = String::new();
    if let Some(before) = trusted(FORWARDED_FOR) {
        chain.push_str(before);
        chain.push_str(", ");
    }
    // Writing to a String cannot fail.
    let _ = write!(chain, "{address}");
    let first = chain.split(',').next().unwrap_or_default().trim().to_owned();
    let scheme = trusted(FORWARDED_PROTO).unwrap_or(visitor.scheme);
    let host = trusted(FORWARDED_HOST).unwrap_or(head.host);
    if trusted(REQUEST_ID).is_none() {
        add(REQUEST_ID, policy.request_id);
    }
    add(FORWARDED_FOR, &chain);
    add(FORWARDED_PROTO, scheme);
    add(FORWARDED_HOST, host);
    add(header::FORWARDED, &forwarded(trusted(header::FORWARDED), address, scheme, host));
    add(CONNECTING_IP, &first);
    let ray = policy.request_id.get(..16).unwrap_or(policy.request_id);
    add(RAY, &format!("{ray}-{}", policy.colo));
    add(VISITOR, &format!("{{\"scheme\":\"{scheme}\"}}"));
    added
}

/// RFC 7239 §4; addresses of version 6 are quoted and bracketed (§6).
fn forwarded(before: Option<&str>, address: IpAddr, scheme: &str, host: &str) -> String {
    let mut text = before.map_or_else(String::new, |before| format!("{before}, "));
    let written = match address {
        IpAddr::V4(address) => write!(text, "for={address}"),
        IpAddr::V6(address) => write!(text, "for=\"[{address}]\""),
    };
    // Writing to a String cannot fail.
    let _ = written.and_then(|()| write!(text, ";host=\"{host}\";proto={scheme}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_wire::connect::{ConnectRequest, decode_request};
    use bytes::BytesMut;

    fn sent(headers: &[(&str, &str)], body: BodyLength, is_trusted: bool) -> ConnectRequest {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let head = RequestHead {
            method: &Method::POST,
            uri: &"/p?q=1".parse().unwrap(),
            host: "app.test",
            headers: &map,
            body,
            is_websocket: false,
        };
        let visitor = Visitor { address: [192, 0, 2, 7].into(), scheme: "https", is_trusted };
        let policy = HeaderPolicy { request_id: "0123456789abcdef0123456789abcdef", colo: "lab01" };
        let mut bytes = BytesMut::from(&encode(&head, &visitor, &policy).unwrap()[..]);
        decode_request(&mut bytes).unwrap().unwrap()
    }

    fn header(request: &ConnectRequest, name: &str) -> Option<String> {
        let key = format!("HttpHeader:{name}");
        request
            .metadata
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(key.as_bytes()))
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn method_host_and_target_travel_as_the_protocol_wants() {
        let request = sent(&[("accept", "*/*")], BodyLength::Empty, false);
        assert_eq!(request.dest, "https://app.test/p?q=1");
        assert_eq!(&request.metadata[0].0[..], b"HttpMethod");
        assert_eq!(&request.metadata[1].1[..], b"app.test");
        assert_eq!(header(&request, "accept").as_deref(), Some("*/*"));
    }

    #[test]
    fn headers_of_the_visitors_connection_stay_behind() {
        let request = sent(
            &[
                ("connection", "close, x-secret-hop"),
                ("x-secret-hop", "1"),
                ("te", "trailers"),
                ("expect", "100-continue"),
                ("upgrade", "h2c"),
                ("transfer-encoding", "chunked"),
                ("x-kept", "1"),
            ],
            BodyLength::Empty,
            false,
        );
        for name in ["connection", "x-secret-hop", "te", "expect", "upgrade", "transfer-encoding"] {
            assert_eq!(header(&request, name), None, "{name}");
        }
        assert_eq!(header(&request, "x-kept").as_deref(), Some("1"));
    }

    #[test]
    fn a_body_is_announced_by_its_length_or_as_chunked() {
        let known = sent(&[("content-length", "5")], BodyLength::Known(5), false);
        assert_eq!(header(&known, "content-length").as_deref(), Some("5"));
        assert_eq!(header(&known, "transfer-encoding"), None);
        let unknown = sent(&[], BodyLength::Unknown, false);
        assert_eq!(header(&unknown, "transfer-encoding").as_deref(), Some("chunked"));
    }

    #[test]
    fn a_strangers_claims_about_itself_are_replaced() {
        let claims = [
            ("x-forwarded-for", "1.2.3.4"),
            ("cf-connecting-ip", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-request-id", "mine"),
        ];
        let request = sent(&claims, BodyLength::Empty, false);
        assert_eq!(header(&request, "x-forwarded-for").as_deref(), Some("192.0.2.7"));
        assert_eq!(header(&request, "cf-connecting-ip").as_deref(), Some("192.0.2.7"));
        assert_eq!(
            header(&request, "forwarded").as_deref(),
            Some("for=192.0.2.7;host=\"app.test\";proto=https")
        );
        assert_eq!(header(&request, "x-request-id").as_deref(), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(header(&request, "cf-ray").as_deref(), Some("0123456789abcdef-lab01"));
    }

    #[test]
    fn a_trusted_proxys_claims_are_kept_and_extended() {
        let claims = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "http"), ("x-request-id", "mine")];
        let request = sent(&claims, BodyLength::Empty, true);
        assert_eq!(header(&request, "x-forwarded-for").as_deref(), Some("1.2.3.4, 192.0.2.7"));
        assert_eq!(header(&request, "cf-connecting-ip").as_deref(), Some("1.2.3.4"));
        assert_eq!(header(&request, "x-forwarded-proto").as_deref(), Some("http"));
        assert_eq!(header(&request, "x-request-id").as_deref(), Some("mine"));
    }
}
