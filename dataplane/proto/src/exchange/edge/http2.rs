//! Translates the heads of an exchange for a connector that is reached over HTTP/2.
//!
//! ```text
//! ConnectRequest  ─► http2_request()  ─► HEADERS towards the connector
//! ConnectResponse ◄─ http2_response() ◄─ HEADERS from it
//! ```
//! So the rest of the edge knows one form of heads only, that of data streams.
//!
//! On HTTP/2 headers tell the kind of a request. A visitor must have no say in it, so no header of that
//! family passes. Source: docs/protocol/transport-http2.md §2 to §4.

use adit_wire::connect::{ConnectRequest, ConnectionType, Entry, HeadError, encode_response};
use adit_wire::http2::{
    Headers, HeadersError, INTERIM, PROXY_SRC, RESPONSE_HEADERS, RESPONSE_META, ResponseMeta, TRACE_ID,
    UPGRADE, UPGRADE_BODY_LENGTH, UPGRADE_PROTOCOL, WEBSOCKET,
};
use adit_wire::metadata::{
    self, FLOW_CONNECT_RATE_LIMITED, HTTP_HOST, HTTP_METHOD, HTTP_STATUS, TRAILERS, TRUE, UNREACHED,
};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri, Version, response};

use crate::exchange::interim::is_interim;
use crate::exchange::names;
use crate::exchange::reach::Reach;

/// Headers of this family steer the connector (what it is asked for, what it answers).
const STEERING_PREFIX: &str = "cf-cloudflared-";

/// What stands in [`PROXY_SRC`]: connectors look at its presence only.
const PROXY_SRC_VALUE: HeaderValue = HeaderValue::from_static("edge");

/// A request as HTTP/2 carries it.
#[derive(Debug)]
pub struct Http2Request {
    /// Its head.
    pub request: Request<()>,
    /// Whether anything follows the head.
    pub has_body: bool,
    /// What it asks for.
    pub asked: Asked,
    /// The form in which the answer's body is wanted, as far as the head says.
    pub wanted: BodyForm,
}

/// What a request over HTTP/2 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// An answer.
    Http,
    /// A WebSocket.
    WebSocket,
    /// Another protocol, which only connectors of ours are asked for.
    Protocol,
    /// A TCP flow.
    Flow,
}

/// In which form a body travels on a data stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// Byte by byte.
    Plain,
    /// In frames, which trailers may follow; see [`framed_body`](crate::exchange::framed_body).
    Framed,
}

