//! Turns a connector's first words into the response head a visitor gets.

use adit_wire::connect::{ConnectResponse, ConnectionType, Metadata};
use adit_wire::metadata::{HTTP_HEADER, HTTP_STATUS, TRAILERS, TRUE};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRAILER, UPGRADE};
use http::{Method, StatusCode, Version};

use crate::exchange::error_code::{self, ErrorCode};
use crate::exchange::hop_by_hop::HopByHop;
use crate::exchange::names::{self, KeyError};
use crate::exchange::reach::Reach;
use crate::exchange::switch::is_agreed;

/// A response head and what follows it.
#[derive(Clone, Debug)]
pub struct PublicResponse {
    /// The status for the visitor.
    pub status: StatusCode,
    /// The headers for the visitor.
    pub headers: HeaderMap,
    /// What follows.
    pub body: ResponseBody,
    /// Whether the body follows in frames (see [`framed_body`](crate::exchange::framed_body)), as the
    /// connector says. A connector is believed only if it was asked.
    pub is_framed: bool,
}

/// What follows a response head on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// Nothing: HEAD, 204, 304.
    Empty,
    /// Exactly so many bytes.
    Length(u64),
    /// Bytes until the stream is finished.
    UntilFinish,
    /// The exchange is a byte flow in both directions from here on.
    Upgraded,
}

/// The connector's words cannot be passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The connector says why there is no response.
    #[error("the connector reports: {}", String::from_utf8_lossy(.0))]
    Connector(Bytes, Reach),
    /// The connector keeps the origin from more requests; it has not seen this one.
    #[error("the connector reports that the origin is at its limit")]
    Busy,
    /// The connector cannot pass on what the origin has answered.
    #[error("the connector reports: {}", .0.as_str())]
    Unfit(ErrorCode),
    /// It is not an HTTP response.
    #[error("the response head is invalid: {0}")]
    Invalid(&'static str),
}

impl ResponseError {
    /// What the visitor is told.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Connector(..) => ErrorCode::OriginUnreachable,
            Self::Busy => ErrorCode::OriginBusy,
            Self::Unfit(code) => *code,
            Self::Invalid(_) => ErrorCode::OriginBadResponse,
        }
    }
}

/// Reads the head of a response to a request of `method` and `kind`, for a visitor who speaks `version`.
/// `protocol` is what an upgrade asks for, if it is no WebSocket.
///
/// # Errors
/// [`ResponseError`] when there is nothing to pass on.
pub fn public_response(
    response: ConnectResponse,
    method: &Method,
    kind: ConnectionType,
    protocol: Option<&HeaderValue>,
    version: Version,
) -> Result<PublicResponse, ResponseError> {
    if !response.error.is_empty() {
        let reach = Reach::reported(&response.error, &response.metadata);
        return Err(ResponseError::Connector(response.error, reach));
    }
    let Read {
        status,
        mut headers,
        is_framed,
        upgrade,
        ..
    } = read(&response.metadata)?;
    match own_code(status, &headers) {
        Some(ErrorCode::OriginBusy) => return Err(ResponseError::Busy),
        Some(code) => return Err(ResponseError::Unfit(code)),
        None => {}
    }
    let body = match status {
        StatusCode::SWITCHING_PROTOCOLS if kind == ConnectionType::WebSocket => {
            if !is_agreed(protocol, upgrade.as_ref().map(HeaderValue::as_bytes)) {
                return Err(ResponseError::Invalid(
                    "it switches to a protocol that nobody asked for",
                ));
            }
            return Ok(upgraded(headers, upgrade, version));
        }
        status if status.is_informational() => {
            return Err(ResponseError::Invalid("an informational status ends no request"));
        }
        StatusCode::NO_CONTENT => {
            // RFC 9110 §8.6: no Content-Length in a 204.
            headers.remove(CONTENT_LENGTH);
            ResponseBody::Empty
        }
        _ => {
            let length = content_length(&mut headers)?;
            match length {
                _ if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED => ResponseBody::Empty,
                Some(0) => ResponseBody::Empty,
                Some(length) => ResponseBody::Length(length),
                None => ResponseBody::UntilFinish,
            }
        }
    };
    Ok(PublicResponse {
        status,
        headers,
        body,
        is_framed,
    })
}

/// The code of an answer that is the connector's own.
fn own_code(status: StatusCode, headers: &HeaderMap) -> Option<ErrorCode> {
    if !status.is_server_error() {
        return None;
    }
    ErrorCode::told(status, headers.get(error_code::HEADER)?.as_bytes())
}

/// Names that start like this are for edge and connector. Those of an origin are not passed to visitors.
pub(crate) const INTERNAL: [&str; 3] = ["cf-int-", "cf-cloudflared-", "cf-proxy-"];

/// `name` is in lower case, as `http` keeps it.
pub(crate) fn is_internal(name: &str) -> bool {
    name.starts_with("cf-") && INTERNAL.iter().any(|prefix| name.starts_with(prefix))
}

