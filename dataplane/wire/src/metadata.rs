//! Keys of the metadata that travels in the head of a data stream.
//!
//! A head carries pairs of raw bytes. For HTTP exchanges the request has a method, a host and one
//! pair per header value; the response has a status and its headers. Translating them from and to
//! HTTP types is `adit-proto`'s work.
//!
//! Source: cloudflared `connection/quic_connection.go`, `proxy/proxy.go`.

/// Method of the request.
pub const HTTP_METHOD: &str = "HttpMethod";

/// Host of the request: chooses the ingress rule and is the Host header towards the origin.
pub const HTTP_HOST: &str = "HttpHost";

/// Status of the response, decimal.
pub const HTTP_STATUS: &str = "HttpStatus";

/// Comes before a header's name; one pair per value.
pub const HTTP_HEADER: &str = "HttpHeader:";

/// Name of a TCP flow, for logs.
pub const FLOW_ID: &str = "FlowID";

/// Trace context of a TCP flow.
pub const TRACE_ID: &str = "cf-trace-id";

/// Spans of a traced TCP flow, from the connector.
pub const TRACING_SPANS: &str = "Cf-Int-Cloudflared-Tracing";

/// Set to [`TRUE`] by a connector that has too many flows open to take this one.
pub const FLOW_CONNECT_RATE_LIMITED: &str = "FlowConnectRateLimited";

/// Set to [`TRUE`] between an edge and a connector of ours. In a request it says that the answer may be in
/// frames and end with trailers. In an answer it says that it is.
pub const TRAILERS: &str = "AditTrailers";

/// Names the protocol that a request for an upgrade asks for, between an edge and a connector of ours. A
/// stock connector knows no protocol but WebSocket.
pub const UPGRADE: &str = "AditUpgrade";

/// Said by a connector of ours beside an error: nothing of the request has reached an origin. Its value is
/// [`TRUE`] or [`ASKED`].
pub const UNREACHED: &str = "AditUnreached";

/// The value of [`UNREACHED`] where the visitor named the destination. It tells nothing of the connector's
/// origins.
pub const ASKED: &str = "asked";

/// The value of a flag that is set.
pub const TRUE: &str = "true";

/// A key that speaks of a header and has no or more than one colon, as the stock connector sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("metadata key is neither a header key nor clear of being one")]
pub struct MalformedHeaderKey;

/// The header's name in a metadata key; `Ok(None)` for a key that is not of a header.
///
/// A key that contains `HttpHeader` anywhere is taken for a header's, and must be exactly
/// `HttpHeader:<Name>` with one colon and a name.
///
/// # Errors
/// [`MalformedHeaderKey`]; the request then fails at the stock connector, and so it does at ours.
pub fn header_name(key: &[u8]) -> Result<Option<&[u8]>, MalformedHeaderKey> {
    let word = &HTTP_HEADER.as_bytes()[..HTTP_HEADER.len() - 1];
    match key.strip_prefix(HTTP_HEADER.as_bytes()) {
        Some(name) if !name.is_empty() && !name.contains(&b':') => Ok(Some(name)),
        Some(_) => Err(MalformedHeaderKey),
        None if key.windows(word.len()).any(|part| part == word) => Err(MalformedHeaderKey),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_keys_are_told_from_others_and_from_broken_ones() {
        assert_eq!(header_name(b"HttpHeader:X-Test"), Ok(Some(&b"X-Test"[..])));
        for other in [&b"HttpMethod"[..], b"HttpHost", b"", b"FlowID", b"a:b"] {
            assert_eq!(header_name(other), Ok(None));
        }
        for broken in [
            &b"HttpHeader"[..],
            b"HttpHeader:",
            b"HttpHeader:a:b",
            b"XHttpHeader:a",
        ] {
            assert_eq!(header_name(broken), Err(MalformedHeaderKey));
        }
    }
}