/// A head cannot be said in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be sent over HTTP/2: its {0} is invalid")]
pub struct Http2RequestError(&'static str);

/// Writes the head of a data stream as a request.
///
/// # Errors
/// [`Http2RequestError`] for what no visitor can make the edge write.
pub fn http2_request(head: &ConnectRequest) -> Result<Http2Request, Http2RequestError> {
    if head.kind == ConnectionType::Tcp {
        return flow_request(head);
    }
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    let mut asked = match head.kind {
        ConnectionType::WebSocket => Asked::WebSocket,
        ConnectionType::Http | ConnectionType::Tcp => Asked::Http,
    };
    let mut host = None;
    let mut is_announced = false;
    let mut wanted = BodyForm::Plain;
    for (key, value) in head.metadata.iter() {
        if key == HTTP_METHOD.as_bytes() {
            *request.method_mut() = Method::from_bytes(value).map_err(|_| Http2RequestError("method"))?;
        } else if key == HTTP_HOST.as_bytes() {
            let authority = Authority::from_maybe_shared(head.metadata.share(value));
            host = Some(authority.map_err(|_| Http2RequestError("host"))?);
        } else if let Some(name) = names::header(key).map_err(|_| Http2RequestError("header name"))? {
            is_announced |= name == TRANSFER_ENCODING || (name == CONTENT_LENGTH && value != b"0");
            if !stays_here(&name) {
                let value = HeaderValue::from_maybe_shared(head.metadata.share(value));
                let value = value.map_err(|_| Http2RequestError("header value"))?;
                let name = match name {
                    // What follows an upgrade has no length.
                    CONTENT_LENGTH if asked != Asked::Http => HeaderName::from_static(UPGRADE_BODY_LENGTH),
                    name => name,
                };
                request
                    .headers_mut()
                    .try_append(name, value)
                    .map_err(|_| Http2RequestError("number of headers"))?;
            }
        } else if key == TRAILERS.as_bytes() && value == TRUE.as_bytes() {
            wanted = BodyForm::Framed;
            // RFC 9113 §8.2.2: the one thing that TE may say.
            request
                .headers_mut()
                .insert(TE, HeaderValue::from_static("trailers"));
        } else if key == metadata::UPGRADE.as_bytes() && asked == Asked::WebSocket {
            asked = Asked::Protocol;
            let protocol = HeaderValue::from_maybe_shared(head.metadata.share(value));
            let protocol = protocol.map_err(|_| Http2RequestError("protocol"))?;
            let name = HeaderName::from_static(UPGRADE_PROTOCOL);
            request.headers_mut().insert(name, protocol);
        }
    }
    let dest = Uri::from_maybe_shared(head.dest.clone()).map_err(|_| Http2RequestError("destination"))?;
    let dest = dest.into_parts();
    let path = dest
        .path_and_query
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    let authority = host.or(dest.authority).ok_or(Http2RequestError("host"))?;
    *request.uri_mut() = uri(dest.scheme.unwrap_or(Scheme::HTTPS), authority, path)?;
    say_kind(request.headers_mut(), asked);
    if head.takes_interim {
        let name = HeaderName::from_static(INTERIM);
        request.headers_mut().insert(name, HeaderValue::from_static(TRUE));
    }
    Ok(Http2Request {
        request,
        has_body: asked != Asked::Http || is_announced,
        asked,
        wanted,
    })
}

/// A flow goes to its address, and nothing else is said of it.
fn flow_request(head: &ConnectRequest) -> Result<Http2Request, Http2RequestError> {
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    let authority = Authority::from_maybe_shared(head.dest.clone());
    let authority = authority.map_err(|_| Http2RequestError("destination"))?;
    *request.uri_mut() = uri(Scheme::HTTPS, authority, PathAndQuery::from_static("/"))?;
    let headers = request.headers_mut();
    headers.insert(HeaderName::from_static(PROXY_SRC), PROXY_SRC_VALUE);
    let trace = head.metadata.iter().find(|(key, _)| *key == TRACE_ID.as_bytes());
    if let Some(trace) = trace.and_then(|(_, value)| HeaderValue::from_bytes(value).ok()) {
        headers.insert(HeaderName::from_static(TRACE_ID), trace);
    }
    Ok(Http2Request {
        request,
        has_body: true,
        asked: Asked::Flow,
        wanted: BodyForm::Plain,
    })
}

/// Names the kind of an upgrade. Only one to a protocol of its own has a body ahead of it.
fn say_kind(headers: &mut HeaderMap, asked: Asked) {
    match asked {
        Asked::Http | Asked::Flow => return,
        Asked::WebSocket => drop(headers.remove(UPGRADE_BODY_LENGTH)),
        Asked::Protocol => {}
    }
    let (name, value) = (
        HeaderName::from_static(UPGRADE),
        HeaderValue::from_static(WEBSOCKET),
    );
    headers.insert(name, value);
}

fn uri(scheme: Scheme, authority: Authority, path: PathAndQuery) -> Result<Uri, Http2RequestError> {
    let built = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path);
    built.build().map_err(|_| Http2RequestError("destination"))
}

/// Headers that HTTP/2 forbids or says otherwise, and those that steer connectors.
fn stays_here(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "connection" | "host" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    ) || name.starts_with(STEERING_PREFIX)
}

/// The connector's answer is none.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the connector does not say whose answer it is")]
    Unsigned,
    #[error("the connector has no answer from the origin")]
    NoOrigin,
    #[error("the connector could not connect to the origin")]
    Unreached(Reach),
    #[error("the connector has too many TCP flows open")]
    RateLimited,
    #[error("the connector answers a TCP flow with status {0}")]
    Flow(StatusCode),
    #[error("the origin's headers are missing from the connector's answer")]
    NoHeaders,
    #[error(transparent)]
    Headers(#[from] HeadersError),
    #[error(transparent)]
    Head(#[from] HeadError),
}

impl AnswerError {
    /// What is said beside the error.
    fn mark(&self) -> Option<Entry<'static>> {
        match self {
            Self::RateLimited => Some(Entry::new(FLOW_CONNECT_RATE_LIMITED, TRUE)),
            Self::Unreached(reach) => reach.mark().map(|value| Entry::new(UNREACHED, value)),
            Self::Unsigned
            | Self::NoOrigin
            | Self::Flow(_)
            | Self::NoHeaders
            | Self::Headers(_)
            | Self::Head(_) => None,
        }
    }
}

/// An answer as a data stream carries it.
#[derive(Debug)]
pub struct Http2Response {
    /// Its first bytes.
    pub head: Bytes,
    /// Whether what follows the answer's head belongs to it.
    pub has_body: bool,
}

/// Writes an answer as the head of a data stream. One that is none becomes a connector's report of an error.
///
/// The native headers are ignored, because the connector's HTTP library writes some of them. They count only
/// where there are no others, as when the connector itself answers. `form` is how the body will follow.
#[must_use]
pub fn http2_response(answer: &response::Parts, asked: Asked, form: BodyForm) -> Http2Response {
    match translated(answer, asked, form) {
        Ok(head) => Http2Response { head, has_body: true },
        Err(error) => Http2Response {
            head: report(&error, error.mark()),
            has_body: false,
        },
    }
}

