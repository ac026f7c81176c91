//! Requests of an edge that come over HTTP/2, and the heads of their answers.
//!
//! ```text
//! request head ── Kind::of ──► what it is for
//!                   └─ RequestHead::from_http2 ──► as from the head of a data stream
//! origin's status and headers ── response ──► head of the answer: the headers travel inside of one
//! ```
//! HTTP/2 has its own say about some headers, so an origin's travel where it does not look (see
//! [`adit_wire::http2`]). Only a length travels outside as well.
//!
//! Source: docs/protocol/transport-http2.md §2; cloudflared `connection/http2.go`, `connection/header.go`.

use adit_wire::connect::HEAD_BYTES_MAX;
use adit_wire::http2::{
    CONTROL_STREAM, PROXY_SRC, RESPONSE_HEADERS, RESPONSE_META, ResponseMeta, UPDATE_CONFIGURATION,
    WEBSOCKET, encode_headers,
};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode};

use super::{ADDED_HEADERS, DROPPED, KEEP_ALIVE, PROXY_CONNECTION, RequestError, RequestHead};
use crate::exchange::edge::response::is_internal;
use crate::exchange::edge::trailers::lists_trailers;
use crate::exchange::reach::Reach;

/// Says what kind a request is.
const KIND: HeaderName = HeaderName::from_static(adit_wire::http2::UPGRADE);

/// What an edge of ours says of an upgrade that is no WebSocket.
const PROTOCOL: HeaderName = HeaderName::from_static(adit_wire::http2::UPGRADE_PROTOCOL);
const BODY_LENGTH: HeaderName = HeaderName::from_static(adit_wire::http2::UPGRADE_BODY_LENGTH);

/// Whether an edge of ours takes interim answers.
const INTERIM: HeaderName = HeaderName::from_static(adit_wire::http2::INTERIM);

/// What an edge wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A configuration is in the body.
    Configuration,
    /// The origin shall upgrade.
    WebSocket,
    /// A flow to the authority.
    Flow,
    /// The connector registers on it.
    ControlStream,
    /// Anything else.
    Http,
}

impl Kind {
    /// The first one that fits.
    pub fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(KIND).map(HeaderValue::as_bytes);
        let is = |name: &str| kind == Some(name.as_bytes());
        let is_flow = || headers.get(PROXY_SRC).is_some_and(|source| !source.is_empty());
        match kind {
            _ if is(UPDATE_CONFIGURATION) => Self::Configuration,
            _ if is(WEBSOCKET) => Self::WebSocket,
            _ if is_flow() => Self::Flow,
            _ if is(CONTROL_STREAM) => Self::ControlStream,
            Some(_) | None => Self::Http,
        }
    }
}

impl RequestHead {
    /// Understands the head of a request over HTTP/2; `has_body` says whether more follows it. An edge of
    /// ours may ask for an upgrade to any protocol.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn from_http2(parts: Parts, has_body: bool, is_edge_ours: bool) -> Result<Self, RequestError> {
        if parts.method == Method::CONNECT {
            return Err(RequestError::Flow);
        }
        let mut head = Self {
            method: parts.method,
            host: parts.uri.authority().map_or_else(Bytes::new, |authority| {
                Bytes::copy_from_slice(authority.as_str().as_bytes())
            }),
            target: parts
                .uri
                .into_parts()
                .path_and_query
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
            headers: HeaderMap::with_capacity(parts.headers.len() + ADDED_HEADERS),
            is_upgrade: Kind::of(&parts.headers) == Kind::WebSocket,
            protocol: None,
            is_chunked: false,
            length: None,
            takes_trailers: false,
            takes_interim: false,
        };
        if head.host.is_empty()
            && let Some(host) = parts.headers.get(HOST)
        {
            head.host = text(host)?;
        }
        let is_marked = head.is_upgrade && is_edge_ours;
        for (name, value) in &parts.headers {
            match *name {
                _ if is_marked && *name == PROTOCOL => head.protocol = Some(Box::new(value.clone())),
                _ if is_marked && *name == BODY_LENGTH => head.add_length(value)?,
                _ if is_edge_ours && *name == INTERIM => head.takes_interim = true,
                CONTENT_LENGTH => head.add_length(value)?,
                // RFC 9113 §8.2.2: there is none.
                TRANSFER_ENCODING => {}
                TE => head.takes_trailers |= lists_trailers(value.as_bytes()),
                COOKIE => head.add_cookie(value),
                _ if DROPPED.contains(name) => {}
                _ => {
                    head.headers.append(name, value.clone());
                }
            }
        }
        head.is_chunked = has_body && head.length.is_none();
        Ok(head)
    }

    /// RFC 9113 §8.2.3: what HTTP/2 has split is one line in HTTP/1.
    fn add_cookie(&mut self, value: &HeaderValue) {
        let Some(earlier) = self.headers.get_mut(COOKIE) else {
            self.headers.insert(COOKIE, value.clone());
            return;
        };
        let mut line = BytesMut::with_capacity(earlier.len() + 2 + value.len());
        line.put_slice(earlier.as_bytes());
        line.put_slice(b"; ");
        line.put_slice(value.as_bytes());
        if let Ok(line) = HeaderValue::from_maybe_shared(line.freeze()) {
            *earlier = line;
        }
    }
}

