//! Whether edges are reached through a proxy, and which transport that leaves.
//!
//! A proxy that was named for edges is used for all of them. A proxy of the environment is used where it
//! helps: QUIC cannot pass it, so a connector that insists on QUIC ignores it.

use adit_proto::supervisor::{Protocol, Transport};
use adit_proto::traversal::{Proxy, split_port};

use super::{ConfigError, Flags, invalid};
use crate::edge_proxy::EdgeProxy;

const KEY: &str = "edge-proxy";

/// Shown for a value that may hold a password.
const HIDDEN: &str = "(not shown)";

/// The proxy, and the transport that can be used.
pub(super) fn find(
    flags: &Flags,
    edges: &[String],
    transport: Transport,
    warnings: &mut Vec<String>,
) -> Result<(Option<EdgeProxy>, Transport), ConfigError> {
    let insists_on_quic = transport == Transport::Only(Protocol::Quic);
    if let Some(text) = flags.edge_proxy.as_deref().filter(|text| !text.is_empty()) {
        let proxy: Proxy = text
            .parse()
            .map_err(|error| invalid(KEY, HIDDEN, &format!("{error}")))?;
        if insists_on_quic {
            let why = "QUIC cannot pass a proxy: leave protocol away, or say http2";
            return Err(invalid(KEY, &proxy.to_string(), why));
        }
        return Ok((Some(EdgeProxy::given(proxy)), Transport::Only(Protocol::Http2)));
    }
    let Some(text) = flags.environment_proxy.as_deref().filter(|text| !text.is_empty()) else {
        return Ok((None, transport));
    };
    let proxy = match text.parse::<Proxy>() {
        Ok(proxy) => EdgeProxy::of_environment(proxy, flags.no_proxy.as_deref()),
        Err(error) => {
            warnings.push(format!("HTTPS_PROXY is not used: {error}"));
            return Ok((None, transport));
        }
    };
    let is_for = |edge: &String| split_port(edge, 0).is_some_and(|(host, port)| proxy.is_for(host, port));
    if insists_on_quic || !edges.iter().any(is_for) {
        return Ok((None, transport));
    }
    Ok((Some(proxy), Transport::Only(Protocol::Http2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP2: Transport = Transport::Only(Protocol::Http2);
    const QUIC: Transport = Transport::Only(Protocol::Quic);

    fn flags(given: &str, environment: &str, no_proxy: &str) -> Flags {
        Flags {
            edge_proxy: Some(given.to_owned()),
            environment_proxy: Some(environment.to_owned()),
            no_proxy: Some(no_proxy.to_owned()),
            ..Flags::default()
        }
    }

    fn found(flags: &Flags, edge: &str, transport: Transport) -> (Option<String>, Transport) {
        let (proxy, transport) = find(flags, &[edge.to_owned()], transport, &mut Vec::new()).unwrap();
        (proxy.map(|proxy| proxy.proxy().to_string()), transport)
    }

    #[test]
    fn the_given_proxy_is_used_for_all_edges_and_forbids_quic() {
        let flags = flags("http://u:secret@given.test:3128", "socks5://other.test", "*");
        let proxy = Some("http://given.test:3128".to_owned());
        assert_eq!(
            found(&flags, "127.0.0.1:7844", Transport::Auto),
            (proxy.clone(), HTTP2)
        );
        assert_eq!(found(&flags, "edge.test:7844", HTTP2), (proxy, HTTP2));
        let refused = find(&flags, &["edge.test:7844".into()], QUIC, &mut Vec::new());
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("QUIC cannot pass") && !text.contains("secret"),
            "{text}"
        );
    }

    #[test]
    fn that_of_the_environment_has_exceptions() {
        let flags = flags("", "socks5://other.test", "near.test");
        let proxy = Some("socks5://other.test:1080".to_owned());
        assert_eq!(found(&flags, "edge.test:7844", Transport::Auto), (proxy, HTTP2));
        for (edge, transport) in [
            ("a.near.test:7844", Transport::Auto),
            ("127.0.0.1:7844", Transport::Auto),
            ("[::1]:7844", HTTP2),
            ("edge.test:7844", QUIC),
        ] {
            assert_eq!(found(&flags, edge, transport), (None, transport), "{edge}");
        }
    }

    #[test]
    fn one_that_cannot_be_read_is_an_error_or_a_warning_without_its_password() {
        let text = find(
            &flags("https://u:secret@x", "", ""),
            &[],
            Transport::Auto,
            &mut Vec::new(),
        );
        let text = text.unwrap_err().to_string();
        assert!(text.contains("over TLS") && !text.contains("secret"), "{text}");
        let mut warnings = Vec::new();
        let unused = find(&flags("", "u:secret@x", ""), &[], Transport::Auto, &mut warnings).unwrap();
        assert_eq!(unused, (None, Transport::Auto));
        assert!(
            warnings.len() == 1 && !warnings.concat().contains("secret"),
            "{warnings:?}"
        );
    }
}
