//! Heads as the connector translates them: the edge's request for the origin, the origin's response back.
//!
//! ```text
//! ConnectRequest ── RequestHead::parse ──► method, host, path: choose the ingress rule
//!                      └─ into_origin ───► http::Request for hyper
//! http status and headers ── encode_response_head ──► bytes of the ConnectResponse
//! ```
//! Whether a request has a body is decided by its headers alone: Content-Length above zero, or
//! Transfer-Encoding that says `chunked`. What the edge sends after any other head is not forwarded.
//!
//! Does not: touch bodies, choose the rule, resolve or dial.
//!
//! Source: cloudflared `connection/quic_connection.go`, `proxy/proxy.go`.

use adit_wire::connect::{ConnectRequest, ConnectionType, Metadata};
use adit_wire::metadata::{self, HTTP_HEADER, HTTP_HOST, HTTP_METHOD, TRAILERS, TRUE};
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_VERSION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{InvalidUri, PathAndQuery};
use http::{Method, Request, Uri};

pub mod echo;
pub mod http2;
use super::names::{self, KeyError};
use crate::ingress::edits::Edits;

mod origin_head;
mod response;

pub use origin_head::{Framing, UnknownCoding, clean_origin_head};
pub use response::{ERROR_BYTES_MAX, encode_error, encode_framed_response_head, encode_response_head};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Room in the map for what the origin gets beside the visitor's headers.
const ADDED_HEADERS: usize = 4;

/// Not for the origin: they end at a hop, or are between edge and connector. `Expect` is one of them
/// because the body is on its way already and an interim response has no way back.
const DROPPED: [HeaderName; 9] = [
    HOST,
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    UPGRADE,
    EXPECT,
    HeaderName::from_static("cf-cloudflared-proxy-connection-upgrade"),
    HeaderName::from_static("cf-trace-id"),
];

/// How much of the stream after the head belongs to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// This many bytes, at least one.
    Length(u64),
    /// All until FIN.
    UntilEnd,
    /// All until FIN, to be collected before the origin is asked: it wants to know the length.
    Collected,
}

/// Why a request never reaches the origin.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A TCP flow, or a method that asks for one.
    #[error("flows are not supported yet by this build")]
    Flow,
    /// No token.
    #[error("method is not valid")]
    Method,
    /// Not usable as a request target.
    #[error("destination is not valid")]
    Destination(#[source] InvalidUri),
    /// A key that is and is not one of a header.
    #[error("header Key: {key} malformed")]
    HeaderKey {
        /// The key, lossily.
        key: String,
    },
    /// A name or value that HTTP does not allow.
    #[error("header {name} is not valid")]
    Header {
        /// The name, lossily.
        name: String,
    },
    /// No number, or several that differ.
    #[error("Error setting content-length: {value} is not a length")]
    ContentLength {
        /// What came.
        value: String,
    },
}

/// What a rule does to the head of a request.
#[derive(Debug, Clone, Copy)]
pub struct HeadRules<'a> {
    /// Replaces the Host header.
    pub host_header: Option<&'a HeaderValue>,
    /// See `OriginSettings::disable_chunked_encoding`.
    pub disable_chunked_encoding: bool,
    /// Whether the origin may speak HTTP/2, and so has a way to send trailers that is asked for by one word.
    pub may_speak_http2: bool,
    /// Added to every request.
    pub added: &'a [(HeaderName, HeaderValue)],
    /// What the rule changes otherwise.
    pub edits: Option<&'a Edits>,
}

/// The visitor's request as the edge handed it over.
#[derive(Debug)]
pub struct RequestHead {
    method: Method,
    /// UTF-8.
    host: Bytes,
    target: PathAndQuery,
    headers: HeaderMap,
    is_upgrade: bool,
    /// The protocol, if it is not WebSocket. Boxed, as it is rare.
    protocol: Option<Box<HeaderValue>>,
    is_chunked: bool,
    length: Option<u64>,
    takes_trailers: bool,
    takes_interim: bool,
}