/// A value that must be text.
fn text(value: &HeaderValue) -> Result<Bytes, RequestError> {
    let bytes = value.as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(Bytes::copy_from_slice(bytes)),
        Err(_) => Err(RequestError::Header {
            name: HOST.to_string(),
        }),
    }
}

/// Why an answer's head cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the response head has more than {HEAD_BYTES_MAX} bytes")]
pub struct ResponseTooLarge;

/// The head of an answer that came from an origin, or from an ingress rule.
///
/// A switch of protocols is a 200, and the bytes that follow it travel in the body. Headers that end at this
/// hop are removed. A switch keeps those that name the new protocol.
///
/// # Errors
/// [`ResponseTooLarge`] above what the head of a data stream may hold.
pub fn response(status: StatusCode, headers: &HeaderMap) -> Result<Response<()>, ResponseTooLarge> {
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    let kept = || headers.iter().filter(|(name, _)| is_kept(name, is_switch));
    if kept()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum::<usize>()
        > HEAD_BYTES_MAX
    {
        return Err(ResponseTooLarge);
    }
    let names: Vec<Vec<u8>> = kept().map(|(name, _)| title_case(name)).collect();
    let pairs = names.iter().map(Vec::as_slice);
    let value = encode_headers(pairs.zip(kept().map(|(_, value)| value.as_bytes())));
    let status = if is_switch { StatusCode::OK } else { status };
    let mut response = head(status, ResponseMeta::Origin);
    // Base64 and its separators are visible characters.
    let value = HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_| ResponseTooLarge)?;
    response.headers_mut().insert(RESPONSE_HEADERS, value);
    if let (Some(length), false) = (headers.get(CONTENT_LENGTH), is_switch) {
        response.headers_mut().insert(CONTENT_LENGTH, length.clone());
    }
    Ok(response)
}

/// The head that says a flow is connected.
pub fn flow_response() -> Response<()> {
    let mut response = head(StatusCode::OK, ResponseMeta::Origin);
    response
        .headers_mut()
        .insert(RESPONSE_HEADERS, HeaderValue::from_static(""));
    response
}

/// The whole answer to what no origin has answered. `reach` may only be told to edges of ours.
pub fn failure(reach: Reach) -> Response<()> {
    let meta = match reach {
        Reach::Unknown => ResponseMeta::Connector {
            is_rate_limited: false,
        },
        Reach::Nowhere => ResponseMeta::Unreached { is_asked: false },
        Reach::Asked => ResponseMeta::Unreached { is_asked: true },
    };
    head(StatusCode::BAD_GATEWAY, meta)
}

fn head(status: StatusCode, meta: ResponseMeta) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(RESPONSE_META, HeaderValue::from_static(meta.as_str()));
    response
}

/// Trailers travel as such, without what announces them.
fn is_kept(name: &HeaderName, is_switch: bool) -> bool {
    match *name {
        CONNECTION | UPGRADE => is_switch,
        TRANSFER_ENCODING | TRAILER => false,
        _ if *name == KEEP_ALIVE || *name == PROXY_CONNECTION => false,
        _ => !is_internal(name.as_str()),
    }
}

/// A name in the case that HTTP/1 visitors know from elsewhere.
fn title_case(name: &HeaderName) -> Vec<u8> {
    let mut is_first = true;
    let in_case = |byte: &u8| {
        let cased = if is_first {
            byte.to_ascii_uppercase()
        } else {
            *byte
        };
        is_first = *byte == b'-';
        cased
    };
    name.as_str().as_bytes().iter().map(in_case).collect()
}

#[cfg(test)]
mod tests;
