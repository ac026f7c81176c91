//! How far a request has come for which a connector has no answer. It decides whether the request may be sent
//! again, and what it says of the replica's origin.
//!
//! A connector of ours says it beside its error, to edges of ours. A stock connector over QUIC is known by
//! its words where they leave no doubt: an error of Go's dialler means that there was never a connection.
//! Over HTTP/2 it has no words.
//!
//! Source of the words: cloudflared `proxy/proxy.go`, Go `net.OpError`.

use adit_wire::connect::Metadata;
use adit_wire::metadata::{ASKED, TRUE, UNREACHED};

/// What stands before the cause when an HTTP origin gave no answer; the cause follows a colon.
pub const UNREACHABLE: &str = "Unable to reach the origin service. The service may be down or it may not be \
                               responding to traffic from cloudflared";

/// How causes begin when no connection came to be.
const DIALLER: [&[u8]; 3] = [b"dial tcp ", b"dial tcp: lookup ", b"dial unix "];

/// How far a request without an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Perhaps to the origin.
    Unknown,
    /// Nowhere: there was no connection to the origin.
    Nowhere,
    /// Nowhere, to a destination that the visitor named: nothing is known of any origin of the replica.
    Asked,
}

impl Reach {
    /// What a connector of ours says beside the error, under [`UNREACHED`].
    #[must_use]
    pub const fn mark(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Nowhere => Some(TRUE),
            Self::Asked => Some(ASKED),
        }
    }

    /// What a connector's error says.
    #[must_use]
    pub fn reported(error: &[u8], metadata: &Metadata) -> Self {
        let said = metadata.iter().find(|(key, _)| *key == UNREACHED.as_bytes());
        match said {
            Some((_, value)) if value == TRUE.as_bytes() => Self::Nowhere,
            Some((_, value)) if value == ASKED.as_bytes() => Self::Asked,
            Some(_) => Self::Unknown,
            None if is_of_the_dialler(error) => Self::Nowhere,
            None => Self::Unknown,
        }
    }
}

/// Whether a stock connector's words are those of Go's dialler, at the place where nobody else has a say.
fn is_of_the_dialler(error: &[u8]) -> bool {
    let cause = error
        .strip_prefix(UNREACHABLE.as_bytes())
        .and_then(|rest| rest.strip_prefix(b": "))
        // Those of TCP services have nothing before them.
        .unwrap_or(error);
    DIALLER.iter().any(|word| cause.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(error: &str, metadata: &[(&str, &str)]) -> Reach {
        Reach::reported(error.as_bytes(), &metadata.iter().copied().collect())
    }

    #[test]
    fn a_mark_says_it_whatever_the_words_are() {
        for reach in [Reach::Nowhere, Reach::Asked] {
            let mark = reach.mark().unwrap();
            assert_eq!(reported("some error", &[("AditUnreached", mark)]), reach);
        }
        assert_eq!(Reach::Unknown.mark(), None);
        let unknown = [("AditUnreached", "perhaps")];
        assert_eq!(
            reported("dial tcp 127.0.0.1:1: refused", &unknown),
            Reach::Unknown
        );
        assert_eq!(
            reported("x", &[("FlowConnectRateLimited", "true")]),
            Reach::Unknown
        );
    }

    #[test]
    fn of_stock_connectors_only_the_diallers_words_count() {
        let cases = [
            (
                ": dial tcp 127.0.0.1:9: connect: connection refused",
                Reach::Nowhere,
            ),
            (
                ": dial tcp: lookup nowhere.test on 127.0.0.53:53: no such host",
                Reach::Nowhere,
            ),
            (": dial tcp 192.0.2.1:80: i/o timeout", Reach::Nowhere),
            (
                ": dial unix /run/app: connect: no such file or directory",
                Reach::Nowhere,
            ),
            (": EOF", Reach::Unknown),
            (
                ": read tcp 127.0.0.1:1->127.0.0.1:2: connection reset by peer",
                Reach::Unknown,
            ),
            (
                ": malformed HTTP response \"dial tcp 1: refused\"",
                Reach::Unknown,
            ),
            (
                ": tls: failed to verify certificate: x509: dial tcp ",
                Reach::Unknown,
            ),
            (" dial tcp 127.0.0.1:9", Reach::Unknown),
            ("", Reach::Unknown),
        ];
        for (cause, expected) in cases {
            assert_eq!(
                reported(&format!("{UNREACHABLE}{cause}"), &[]),
                expected,
                "{cause}"
            );
        }
        let flow = "dial tcp 127.0.0.1:9: connect: connection refused";
        assert_eq!(reported(flow, &[]), Reach::Nowhere);
        assert_eq!(
            reported("Incoming request ended abruptly: context canceled", &[]),
            Reach::Unknown
        );
        assert_eq!(reported("", &[]), Reach::Unknown);
    }
}
