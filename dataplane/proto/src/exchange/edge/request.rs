//! Turns a visitor's request head into what the connector is sent.

use std::borrow::Cow;
use std::net::IpAddr;

use adit_wire::Hostname;
use adit_wire::connect::{ConnectionType, Entry, encode_request, encode_request_for_interim};
use adit_wire::metadata::{self, HTTP_HOST, HTTP_METHOD, TRAILERS, TRUE};
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Version};

use super::forwarded::{ORIGINATION_HEADERS, Origination, is_reserved};
use super::trailers::Trailers;
use super::{BodyLength, Policy, PublicRequest, RequestId, Visitor};
use crate::exchange::codings::Codings;
use crate::exchange::error_code::ErrorCode;
use crate::exchange::hop_by_hop::HopByHop;
use crate::exchange::retry::HELD_BYTES_MAX;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};
use crate::request_head;

/// Headers of the request for a WebSocket. Stock connectors and ours write them by themselves. Other
/// connectors pass on what they get.
const WEBSOCKET_HEADERS: [(&str, &str); 2] = [("Connection", "Upgrade"), ("Upgrade", "websocket")];

/// Most pairs that the edge adds: method, host, framing, a WebSocket's upgrade and key, the mark of trailers,
/// and what it tells of the visitor.
const ADDED_PAIRS: usize = 5 + WEBSOCKET_HEADERS.len() + ORIGINATION_HEADERS;

/// The host a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host as the visitor wrote it, with its port: it becomes the origin's `Host`. The dot that may end
    /// a name is removed, because rules of connectors and origins do not expect it.
    pub text: Cow<'a, str>,
    /// In canonical form, for routing.
    pub hostname: Hostname,
}

/// A request ready to be sent down a tunnel.
#[derive(Clone, Debug)]
pub struct TunnelRequest {
    /// The first bytes of the data stream.
    pub head: Bytes,
    /// Whether the heads say that interim answers are taken, which only a connector of ours may be told.
    pub takes_interim: bool,
    /// The same for a connection that carries trailers, if the visitor takes them.
    pub head_for_trailers: Option<Bytes>,
    /// The same for a connector of ours, if the visitor asks for another protocol than WebSocket.
    pub upgrade: Option<Upgrade>,
    /// What the visitor does with trailers.
    pub trailers: Trailers,
    /// What the exchange carries.
    pub kind: ConnectionType,
    /// The method the origin sees; GET for a WebSocket over HTTP/2.
    pub method: Method,
    /// The visitor itself, behind trusted proxies if there are any.
    pub client: IpAddr,
}

/// Longest body that a request for an upgrade may bring along: it is read before the origin is asked, and
/// held for a retry.
pub const UPGRADE_BODY_BYTES_MAX: u64 = HELD_BYTES_MAX as u64;

/// Protocols that are no other ones, whatever version is asked for. In another version of HTTP, or under TLS
/// of its own, a visitor's next requests would pass the edge unseen: without limits, log and reserved
/// headers.
const NOT_SWITCHED_TO: [&[u8]; 5] = [b"http", b"h2", b"h2c", b"tls", b"websocket"];

/// A request to go on in another protocol than HTTP and WebSocket (RFC 9110 §7.8).
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// The first bytes of the data stream.
    pub head: Bytes,
    /// The protocol, as the visitor named it.
    pub protocol: HeaderValue,
}

impl Upgrade {
    /// `metadata` are those of the ordinary request.
    fn encode<'a>(
        protocol: &'a HeaderValue,
        dest: &str,
        metadata: &mut Vec<Entry<'a>>,
    ) -> Result<Self, ErrorCode> {
        metadata.push(Entry::new(metadata::UPGRADE, protocol));
        let head = encode_request(dest, ConnectionType::WebSocket, metadata);
        metadata.pop();
        Ok(Self {
            head: head.map_err(|_| ErrorCode::HeadTooLarge)?,
            protocol: protocol.clone(),
        })
    }
}

