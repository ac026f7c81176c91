//! Whether the protocol that an origin switches to is the one that the visitor has asked for (RFC 9110 §7.8).

use http::header::HeaderValue;

/// Whether a 101 whose `Upgrade` lines are `answered` agrees to `asked`; `None` asks for a WebSocket.
///
/// Services behind stock connectors switch to a WebSocket without naming it, so that one need not be named.
/// Names are compared without regard to case. A version counts if both sides say one.
pub fn is_agreed<'a>(asked: Option<&HeaderValue>, answered: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let wanted = asked.map_or(&b"websocket"[..], HeaderValue::as_bytes);
    let mut is_named = false;
    for line in answered {
        for protocol in line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if !is_same(wanted, protocol) {
                return false;
            }
            is_named = true;
        }
    }
    is_named || asked.is_none()
}

fn is_same(wanted: &[u8], protocol: &[u8]) -> bool {
    let ((name, version), (other, other_version)) = (parts(wanted), parts(protocol));
    let is_version = version
        .zip(other_version)
        .is_none_or(|(a, b)| a.eq_ignore_ascii_case(b));
    name.eq_ignore_ascii_case(other) && is_version
}

/// Name and version.
fn parts(protocol: &[u8]) -> (&[u8], Option<&[u8]>) {
    match protocol.iter().position(|byte| *byte == b'/') {
        Some(at) => {
            let (name, version) = protocol.split_at(at);
            (name, version.get(1..))
        }
        None => (protocol, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_agreed_to() {
        let spdy = HeaderValue::from_static("SPDY/3.1");
        let tcp = HeaderValue::from_static("tcp");
        let agreed =
            |asked, lines: &[&'static str]| is_agreed(asked, lines.iter().map(|line| line.as_bytes()));
        assert!(agreed(Some(&spdy), &["SPDY/3.1"]));
        assert!(agreed(Some(&spdy), &["spdy"]));
        assert!(!agreed(Some(&spdy), &["SPDY/2"]));
        assert!(agreed(Some(&tcp), &["TCP"]) && agreed(Some(&tcp), &["tcp/1"]));
        for bad in [
            &[][..],
            &[""],
            &["udp"],
            &["tcp, udp"],
            &["tcp", "h2c"],
            &["tcpx"],
        ] {
            assert!(!agreed(Some(&tcp), bad), "{bad:?}");
        }
        assert!(agreed(None, &[]) && agreed(None, &["WebSocket"]));
        assert!(!agreed(None, &["h2c"]));
    }
}