/// Writes an interim answer of a connector of ours as the head of a data stream; `None` if it is none.
#[must_use]
pub fn http2_interim(answer: &response::Parts) -> Option<Bytes> {
    let headers = Headers::decode(answer.headers.get(RESPONSE_HEADERS)?.as_bytes()).ok()?;
    let mut metadata = Vec::with_capacity(1 + headers.len());
    metadata.push(Entry::new(HTTP_STATUS, answer.status.as_str()));
    metadata.extend(headers.iter().map(|(name, value)| Entry::header(name, value)));
    encode_response(b"", &metadata)
        .ok()
        .filter(|_| is_interim(answer.status))
}

/// The head of a data stream that tells why there is no answer.
#[must_use]
pub fn http2_failure(error: &Http2RequestError) -> Bytes {
    report(error, None)
}

fn report(error: &dyn std::error::Error, mark: Option<Entry<'_>>) -> Bytes {
    // A short text fits.
    encode_response(error.to_string().as_bytes(), mark.as_slice()).unwrap_or_default()
}

fn translated(answer: &response::Parts, asked: Asked, form: BodyForm) -> Result<Bytes, AnswerError> {
    let meta = answer.headers.get(RESPONSE_META).map(HeaderValue::as_bytes);
    if meta.is_none() && is_from_inside(answer, asked) {
        return from_inside(answer);
    }
    match meta.and_then(ResponseMeta::parse).ok_or(AnswerError::Unsigned)? {
        ResponseMeta::Origin => {}
        ResponseMeta::Connector {
            is_rate_limited: true,
        } => return Err(AnswerError::RateLimited),
        ResponseMeta::Connector {
            is_rate_limited: false,
        } => return Err(AnswerError::NoOrigin),
        ResponseMeta::Unreached { is_asked: false } => return Err(AnswerError::Unreached(Reach::Nowhere)),
        ResponseMeta::Unreached { is_asked: true } => return Err(AnswerError::Unreached(Reach::Asked)),
    }
    if asked == Asked::Flow {
        return match answer.status {
            StatusCode::OK => Ok(encode_response(b"", &[])?),
            status => Err(AnswerError::Flow(status)),
        };
    }
    let serialised = answer
        .headers
        .get(RESPONSE_HEADERS)
        .ok_or(AnswerError::NoHeaders)?;
    let headers = Headers::decode(serialised.as_bytes())?;
    // A switch of protocols comes as 200; the origin's 200 has no proof of the switch with it.
    let mut told = headers.iter();
    let is_switch = answer.status == StatusCode::OK
        && match asked {
            Asked::Http | Asked::Flow => false,
            Asked::WebSocket => told.any(|(name, value)| tells_of_websocket(name, value)),
            // A connector of ours says so in the head of a switch only.
            Asked::Protocol => told.any(|(name, _)| name.eq_ignore_ascii_case(b"upgrade")),
        };
    let status = if is_switch {
        StatusCode::SWITCHING_PROTOCOLS
    } else {
        answer.status
    };
    let mut metadata = Vec::with_capacity(2 + headers.len());
    metadata.push(Entry::new(HTTP_STATUS, status.as_str()));
    if form == BodyForm::Framed {
        metadata.push(Entry::new(TRAILERS, TRUE));
    }
    metadata.extend(headers.iter().map(|(name, value)| Entry::header(name, value)));
    Ok(encode_response(b"", &metadata)?)
}

/// Whether a handler inside of a stock connector wrote this answer and left the head to the library. Profiles
/// and metrics of its management service do so. No answer of an origin comes like this.
fn is_from_inside(answer: &response::Parts, asked: Asked) -> bool {
    asked == Asked::Http && answer.status == StatusCode::OK && !answer.headers.contains_key(RESPONSE_HEADERS)
}

/// Takes what the library says about the body; it knows nothing else.
fn from_inside(answer: &response::Parts) -> Result<Bytes, AnswerError> {
    let mut metadata = vec![Entry::new(HTTP_STATUS, answer.status.as_str())];
    for (name, written) in [(CONTENT_TYPE, "Content-Type"), (CONTENT_LENGTH, "Content-Length")] {
        if let Some(value) = answer.headers.get(name) {
            metadata.push(Entry::header(written, value));
        }
    }
    Ok(encode_response(b"", &metadata)?)
}

/// Some services behind a connector switch without the proof, which only a visitor's key makes.
fn tells_of_websocket(name: &[u8], value: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"sec-websocket-accept")
        || (name.eq_ignore_ascii_case(b"upgrade") && value.eq_ignore_ascii_case(b"websocket"))
}

#[cfg(test)]
mod tests;
