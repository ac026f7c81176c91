//! What a visitor does with fields that come after the body of an answer.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};

/// Content type of gRPC. A suffix says how messages are encoded. gRPC-Web, which puts its trailers into the
/// body, has a name of its own.
const GRPC: &[u8] = b"application/grpc";

/// What a visitor does with trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailers {
    /// It does not say that it wants any.
    Unwanted,
    /// It takes them if there are any (RFC 9110 §10.1.4).
    Taken,
    /// It cannot do without: gRPC says there how a call went.
    Needed,
}

impl Trailers {
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Self {
        // Calls are POSTs, so that most requests are spared one look at their headers.
        if *method == Method::POST && is_grpc(headers) {
            return Self::Needed;
        }
        let mut codings = headers.get_all(TE).into_iter().map(HeaderValue::as_bytes);
        if codings.any(lists_trailers) {
            Self::Taken
        } else {
            Self::Unwanted
        }
    }
}

/// Whether a request is a call of gRPC.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.and_then(|kind| kind.strip_prefix(GRPC))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Whether an answer to a gRPC call has failed before its first message and says in its head all that
/// trailers would say. Nothing follows such a head, and the client insists that the stream ends with it.
#[must_use]
pub fn is_trailers_only(headers: &HeaderMap) -> bool {
    headers.contains_key("grpc-status")
}

/// Whether a line of `TE` has the word.
pub(crate) fn lists_trailers(line: &[u8]) -> bool {
    line.split(|byte| *byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_needs_trailers_and_others_say_that_they_take_them() {
        for (name, value, wanted) in [
            ("content-type", "application/grpc", Trailers::Needed),
            ("content-type", "application/grpc+proto", Trailers::Needed),
            ("content-type", "application/grpc;charset=x", Trailers::Needed),
            ("content-type", "application/grpc-web", Trailers::Unwanted),
            ("content-type", "application/grpc-web+proto", Trailers::Unwanted),
            ("content-type", "application/json", Trailers::Unwanted),
            ("te", "trailers", Trailers::Taken),
            ("te", "deflate;q=0.5, Trailers", Trailers::Taken),
            ("te", "gzip", Trailers::Unwanted),
            ("trailer", "x-sum", Trailers::Unwanted),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]);
            assert_eq!(Trailers::of(&Method::POST, &headers), wanted, "{name}: {value}");
            assert_ne!(Trailers::of(&Method::GET, &headers), Trailers::Needed);
        }
    }
}