impl RequestHead {
    /// Understands the head of a data stream.
    ///
    /// # Errors
    /// [`RequestError`]; its text goes to the edge.
    pub fn parse(request: &ConnectRequest) -> Result<Self, RequestError> {
        let is_upgrade = match request.kind {
            ConnectionType::Http => false,
            ConnectionType::WebSocket => true,
            ConnectionType::Tcp => return Err(RequestError::Flow),
        };
        let (authority, target) = split_destination(&request.dest);
        let mut head = Self {
            method: Method::GET,
            host: request.dest.slice_ref(authority),
            target: origin_form(&request.dest, target).map_err(RequestError::Destination)?,
            headers: HeaderMap::with_capacity(request.metadata.len() + ADDED_HEADERS),
            is_upgrade,
            protocol: None,
            is_chunked: false,
            length: None,
            takes_trailers: false,
            takes_interim: request.takes_interim,
        };
        for (key, value) in request.metadata.iter() {
            head.add(&request.metadata, key, value)?;
        }
        Ok(head)
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The host the visitor asked for; a port may follow.
    pub fn host(&self) -> &str {
        std::str::from_utf8(&self.host).unwrap_or_default()
    }

    /// Path and query as sent.
    pub fn target(&self) -> &str {
        self.target.as_str()
    }

    /// Whether the origin shall go on in another protocol than HTTP.
    pub fn is_upgrade(&self) -> bool {
        self.is_upgrade
    }

    /// Whether that protocol is WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.is_upgrade && self.protocol.is_none()
    }

    /// The protocol that the origin shall go on in, if it is no WebSocket.
    pub fn protocol(&self) -> Option<&HeaderValue> {
        self.protocol.as_deref()
    }

    /// Whether the visitor wants to know what comes after the body of the answer.
    pub fn takes_trailers(&self) -> bool {
        self.takes_trailers
    }

    /// Whether the edge says that it takes interim answers. Only one of ours is believed.
    pub fn takes_interim(&self) -> bool {
        self.takes_interim
    }

    /// A header of the visitor that the origin gets.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.get(name)
    }

    /// The body that follows the head under `rules`.
    pub fn body(&self, rules: &HeadRules<'_>) -> RequestBody {
        match (self.is_upgrade, self.is_chunked, self.length) {
            // Its length ends the body; what follows is the other protocol.
            (true, _, Some(length @ 1..)) if self.protocol.is_some() => RequestBody::Length(length),
            (true, _, _) | (false, false, None | Some(0)) => RequestBody::Empty,
            (false, true, Some(length @ 1..)) if rules.disable_chunked_encoding => {
                RequestBody::Length(length)
            }
            (false, true, _) if rules.disable_chunked_encoding => RequestBody::Collected,
            (false, true, _) => RequestBody::UntilEnd,
            (false, false, Some(length)) => RequestBody::Length(length),
        }
    }

    /// The head for the origin, in origin form, and the body to send after it. Whoever collects a body writes
    /// its length.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn into_origin(self, rules: &HeadRules<'_>) -> Result<(Request<()>, RequestBody), RequestError> {
        let body = self.body(rules);
        let visitor_host = HeaderValue::from_maybe_shared(self.host).map_err(|_| RequestError::Header {
            name: HOST.to_string(),
        })?;
        let (mut headers, mut target) = (self.headers, self.target);
        if let Some(edits) = rules.edits {
            target = edits.target(target).map_err(RequestError::Destination)?;
            edits.request(&mut headers);
        }
        if let Some(host) = rules.host_header {
            headers.insert(FORWARDED_HOST, visitor_host);
            headers.insert(HOST, host.clone());
        } else {
            headers.insert(HOST, visitor_host);
        }
        for (name, value) in rules.added {
            headers.insert(name, value.clone());
        }
        write_body_headers(&mut headers, &self.method, body);
        if self.takes_trailers && rules.may_speak_http2 {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(protocol) = self.protocol.filter(|_| self.is_upgrade) {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, *protocol);
        } else if self.is_upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        let mut request = Request::new(());
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        Ok((request, body))
    }

    fn add(&mut self, metadata: &Metadata, key: &[u8], value: &[u8]) -> Result<(), RequestError> {
        if key == HTTP_METHOD.as_bytes() {
            self.method = match Method::from_bytes(value) {
                Ok(Method::CONNECT) => return Err(RequestError::Flow),
                Ok(method) => method,
                Err(_) if value.is_empty() => Method::GET,
                Err(_) => return Err(RequestError::Method),
            };
            return Ok(());
        }
        if key == HTTP_HOST.as_bytes() {
            let not_text = |_| RequestError::Header {
                name: HOST.to_string(),
            };
            std::str::from_utf8(value).map_err(not_text)?;
            self.host = metadata.share(value);
            return Ok(());
        }
        let lossy = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let name = match names::header(key) {
            Ok(Some(name)) => name,
            Ok(None) => {
                self.takes_trailers |= key == TRAILERS.as_bytes() && value == TRUE.as_bytes();
                if key == metadata::UPGRADE.as_bytes() {
                    self.protocol = HeaderValue::from_bytes(value).ok().map(Box::new);
                }
                return Ok(());
            }
            Err(KeyError::Malformed) => return Err(RequestError::HeaderKey { key: lossy(key) }),
            Err(KeyError::Name(name)) => return Err(RequestError::Header { name: lossy(name) }),
        };
        let value = HeaderValue::from_maybe_shared(metadata.share(value)).map_err(|_| {
            let name = key.strip_prefix(HTTP_HEADER.as_bytes()).unwrap_or(key);
            RequestError::Header { name: lossy(name) }
        })?;
        match name {
            CONTENT_LENGTH => return self.add_length(&value),
            TRANSFER_ENCODING => self.is_chunked |= is_chunked(&value),
            _ if DROPPED.contains(&name) => {}
            _ => {
                self.headers.append(name, value);
            }
        }
        Ok(())
    }

    /// Several equal lengths are one.
    fn add_length(&mut self, value: &HeaderValue) -> Result<(), RequestError> {
        let refused = || RequestError::ContentLength {
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        let length = decimal(value.as_bytes()).ok_or_else(refused)?;
        match self.length.replace(length) {
            Some(earlier) if earlier != length => Err(refused()),
            Some(_) | None => Ok(()),
        }
    }
}

