//! The edge's side of an exchange: a visitor's request head becomes the head of a data stream, a
//! [`ConnectResponse`](adit_wire::connect::ConnectResponse) becomes a response head.
//!
//! ```text
//! authority()      which host is asked for            ─► route, choose (not here)
//! tunnel_request() what the connector is sent         ─► one data stream
//! public_response() what the visitor is answered      ◄─ first bytes of that stream
//! http2_request(), http2_response()  the same heads for a connector reached over HTTP/2
//! ```
//! Rules: connection headers of either side stay on their side (RFC 9110 §7.6.1). What a visitor says
//! about itself (X-Forwarded-For, Forwarded, Cf-Connecting-IP, …) counts only from trusted proxies.
//! Values are bytes, not text. Source: docs/protocol/data-streams.md §2 and §3.
//!
//! Does not: read bodies, choose connections, render error pages.

mod forwarded;
mod http2;
mod order;
mod request;
pub(crate) mod response;
pub(crate) mod trailers;

use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, Method, Uri, Version};

pub use crate::cidr::{Cidr, CidrError};
pub use http2::{
    Asked, BodyForm, Http2Request, Http2RequestError, Http2Response, http2_failure, http2_interim,
    http2_request, http2_response,
};
pub use order::{Carries, HeadReader, Order};
pub use request::{Authority, TunnelRequest, UPGRADE_BODY_BYTES_MAX, Upgrade, authority, tunnel_request};
pub use response::{PublicResponse, ResponseBody, ResponseError, public_response};
pub use trailers::{Trailers, is_grpc, is_trailers_only};

/// Names one exchange in logs, on error pages and towards the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u128);

impl RequestId {
    /// Its 32 hexadecimal digits.
    pub fn hex(self) -> [u8; 32] {
        let mut digits = [0; 32];
        for (place, byte) in digits.as_chunks_mut().0.iter_mut().zip(self.0.to_be_bytes()) {
            *place = [byte >> 4, byte & 0xf].map(|digit| match digit {
                0..=9 => b'0' + digit,
                _ => b'a' + digit - 10,
            });
        }
        digits
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

/// How a visitor reached the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What the edge knows of the peer of a public connection.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// Source address of the connection; perhaps a proxy's.
    pub address: IpAddr,
    /// How it connected.
    pub scheme: Scheme,
}

/// What this edge adds to requests and whom it believes.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Proxies whose word about the visitor is taken.
    pub trusted_proxies: Vec<Cidr>,
    /// The site, for `Cf-Ray`.
    pub colo: String,
}

impl Policy {
    /// Whether `address` is a proxy's whose word is taken.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|cidr| cidr.contains(address))
    }
}

/// How long a request body is, as its framing says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    Empty,
    /// Announced.
    Known(u64),
    /// Until it ends.
    Unknown,
}

/// A visitor's request head.
#[derive(Clone, Copy, Debug)]
pub struct PublicRequest<'a> {
    /// The method; CONNECT for a WebSocket over HTTP/2.
    pub method: &'a Method,
    /// The target: origin form over HTTP/1, with authority over HTTP/2.
    pub uri: &'a Uri,
    /// The protocol version.
    pub version: Version,
    /// The headers as they came.
    pub headers: &'a HeaderMap,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub protocol: Option<&'a str>,
    /// What follows.
    pub body: BodyLength,
}

#[cfg(test)]
mod tests;
