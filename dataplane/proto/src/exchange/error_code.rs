//! The one table of everything that can go wrong with an exchange: stable code, status, fault, text.
//!
//! The same code appears on the error page, in the access log, in metrics and in `docs/errors.md`.
//! Codes are never renamed: alerts and support tickets depend on them.
//!
//! Does not: decide about retries (see [`super::retry`]) or render pages (the edge does).

use http::{HeaderName, StatusCode};

/// By which a connector of ours tells the code of an answer of its own.
pub const HEADER: HeaderName = HeaderName::from_static("adit-error");

/// Whose fault a failure is, as logs and metrics report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The visitor sent something wrong or went away.
    Public,
    /// The tunnel, its connections or the absence of them.
    Tunnel,
    /// The service behind the connector.
    Origin,
    /// This edge.
    Us,
}

impl Side {
    /// The word used in logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Tunnel => "tunnel",
            Self::Origin => "origin",
            Self::Us => "us",
        }
    }
}

/// Why an exchange did not end with the origin's own complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ErrorCode {
    /// The request cannot be understood or contradicts itself.
    BadRequest,
    /// The request names no host.
    HostMissing,
    /// The request head is above the limit of bytes or of headers.
    HeadTooLarge,
    /// The request head did not come to its end in time.
    HeadTooSlow,
    /// CONNECT or another use of HTTP that an edge does not carry.
    Unsupported,
    /// The visitor sends its body below the minimum rate.
    BodyTooSlow,
    /// No tunnel serves this hostname.
    HostnameUnknown,
    /// Control routes this hostname in a way that this edge is too old for.
    NeedsNewerEdge,
    /// The tunnel has no live connection to any edge that this one can reach.
    TunnelNoConnection,
    /// No connection of the tunnel carries trailers, which the request needs.
    TrailersNotCarried,
    /// Every connection of the tunnel is at its limit of exchanges.
    TunnelSaturated,
    /// The connection to the connector was lost before the answer began.
    TunnelLost,
    /// The connector could not reach the origin, or the origin hung up without an answer.
    OriginUnreachable,
    /// The origin answered with something that is not a valid HTTP response.
    OriginBadResponse,
    /// The origin's answer has more headers, or longer ones, than a tunnel carries.
    OriginHeadTooLarge,
    /// The origin is at the limit that its connector keeps.
    OriginBusy,
    /// The origin sent no response head in time.
    OriginTimeout,
    /// The answer broke off after it had begun.
    ResponseAborted,
    /// The visitor went away before the answer was complete.
    VisitorGone,
    /// The visitor took nothing of the answer for too long.
    VisitorStalled,
    /// The connector or its origin took nothing of the request body for too long.
    UploadStalled,
    /// A request for a connector's management service has no token that opens it.
    ManagementToken,
    /// The connector whose management service is asked for is not connected here.
    ManagementUnreachable,
    /// The visitor's address holds its share of the edge.
    VisitorShare,
    /// The tunnel holds its share of the edge.
    TunnelShare,
    /// The edge is at its memory budget and sheds work.
    Overloaded,
    /// A defect in the edge.
    Internal,
}

/// One line of the table.
struct Row {
    code: ErrorCode,
    slug: &'static str,
    status: StatusCode,
    side: Side,
    title: &'static str,
    text: &'static str,
}

const fn row(
    code: ErrorCode,
    slug: &'static str,
    status: StatusCode,
    side: Side,
    title: &'static str,
    text: &'static str,
) -> Row {
    Row {
        code,
        slug,
        status,
        side,
        title,
        text,
    }
}