fn is_chunked(codings: &HeaderValue) -> bool {
    let mut codings = codings.as_bytes().split(|&byte| byte == b',');
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// Authority and target of a URL or of a bare path.
fn split_destination(dest: &[u8]) -> (&[u8], &[u8]) {
    let is_delimiter = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
    // A bare path may hold a URL in its query.
    let first = dest.iter().position(is_delimiter).unwrap_or(dest.len());
    let (scheme, rest) = dest.split_at(first);
    let (authority, target) = match (scheme, rest.strip_prefix(b"//")) {
        ([.., b':'], Some(rest)) => rest.split_at(rest.iter().position(is_delimiter).unwrap_or(rest.len())),
        _ => (&[][..], dest),
    };
    let fragment = target.iter().position(|&byte| byte == b'#');
    (
        authority,
        target.get(..fragment.unwrap_or(target.len())).unwrap_or_default(),
    )
}

/// A target of `dest` as a request line has it.
fn origin_form(dest: &Bytes, target: &[u8]) -> Result<PathAndQuery, InvalidUri> {
    if target.first() == Some(&b'/') || target == b"*" {
        return PathAndQuery::from_maybe_shared(dest.slice_ref(target));
    }
    PathAndQuery::from_maybe_shared(Bytes::from([b"/", target].concat()))
}

/// A number of digits only: a sign or a space in a length is an attempt at something else.
fn decimal(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_number
        .then(|| std::str::from_utf8(value).ok()?.parse().ok())
        .flatten()
}

fn write_body_headers(headers: &mut HeaderMap, method: &Method, body: RequestBody) {
    match body {
        RequestBody::Length(length) => {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        RequestBody::UntilEnd => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        RequestBody::Collected => {}
        // RFC 9110 §8.6: a length is expected where the method gives the body a meaning.
        RequestBody::Empty => {
            if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
                headers.insert(CONTENT_LENGTH, 0.into());
            }
        }
    }
}

#[cfg(test)]
mod tests;
