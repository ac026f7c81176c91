//! What the origin is told about the visitor, and which of the visitor's own words about that count.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::HeaderMap;

use super::{Policy, RequestId, Visitor};

/// Longest request id taken over from a trusted proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Headers that only the edge, or a proxy it trusts, may set. All are dropped from the request as it came
/// and, where they apply, written anew.
pub(super) fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "x-real-ip"
            | "x-request-id"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "cf-connecting-ipv6"
            | "cf-pseudo-ipv4"
            | "cf-ipcountry"
            | "cf-ray"
            | "cf-visitor"
            | "cf-access-authenticated-user-email"
            | "cf-access-jwt-assertion"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("cf-warp-tag-")
        || name.starts_with("cf-cloudflared-")
}

/// What is known of the visitor after weighing what proxies said.
pub(super) struct Origination<'a> {
    visitor: &'a Visitor,
    policy: &'a Policy,
    /// The visitor's own headers, if its address is trusted.
    trusted: Option<&'a HeaderMap>,
    /// Earlier hops, nearest last.
    chain: String,
    /// The visitor itself.
    pub(super) client: IpAddr,
}

impl<'a> Origination<'a> {
    pub(super) fn weigh(visitor: &'a Visitor, policy: &'a Policy, headers: &'a HeaderMap) -> Self {
        let peer = visitor.address.to_canonical();
        let trusted = policy.trusts(peer).then_some(headers);
        let mut chain = String::new();
        let mut client = peer;
        if let Some(headers) = trusted {
            chain = joined(headers, "x-forwarded-for");
            // A proxy that keeps no chain may still say whom it serves. The chain goes first: a visitor
            // can send Cf-Connecting-IP through a proxy that does not know it.
            client = match chain.is_empty() {
                true => text(headers, "cf-connecting-ip")
                    .and_then(|ip| ip.parse().ok())
                    .unwrap_or(peer),
                false => client_of(&chain, peer, policy),
            };
        }
        Self {
            visitor,
            policy,
            trusted,
            chain,
            client,
        }
    }

    /// Calls `add` with every header to send; `host` is the authority as the visitor wrote it.
    pub(super) fn write(&self, id: RequestId, host: &str, mut add: impl FnMut(&str, &[u8])) {
        let peer = self.visitor.address.to_canonical();
        let scheme = self.visitor.scheme.as_str();
        let proto = self.said("x-forwarded-proto").unwrap_or(scheme);
        let asked_host = self.said("x-forwarded-host").unwrap_or(host);
        let mut line = String::with_capacity(128);
        if !self.chain.is_empty() {
            line.push_str(&self.chain);
            line.push_str(", ");
        }
        put(&mut line, format_args!("{peer}"));
        add("X-Forwarded-For", line.as_bytes());
        add("X-Forwarded-Proto", proto.as_bytes());
        add("X-Forwarded-Host", asked_host.as_bytes());

        line.clear();
        if let Some(headers) = self.trusted {
            line.push_str(&joined(headers, "forwarded"));
            if !line.is_empty() {
                line.push_str(", ");
            }
        }
        match peer {
            IpAddr::V4(v4) => put(&mut line, format_args!("for={v4};host=\"{host}\";proto={scheme}")),
            // RFC 7239 §6: an IPv6 address is bracketed and quoted.
            IpAddr::V6(v6) => put(
                &mut line,
                format_args!("for=\"[{v6}]\";host=\"{host}\";proto={scheme}"),
            ),
        }
        add("Forwarded", line.as_bytes());

        line.clear();
        match self.said("x-request-id").filter(|id| is_request_id(id)) {
            Some(given) => line.push_str(given),
            None => put(&mut line, format_args!("{id}")),
        }
        add("X-Request-Id", line.as_bytes());

        line.clear();
        put(&mut line, format_args!("{}", self.client));
        add("Cf-Connecting-IP", line.as_bytes());

        line.clear();
        put(&mut line, format_args!("{:016x}-", id.ray()));
        line.push_str(&self.policy.colo.to_ascii_uppercase());
        add("Cf-Ray", line.as_bytes());

        line.clear();
        let visible = if proto.eq_ignore_ascii_case("https") {
            "https"
        } else {
            "http"
        };
        put(&mut line, format_args!("{{\"scheme\":\"{visible}\"}}"));
        add("Cf-Visitor", line.as_bytes());
    }

    /// What a trusted proxy says in a header.
    fn said(&self, name: &str) -> Option<&'a str> {
        self.trusted.and_then(|headers| text(headers, name))
    }
}

/// The rightmost address of the chain that is not a trusted proxy's, or the leftmost if all are.
fn client_of(chain: &str, peer: IpAddr, policy: &Policy) -> IpAddr {
    let mut client = peer;
    for hop in chain.rsplit(',') {
        let Some(address) = hop_address(hop.trim()) else {
            break;
        };
        client = address;
        if !policy.trusts(address) {
            break;
        }
    }
    client
}

/// An address of X-Forwarded-For, some proxies add a port to it.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_matches(|c| c == '[' || c == ']');
    let parsed = bare.parse::<IpAddr>().ok();
    parsed
        .or_else(|| {
            hop.parse::<std::net::SocketAddr>()
                .ok()
                .map(|address| address.ip())
        })
        .map(|address| address.to_canonical())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
}

/// All lines of a list header as one; lines that are not text are left out.
fn joined(headers: &HeaderMap, name: &str) -> String {
    let lines: Vec<_> = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    lines.join(", ")
}

fn is_request_id(text: &str) -> bool {
    text.len() <= REQUEST_ID_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic())
}

fn put(line: &mut String, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("writing to a String does not fail");
}