/// In the order of the enum, which [`ErrorCode::index`] relies on and the tests check.
const TABLE: [Row; ErrorCode::COUNT] = [
    row(
        ErrorCode::BadRequest,
        "bad-request",
        StatusCode::BAD_REQUEST,
        Side::Public,
        "Bad request",
        "The request could not be understood.",
    ),
    row(
        ErrorCode::HostMissing,
        "host-missing",
        StatusCode::BAD_REQUEST,
        Side::Public,
        "No host in the request",
        "The request does not say which host it is for.",
    ),
    row(
        ErrorCode::HeadTooLarge,
        "head-too-large",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Side::Public,
        "Request head too large",
        "The request has too many headers, or they are too long.",
    ),
    row(
        ErrorCode::HeadTooSlow,
        "head-too-slow",
        StatusCode::REQUEST_TIMEOUT,
        Side::Public,
        "Request too slow",
        "The request did not arrive in time.",
    ),
    row(
        ErrorCode::Unsupported,
        "unsupported",
        StatusCode::NOT_IMPLEMENTED,
        Side::Public,
        "Not supported",
        "This edge does not carry requests of this kind.",
    ),
    row(
        ErrorCode::BodyTooSlow,
        "body-too-slow",
        StatusCode::REQUEST_TIMEOUT,
        Side::Public,
        "Request body too slow",
        "The request body arrived too slowly.",
    ),
    row(
        ErrorCode::HostnameUnknown,
        "hostname-unknown",
        StatusCode::NOT_FOUND,
        Side::Public,
        "Unknown hostname",
        "No tunnel serves this hostname here.",
    ),
    row(
        ErrorCode::NeedsNewerEdge,
        "needs-newer-edge",
        StatusCode::SERVICE_UNAVAILABLE,
        Side::Us,
        "Not served here yet",
        "This edge is too old to serve this hostname.",
    ),
    row(
        ErrorCode::TunnelNoConnection,
        "tunnel-no-connection",
        StatusCode::SERVICE_UNAVAILABLE,
        Side::Tunnel,
        "Tunnel not connected",
        "The tunnel for this hostname has no connection. Its connector may be stopped or cut off.",
    ),
    row(
        ErrorCode::TrailersNotCarried,
        "trailers-not-carried",
        StatusCode::NOT_IMPLEMENTED,
        Side::Tunnel,
        "No way for gRPC",
        "This tunnel is connected in a way that carries no trailers, without which gRPC does not work.",
    ),
    row(
        ErrorCode::TunnelSaturated,
        "tunnel-saturated",
        StatusCode::SERVICE_UNAVAILABLE,
        Side::Tunnel,
        "Tunnel saturated",
        "Every connection of this tunnel is busy. Please try again shortly.",
    ),
    row(
        ErrorCode::TunnelLost,
        "tunnel-lost",
        StatusCode::BAD_GATEWAY,
        Side::Tunnel,
        "Tunnel connection lost",
        "The connection to the connector was lost before it answered.",
    ),
    row(
        ErrorCode::OriginUnreachable,
        "origin-unreachable",
        StatusCode::BAD_GATEWAY,
        Side::Origin,
        "Origin unreachable",
        "The connector could not get an answer from the service behind it.",
    ),
    row(
        ErrorCode::OriginBadResponse,
        "origin-bad-response",
        StatusCode::BAD_GATEWAY,
        Side::Origin,
        "Invalid answer from the origin",
        "The service behind the tunnel sent an answer that is not valid HTTP.",
    ),
    row(
        ErrorCode::OriginHeadTooLarge,
        "origin-head-too-large",
        StatusCode::BAD_GATEWAY,
        Side::Origin,
        "Too many headers from the origin",
        "The answer of the service behind the tunnel has too many headers, or they are too long.",
    ),
    row(
        ErrorCode::OriginBusy,
        "origin-busy",
        StatusCode::SERVICE_UNAVAILABLE,
        Side::Origin,
        "Origin busy",
        "The service behind the tunnel is at its limit. Please try again shortly.",
    ),
    row(
        ErrorCode::OriginTimeout,
        "origin-timeout",
        StatusCode::GATEWAY_TIMEOUT,
        Side::Origin,
        "Origin silent",
        "The service behind the tunnel did not answer in time.",
    ),
    row(
        ErrorCode::ResponseAborted,
        "response-aborted",
        StatusCode::BAD_GATEWAY,
        Side::Origin,
        "Answer broken off",
        "The answer broke off before it was complete.",
    ),
    row(
        ErrorCode::VisitorGone,
        "visitor-gone",
        CLIENT_CLOSED_REQUEST,
        Side::Public,
        "Visitor gone",
        "The visitor closed the connection before the answer was complete.",
    ),
    row(
        ErrorCode::VisitorStalled,
        "visitor-stalled",
        CLIENT_CLOSED_REQUEST,
        Side::Public,
        "Visitor stalled",
        "The visitor took nothing of the answer for too long.",
    ),
    row(
        ErrorCode::UploadStalled,
        "upload-stalled",
        StatusCode::GATEWAY_TIMEOUT,
        Side::Origin,
        "Request body not taken",
        "The service behind the tunnel took nothing of the request body for too long.",
    ),
    row(
        ErrorCode::ManagementToken,
        "management-token",
        StatusCode::UNAUTHORIZED,
        Side::Public,
        "No access",
        "The access token is missing, not valid here, or expired.",
    ),
    row(
        ErrorCode::ManagementUnreachable,
        "management-unreachable",
        NO_CONNECTOR,
        Side::Tunnel,
        "Connector not connected",
        "The connector asked for is not connected to this edge.",
    ),
    row(
        ErrorCode::VisitorShare,
        "visitor-share",
        StatusCode::TOO_MANY_REQUESTS,
        Side::Public,
        "Too many requests at once",
        "Too many requests of this address are under way. Please try again shortly.",
    ),
    row(
        ErrorCode::TunnelShare,
        "tunnel-share",
        StatusCode::SERVICE_UNAVAILABLE,
        Side::Tunnel,
        "Tunnel busy",
        "Too many requests for this tunnel are under way. Please try again shortly.",
    ),
    row(
        ErrorCode::Overloaded,
        "overloaded",
        StatusCode::SERVICE_UNAVAILABLE,
        Side::Us,
        "Edge overloaded",
        "This edge is at its limit. Please try again shortly.",
    ),
    row(
        ErrorCode::Internal,
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        Side::Us,
        "Internal error",
        "Something went wrong in this edge.",
    ),
];