/// Finds the host a request is for, after a look at whether it is a request for an origin at all.
///
/// # Errors
/// [`ErrorCode::HostMissing`] without a host. [`ErrorCode::BadRequest`] when it is malformed or occurs twice.
/// Also the errors of [`check_target`] and [`check_codings`].
pub fn authority<'a>(request: &PublicRequest<'a>) -> Result<Authority<'a>, ErrorCode> {
    check_target(request)?;
    check_codings(request.headers)?;
    let mut lines = request.headers.get_all(HOST).into_iter();
    let header = match (lines.next(), lines.next()) {
        // RFC 9112 §3.2: more than one Host line is an error.
        (Some(_), Some(_)) => return Err(ErrorCode::BadRequest),
        (Some(line), None) => Some(line.to_str().map_err(|_| ErrorCode::BadRequest)?.trim()),
        (None, _) => None,
    };
    let target = request.uri.authority().map(http::uri::Authority::as_str);
    let text = match (target, header) {
        // RFC 9113 §8.3.1: both are there only if they agree. Over HTTP/1 the target wins (RFC 9112 §3.2.2).
        (Some(target), Some(header))
            if request.version == Version::HTTP_2 && !target.eq_ignore_ascii_case(header) =>
        {
            return Err(ErrorCode::BadRequest);
        }
        (Some(target), _) => target,
        (None, Some(header)) => header,
        (None, None) => return Err(ErrorCode::HostMissing),
    };
    if text.is_empty() {
        return Err(ErrorCode::HostMissing);
    }
    // User information has no place in HTTP (RFC 9110 §4.2.4).
    let hostname = Hostname::from_authority(text).map_err(|_| ErrorCode::BadRequest)?;
    let text = without_final_dot(text);
    Ok(Authority { text, hostname })
}

/// `name.` and `name.:port` are the same host as without the dot (RFC 1034 §3.1).
fn without_final_dot(text: &str) -> Cow<'_, str> {
    if let Some(name) = text.strip_suffix('.') {
        return Cow::Borrowed(name);
    }
    match text.rsplit_once(".:") {
        Some((name, port)) => Cow::Owned([name, ":", port].concat()),
        None => Cow::Borrowed(text),
    }
}

/// Refuses targets of other uses of HTTP: an edge is no forward proxy.
///
/// # Errors
/// [`ErrorCode::Unsupported`] for a CONNECT that asks for no WebSocket. [`ErrorCode::BadRequest`] for a
/// target in authority or asterisk form (RFC 9112 §3.2) and for a scheme that is not of HTTP.
fn check_target(request: &PublicRequest<'_>) -> Result<(), ErrorCode> {
    if *request.method == Method::CONNECT && request.protocol != Some("websocket") {
        return Err(ErrorCode::Unsupported);
    }
    let is_http = |scheme: &str| {
        ["http", "https"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(scheme))
    };
    let has_path = request
        .uri
        .path_and_query()
        .is_some_and(|path| path.as_str().starts_with('/'));
    match request.uri.scheme_str() {
        Some(scheme) if !is_http(scheme) => Err(ErrorCode::BadRequest),
        // The asterisk form asks about this server, not about an origin.
        Some(_) | None if !has_path => Err(ErrorCode::BadRequest),
        Some(_) | None => Ok(()),
    }
}

/// Refuses bodies in other codings than `chunked`. The codings are removed on the way, so the origin would
/// not know of them.
///
/// # Errors
/// [`ErrorCode::Unsupported`] for an unknown coding (RFC 9112 §6.1). [`ErrorCode::BadRequest`] for `chunked`
/// applied twice.
fn check_codings(headers: &HeaderMap) -> Result<(), ErrorCode> {
    let lines = headers.get_all(TRANSFER_ENCODING).into_iter();
    match Codings::of(lines.map(HeaderValue::as_bytes)) {
        Codings::None | Codings::Chunked => Ok(()),
        Codings::ChunkedTwice => Err(ErrorCode::BadRequest),
        Codings::Unknown => Err(ErrorCode::Unsupported),
    }
}