/// What the metadata of a response say.
pub(crate) struct Read {
    status: StatusCode,
    headers: HeaderMap,
    is_framed: bool,
    /// The protocol that is switched to, if the head says one.
    upgrade: Option<HeaderValue>,
    /// `Connection` lists more than usual, which is rare.
    lists_more: bool,
}

impl Read {
    pub(crate) fn into_head(self) -> (StatusCode, HeaderMap) {
        (self.status, self.headers)
    }
}

/// Status and headers, without those of the origin's connection, in their order.
pub(crate) fn read(metadata: &Metadata) -> Result<Read, ResponseError> {
    let read = read_but(metadata, &HopByHop::default())?;
    if !read.lists_more {
        return Ok(read);
    }
    let lines = metadata.iter().filter(|(key, _)| is_connection(key));
    let listed = HopByHop::listed_in(lines.map(|(_, value)| value));
    read_but(metadata, &listed)
}

/// Status and headers but those that stay.
fn read_but(metadata: &Metadata, hop_by_hop: &HopByHop<'_>) -> Result<Read, ResponseError> {
    let (mut lists_more, mut is_framed) = (false, false);
    let (mut status, mut upgrade) = (None, None);
    let mut headers = HeaderMap::with_capacity(metadata.len());
    for (key, value) in metadata.iter() {
        if key == HTTP_STATUS.as_bytes() {
            let parsed = StatusCode::from_bytes(value);
            status = Some(parsed.map_err(|_| ResponseError::Invalid("the status is no number from 100"))?);
            continue;
        }
        let name = match names::header(key) {
            Ok(Some(name)) => name,
            // Other keys are meant for edges with features this one lacks.
            Ok(None) => {
                is_framed |= key == TRAILERS.as_bytes() && value == TRUE.as_bytes();
                continue;
            }
            Err(KeyError::Malformed) => return Err(ResponseError::Invalid("a header key is malformed")),
            Err(KeyError::Name(_)) => {
                return Err(ResponseError::Invalid(
                    "a header name holds a forbidden character",
                ));
            }
        };
        let value = HeaderValue::from_maybe_shared(metadata.share(value))
            .map_err(|_| ResponseError::Invalid("a header value holds a control character"))?;
        if name == CONNECTION {
            lists_more |= !HopByHop::listed_in(std::iter::once(value.as_bytes())).is_empty();
            continue;
        }
        if name == UPGRADE {
            upgrade = Some(value);
            continue;
        }
        let is_internal = is_internal(name.as_str());
        // Trailers pass if the body is in frames. Their announcement passes then, too. Connectors announce
        // frames before it.
        let stays =
            name != CONTENT_LENGTH && hop_by_hop.contains(name.as_str()) && !(is_framed && name == TRAILER);
        if !is_internal && !stays {
            headers
                .try_append(name, value)
                .map_err(|_| ResponseError::Invalid("there are too many headers"))?;
        }
    }
    let status = status.ok_or(ResponseError::Invalid("there is no status"))?;
    Ok(Read {
        status,
        headers,
        is_framed,
        upgrade,
        lists_more,
    })
}

fn is_connection(key: &[u8]) -> bool {
    const NAME: &[u8] = b"connection";
    key.len() == HTTP_HEADER.len() + NAME.len()
        && key
            .strip_prefix(HTTP_HEADER.as_bytes())
            .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
}

/// The announced length; several equal lines become one (RFC 9112 §6.3).
fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, ResponseError> {
    let mut length = None;
    let mut count = 0_usize;
    for value in headers.get_all(CONTENT_LENGTH) {
        count += 1;
        let digits = value.as_bytes();
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        let parsed = value
            .to_str()
            .ok()
            .filter(|_| is_number)
            .and_then(|text| text.parse::<u64>().ok());
        let parsed = parsed.ok_or(ResponseError::Invalid("Content-Length is not a number"))?;
        if length.replace(parsed).is_some_and(|before| before != parsed) {
            return Err(ResponseError::Invalid(
                "Content-Length is given twice, differently",
            ));
        }
    }
    if let (Some(length), 2..) = (length, count) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(length)
}

fn upgraded(mut headers: HeaderMap, protocol: Option<HeaderValue>, version: Version) -> PublicResponse {
    headers.remove(CONTENT_LENGTH);
    let status = if version == Version::HTTP_2 {
        // RFC 8441 §5: success is 200, and the key's proof has no meaning.
        headers.remove("sec-websocket-accept");
        StatusCode::OK
    } else {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let protocol = protocol.unwrap_or(HeaderValue::from_static("websocket"));
        headers.insert(UPGRADE, protocol);
        StatusCode::SWITCHING_PROTOCOLS
    };
    PublicResponse {
        status,
        headers,
        body: ResponseBody::Upgraded,
        is_framed: false,
    }
}