/// 530, by which cloudflared's `tail` knows that there is no connector.
const NO_CONNECTOR: StatusCode = match StatusCode::from_u16(530) {
    Ok(status) => status,
    Err(_) => StatusCode::SERVICE_UNAVAILABLE,
};

/// 499, the customary log-only status for a visitor that left; never sent.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

impl ErrorCode {
    /// Number of codes: the size of arrays indexed by [`Self::index`].
    pub const COUNT: usize = 27;

    /// Every code in table order.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.code)
    }

    /// 0-based position in the table, for counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The stable code, as shown to visitors and used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        TABLE[self as usize].slug
    }

    /// What is written on the page for the visitor. Whoever broke off may still read: half a request is no
    /// good one.
    #[must_use]
    pub const fn on_page(self) -> Self {
        if matches!(self, Self::VisitorGone) {
            Self::BadRequest
        } else {
            self
        }
    }

    /// Status the visitor gets, if anything can still be sent.
    pub const fn status(self) -> StatusCode {
        TABLE[self as usize].status
    }

    /// Whose fault it is.
    pub const fn side(self) -> Side {
        TABLE[self as usize].side
    }

    /// Heading of the error page.
    pub const fn title(self) -> &'static str {
        TABLE[self as usize].title
    }

    /// One sentence for the visitor; never an internal message.
    pub const fn text(self) -> &'static str {
        TABLE[self as usize].text
    }

    /// The code that an answer gives for itself, if a connector of ours may have made it. Such connectors
    /// remove the code from answers of origins.
    pub fn told(status: StatusCode, said: &[u8]) -> Option<Self> {
        let own = [
            Self::OriginBusy,
            Self::OriginBadResponse,
            Self::OriginHeadTooLarge,
        ];
        own.into_iter()
            .find(|code| code.status() == status && code.as_str().as_bytes() == said)
    }

    /// Whether the same request may succeed if it is sent again soon, as `Retry-After` tells.
    pub const fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::TunnelNoConnection
                | Self::TunnelSaturated
                | Self::OriginBusy
                | Self::VisitorShare
                | Self::TunnelShare
                | Self::Overloaded
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn table_is_in_the_order_of_the_enum() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.code.index(), index, "{}", row.slug);
        }
    }

    #[test]
    fn codes_are_unique_slugs() {
        let slugs: BTreeSet<_> = ErrorCode::all().map(ErrorCode::as_str).collect();
        assert_eq!(slugs.len(), ErrorCode::COUNT);
        for slug in slugs {
            assert!(
                slug.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{slug}"
            );
        }
    }

    #[test]
    fn statuses_say_what_operators_expect() {
        let cases = [
            (ErrorCode::OriginUnreachable, 502),
            (ErrorCode::OriginTimeout, 504),
            (ErrorCode::TunnelNoConnection, 503),
            (ErrorCode::HostnameUnknown, 404),
            (ErrorCode::NeedsNewerEdge, 503),
            (ErrorCode::Overloaded, 503),
            (ErrorCode::VisitorShare, 429),
            (ErrorCode::TunnelShare, 503),
            (ErrorCode::HeadTooLarge, 431),
            (ErrorCode::VisitorGone, 499),
        ];
        for (code, status) in cases {
            assert_eq!(code.status().as_u16(), status, "{}", code.as_str());
        }
    }

    #[test]
    fn the_documentation_says_the_same() {
        let documented = include_str!("../../../../docs/errors.md");
        for code in ErrorCode::all() {
            let (slug, status, side) = (code.as_str(), code.status().as_u16(), code.side().as_str());
            let row = format!("| `{slug}` | {status} | {side} | {} |", code.text());
            assert!(documented.contains(&row), "{row}");
        }
    }
}