/// Writes the head of the data stream. `websocket_key` is 16 random bytes in base64, used when the visitor
/// cannot send one (WebSocket over HTTP/2).
///
/// # Errors
/// [`ErrorCode::HeadTooLarge`].
pub fn tunnel_request(
    request: &PublicRequest<'_>,
    authority: &Authority<'_>,
    visitor: &Visitor,
    policy: &Policy,
    id: RequestId,
    websocket_key: &str,
) -> Result<TunnelRequest, ErrorCode> {
    let size = head_bytes(request);
    if request.headers.len() > HEADERS_MAX || size > HEAD_BYTES_MAX {
        return Err(ErrorCode::HeadTooLarge);
    }
    let is_extended = *request.method == Method::CONNECT;
    let is_websocket = is_extended || is_upgrade(request);
    let method = if is_extended {
        Method::GET
    } else {
        request.method.clone()
    };
    let path = request
        .uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str);
    let origination = Origination::weigh(visitor, policy, request.headers);
    let told = origination.tell(id, &authority.text);
    let (length, cookies) = (Length::of(request), cookies(request.headers));
    let mut metadata = Vec::with_capacity(request.headers.len() + ADDED_PAIRS);
    metadata.push(Entry::new(HTTP_METHOD, method.as_str()));
    metadata.push(Entry::new(HTTP_HOST, authority.text.as_ref()));
    put_visitor_headers(&mut metadata, request.headers, &cookies);
    metadata.extend(length.entry());
    if is_websocket {
        metadata.extend(WEBSOCKET_HEADERS.map(|(name, value)| Entry::header(name, value)));
    }
    if is_extended && !request.headers.contains_key(SEC_WEBSOCKET_KEY) {
        metadata.push(Entry::header("Sec-WebSocket-Key", websocket_key));
    }
    metadata.extend(told.headers().map(|(name, value)| Entry::header(name, value)));
    if let Some(assertion) = origination.assertion() {
        metadata.push(Entry::header("Cf-Access-Jwt-Assertion", assertion));
    }

    let kind = match is_websocket {
        true => ConnectionType::WebSocket,
        false => ConnectionType::Http,
    };
    let dest = [visitor.scheme.as_str(), "://", &authority.text, &in_ascii(path)].concat();
    // Visitors over HTTP/1.0 know of none, and the HTTP/2 library has no way for them.
    let takes_interim = request.version == Version::HTTP_11 && kind == ConnectionType::Http;
    let encoder = if takes_interim {
        encode_request_for_interim
    } else {
        encode_request
    };
    let encode = |metadata: &[Entry<'_>]| encoder(&dest, kind, metadata).map_err(|_| ErrorCode::HeadTooLarge);
    let head = encode(&metadata)?;
    let trailers = if is_websocket {
        Trailers::Unwanted
    } else {
        Trailers::of(request.method, request.headers)
    };
    let protocol = other_protocol(request);
    let upgrade = protocol
        .map(|protocol| Upgrade::encode(protocol, &dest, &mut metadata))
        .transpose()?;
    let mut head_for_trailers = None;
    if trailers != Trailers::Unwanted {
        metadata.push(Entry::new(TRAILERS, TRUE));
        head_for_trailers = Some(encode(&metadata)?);
    }
    Ok(TunnelRequest {
        head,
        takes_interim,
        head_for_trailers,
        upgrade,
        trailers,
        kind,
        method,
        client: origination.client,
    })
}

/// A target as every origin takes it: HTTP/2 lets text beyond ASCII pass.
fn in_ascii(path: &str) -> Cow<'_, str> {
    if path.is_ascii() {
        return Cow::Borrowed(path);
    }
    // What is encoded is ASCII.
    String::from_utf8(request_head::encoded(path.as_bytes())).map_or(Cow::Borrowed(path), Cow::Owned)
}

/// Bytes of the head as an HTTP/1 message would have, roughly.
fn head_bytes(request: &PublicRequest<'_>) -> usize {
    let target = request
        .uri
        .path_and_query()
        .map_or(1, |target| target.as_str().len());
    let headers = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    request.method.as_str().len() + target + headers.sum::<usize>()
}

