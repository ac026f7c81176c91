//! What the origin is told about the visitor, and which of the visitor's own words about that count.

use std::net::IpAddr;

use http::HeaderMap;

use super::{Policy, RequestId, Visitor};
use crate::exchange::look_alike;

/// Longest request id taken over from a trusted proxy.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Headers that tell of the visitor.
pub(super) const ORIGINATION_HEADERS: usize = 8;

/// Room for them, but for what proxies say and the host's name.
const TOLD_BYTES: usize = 256;

/// Names that start like this are between our edges and our connectors.
const OURS: &str = "adit-";

/// Headers that only the edge, or a proxy it trusts, may set. All are dropped from the request as it came
/// and, where they apply, written anew. So are those that an origin may take for them.
pub(super) fn is_reserved(name: &str) -> bool {
    // Two letters tell most names apart, without a look at each byte.
    let may_be = matches!(
        name.as_bytes(),
        [b'x', ..] | [b'c', b'f', ..] | [b'f', b'o', ..] | [b't', b'r', ..] | [b'a', b'd', ..]
    );
    if !may_be {
        return false;
    }
    let name = look_alike::folded(name);
    let name = name.as_ref();
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
        || name.starts_with(OURS)
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

    /// Writes the headers to send; `host` is the authority as the visitor wrote it.
    pub(super) fn tell(&self, id: RequestId, host: &'a str) -> Told<'a> {
        let peer = self.visitor.address.to_canonical();
        let scheme = self.visitor.scheme.as_str();
        let proto = self.said("x-forwarded-proto").unwrap_or(scheme);
        let mut text = Vec::with_capacity(TOLD_BYTES + self.chain.len() + host.len());
        if !self.chain.is_empty() {
            put(&mut text, &[&self.chain, ", "]);
        }
        let start = text.len();
        put_address(&mut text, peer);
        let address = start..text.len();
        let forwarded_for = text.len();

        if let Some(headers) = self.trusted {
            let earlier = joined(headers, "forwarded");
            if !earlier.is_empty() {
                put(&mut text, &[&earlier, ", "]);
            }
        }
        // RFC 7239 §6: an IPv6 address is bracketed and quoted.
        let (before, after) = match peer {
            IpAddr::V4(_) => ("for=", ";host=\""),
            IpAddr::V6(_) => ("for=\"[", "]\";host=\""),
        };
        put(&mut text, &[before]);
        text.extend_from_within(address.clone());
        put(&mut text, &[after, host, "\";proto=", scheme]);
        let forwarded = text.len();

        let hex = id.hex();
        match self.said("x-request-id").filter(|id| is_request_id(id)) {
            Some(given) => put(&mut text, &[given]),
            None => text.extend_from_slice(&hex),
        }
        let request_id = text.len();

        if self.client == peer {
            text.extend_from_within(address);
        } else {
            put_address(&mut text, self.client);
        }
        let connecting_ip = text.len();

        // Cf-Ray is customarily 16 digits long: the first half of the id.
        text.extend_from_slice(hex.first_chunk::<16>().map_or(&[], |half| half));
        text.push(b'-');
        text.extend(self.policy.colo.bytes().map(|letter| letter.to_ascii_uppercase()));
        Told {
            ends: [forwarded_for, forwarded, request_id, connecting_ip, text.len()],
            text,
            proto,
            host: self.said("x-forwarded-host").unwrap_or(host),
        }
    }

    /// The token of an access service that a trusted proxy has let the visitor in with.
    pub(super) fn assertion(&self) -> Option<&'a str> {
        self.said("cf-access-jwt-assertion")
    }

    /// What a trusted proxy says in a header.
    fn said(&self, name: &str) -> Option<&'a str> {
        self.trusted.and_then(|headers| text(headers, name))
    }
}

/// The headers about the visitor that a request gets.
pub(super) struct Told<'a> {
    /// X-Forwarded-For, Forwarded, X-Request-Id, Cf-Connecting-IP and Cf-Ray, one behind the other.
    text: Vec<u8>,
    /// Where each of them ends.
    ends: [usize; 5],
    proto: &'a str,
    host: &'a str,
}

impl Told<'_> {
    pub(super) fn headers(&self) -> [(&'static str, &[u8]); ORIGINATION_HEADERS] {
        let [a, b, c, d, e] = self.ends;
        let part = |start, end| self.text.get(start..end).unwrap_or_default();
        let visible: &[u8] = if self.proto.eq_ignore_ascii_case("https") {
            b"{\"scheme\":\"https\"}"
        } else {
            b"{\"scheme\":\"http\"}"
        };
        [
            ("X-Forwarded-For", part(0, a)),
            ("X-Forwarded-Proto", self.proto.as_bytes()),
            ("X-Forwarded-Host", self.host.as_bytes()),
            ("Forwarded", part(a, b)),
            ("X-Request-Id", part(b, c)),
            ("Cf-Connecting-IP", part(c, d)),
            ("Cf-Ray", part(d, e)),
            ("Cf-Visitor", visible),
        ]
    }
}

fn put(text: &mut Vec<u8>, parts: &[&str]) {
    parts
        .iter()
        .for_each(|part| text.extend_from_slice(part.as_bytes()));
}

fn put_address(text: &mut Vec<u8>, address: IpAddr) {
    let v4 = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => return put(text, &[&v6.to_string()]),
    };
    for (place, octet) in v4.into_iter().enumerate() {
        if place > 0 {
            text.push(b'.');
        }
        let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
        let zeros = usize::from(octet < 100) + usize::from(octet < 10);
        text.extend_from_slice(digits.get(zeros..).unwrap_or_default());
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
