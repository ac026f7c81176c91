//! What tunnels over HTTP/2 say in headers: the kind of a request, and an origin's answer.
//!
//! The edge is the HTTP/2 client on a connection that the connector has dialled. The headers of an origin do
//! not travel as headers of the answer, where the HTTP/2 library would change them. They travel all in one
//! header:
//! ```text
//! cf-cloudflared-response-headers: <name>:<value>;<name>:<value>;…   each in base64 without padding
//! cf-cloudflared-response-meta:    {"src":"origin"} | {"src":"cloudflared"}
//! ```
//! Source: docs/protocol/transport-http2.md §2 to §4; cloudflared `connection/http2.go`,
//! `connection/header.go`.

mod headers;

pub use headers::{Headers, HeadersError, encode_headers};

use serde::Deserialize;

use crate::metadata::{ASKED, TRUE};

/// Name in the certificate that a connector insists on when it dials for HTTP/2.
pub const SERVER_NAME: &str = "h2.cftunnel.com";

/// Set to [`TRUE`](crate::metadata::TRUE) by an edge of ours in the requests that are its own, such as the
/// control stream's. A connector may then say what only such an edge understands.
pub const EDGE_OF_OURS: &str = "adit-edge";

/// Set to [`TRUE`](crate::metadata::TRUE) in the answer to the request of the control stream: the connector
/// is ours, and carries what stock ones do not. Only an edge that has said [`EDGE_OF_OURS`] is told.
pub const CONNECTOR_OF_OURS: &str = "adit-connector";

/// Names the protocol of an upgrade that is no WebSocket, in a request of that kind to a connector of ours.
/// No edge passes a header of this family that a visitor has written.
pub const UPGRADE_PROTOCOL: &str = "cf-cloudflared-adit-upgrade";

/// Length of the body that comes before that protocol, beside [`UPGRADE_PROTOCOL`]. HTTP/2 would end the
/// request after a `content-length`.
pub const UPGRADE_BODY_LENGTH: &str = "cf-cloudflared-adit-upgrade-body";

/// Set to [`TRUE`](crate::metadata::TRUE) in a request to a connector of ours: the edge takes interim
/// answers. No edge passes a header of this family that a visitor has written.
pub const INTERIM: &str = "cf-cloudflared-adit-interim";

/// Says what kind a request is; one of [`CONTROL_STREAM`], [`UPDATE_CONFIGURATION`] and [`WEBSOCKET`].
pub const UPGRADE: &str = "cf-cloudflared-proxy-connection-upgrade";

/// Kind of the request that carries the control stream.
pub const CONTROL_STREAM: &str = "control-stream";

/// Kind of the request that brings a configuration.
pub const UPDATE_CONFIGURATION: &str = "update-configuration";

/// Kind of the request of a WebSocket.
pub const WEBSOCKET: &str = "websocket";

/// A request that has this header, with any value but an empty one, is a TCP flow to its authority.
pub const PROXY_SRC: &str = "cf-cloudflared-proxy-src";

/// Trace context of a request.
pub const TRACE_ID: &str = "cf-trace-id";

/// Holds the origin's headers, see [`Headers`].
pub const RESPONSE_HEADERS: &str = "cf-cloudflared-response-headers";

/// Says whose answer it is, see [`ResponseMeta`].
pub const RESPONSE_META: &str = "cf-cloudflared-response-meta";

/// Whose answer a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseMeta {
    /// The origin's, or an ingress rule's.
    Origin,
    /// The connector's own: it has none of an origin.
    Connector {
        /// It has too many TCP flows open to take this one.
        is_rate_limited: bool,
    },
    /// The connector's own: nothing of the request has reached an origin. Only between peers of ours.
    Unreached {
        /// The visitor named the destination.
        is_asked: bool,
    },
}

impl ResponseMeta {
    /// The value of the header [`RESPONSE_META`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Origin => r#"{"src":"origin"}"#,
            Self::Connector {
                is_rate_limited: false,
            } => r#"{"src":"cloudflared"}"#,
            Self::Connector {
                is_rate_limited: true,
            } => r#"{"src":"cloudflared","flow_rate_limited":true}"#,
            Self::Unreached { is_asked: false } => r#"{"src":"cloudflared","adit_unreached":"true"}"#,
            Self::Unreached { is_asked: true } => r#"{"src":"cloudflared","adit_unreached":"asked"}"#,
        }
    }

    /// Reads a header's value; `None` if it says nothing known.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value == Self::Origin.as_str().as_bytes() {
            return Some(Self::Origin);
        }
        let written: WrittenMeta<'_> = serde_json::from_slice(value).ok()?;
        match written.src {
            "origin" => Some(Self::Origin),
            "cloudflared" => Some(match written.adit_unreached {
                Some(TRUE) => Self::Unreached { is_asked: false },
                Some(ASKED) => Self::Unreached { is_asked: true },
                Some(_) | None => Self::Connector {
                    is_rate_limited: written.flow_rate_limited,
                },
            }),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct WrittenMeta<'a> {
    src: &'a str,
    #[serde(default)]
    flow_rate_limited: bool,
    #[serde(default)]
    adit_unreached: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_answer_it_is_survives_a_round_trip() {
        for meta in [
            ResponseMeta::Origin,
            ResponseMeta::Connector {
                is_rate_limited: false,
            },
            ResponseMeta::Connector {
                is_rate_limited: true,
            },
            ResponseMeta::Unreached { is_asked: false },
            ResponseMeta::Unreached { is_asked: true },
        ] {
            assert_eq!(ResponseMeta::parse(meta.as_str().as_bytes()), Some(meta));
        }
        let spaced = br#" { "more": 1, "src" : "origin" } "#;
        assert_eq!(ResponseMeta::parse(spaced), Some(ResponseMeta::Origin));
    }

    #[test]
    fn what_says_nothing_known_is_nobodys() {
        for bad in [
            &b""[..],
            b"null",
            b"{}",
            b"[]",
            br#"{"src":"elsewhere"}"#,
            br#"{"src":7}"#,
            b"\xff",
            &[b'['; 10_000],
        ] {
            assert_eq!(ResponseMeta::parse(bad), None);
        }
    }
}