fn put_visitor_headers<'a>(metadata: &mut Vec<Entry<'a>>, headers: &'a HeaderMap, cookies: &'a [u8]) {
    let hop_by_hop = HopByHop::of(headers);
    for (name, value) in headers {
        let text = name.as_str();
        // Expect is answered here: the body is on its way already when the origin is asked.
        let is_ours = matches!(text, "host" | "content-length" | "expect" | "cookie");
        if !is_ours && !hop_by_hop.contains(text) && !is_reserved(text) {
            metadata.push(Entry::header(text, value));
        }
    }
    if headers.contains_key(COOKIE) && !hop_by_hop.contains("cookie") {
        metadata.push(Entry::header("cookie", cookies));
    }
}

/// RFC 9113 §8.2.3: HTTP/2 may split cookies into lines; HTTP/1 wants one.
fn cookies(headers: &HeaderMap) -> Cow<'_, [u8]> {
    let mut lines = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes);
    let first = lines.next().unwrap_or_default();
    match lines.next() {
        None => Cow::Borrowed(first),
        Some(second) => {
            let all: Vec<_> = [first, second].into_iter().chain(lines).collect();
            Cow::Owned(all.join(b"; ".as_slice()))
        }
    }
}

/// A connector forwards a body only if a header announces one (docs/protocol/data-streams.md §2).
enum Length {
    Unsaid,
    Said(String),
    Unknown,
}

impl Length {
    fn of(request: &PublicRequest<'_>) -> Self {
        match request.body {
            // An announced empty body stays announced: some origins insist on it for POST.
            BodyLength::Empty if request.headers.contains_key(CONTENT_LENGTH) => Self::Said("0".to_owned()),
            BodyLength::Empty => Self::Unsaid,
            BodyLength::Known(length) => Self::Said(length.to_string()),
            BodyLength::Unknown => Self::Unknown,
        }
    }

    fn entry(&self) -> Option<Entry<'_>> {
        match self {
            Self::Unsaid => None,
            Self::Said(length) => Some(Entry::header("Content-Length", length)),
            Self::Unknown => Some(Entry::header("Transfer-Encoding", "chunked")),
        }
    }
}

/// The other protocol that an HTTP/1.1 request asks for. One that offers several goes on as an ordinary
/// request, and so does one that offers what the tunnel's ends speak by themselves.
fn other_protocol<'a>(request: &PublicRequest<'a>) -> Option<&'a HeaderValue> {
    let protocol = request.headers.get(UPGRADE)?;
    let mut lines = request.headers.get_all(UPGRADE).into_iter();
    let is_one = lines.nth(1).is_none() && !protocol.as_bytes().contains(&b',') && !protocol.is_empty();
    let name = protocol.as_bytes().split(|byte| *byte == b'/').next();
    let is_ours = name.is_none_or(|name| NOT_SWITCHED_TO.iter().any(|ours| name.eq_ignore_ascii_case(ours)));
    let is_short = match request.body {
        BodyLength::Empty => true,
        BodyLength::Known(length) => length <= UPGRADE_BODY_BYTES_MAX,
        BodyLength::Unknown => false,
    };
    let is_asked = request.version == Version::HTTP_11 && lists(request.headers, CONNECTION, "upgrade");
    (is_one && !is_ours && is_short && is_asked).then_some(protocol)
}

/// Whether an HTTP/1.1 request asks to become a WebSocket (RFC 6455 §4.1).
fn is_upgrade(request: &PublicRequest<'_>) -> bool {
    request.version == Version::HTTP_11
        && *request.method == Method::GET
        && request.body == BodyLength::Empty
        && lists(request.headers, UPGRADE, "websocket")
        && lists(request.headers, CONNECTION, "upgrade")
}

/// Whether a header that holds a list has `token` in it.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let lines = headers.get_all(name).into_iter();
    let mut parts = lines
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    parts.any(|part| part.trim().eq_ignore_ascii_case(token))
}
