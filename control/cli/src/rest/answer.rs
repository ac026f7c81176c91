//! Reads the API's answers: the envelope, and refusals in the words cloudflared uses.

use adit_control_api::envelope::Envelope;
use adit_control_api::problem::ApiError;
use serde::de::DeserializeOwned;

use super::http::{HttpError, Reply};

/// Why a call of the API did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestError {
    /// No answer came.
    #[error("REST request to {operation} failed")]
    Http {
        operation: &'static str,
        #[source]
        source: HttpError,
    },
    /// The request could not be written as JSON.
    #[error("cannot encode the request to {operation}")]
    Encode {
        operation: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// The answer is a refusal.
    #[error("{}", refusal(operation, *.status, errors))]
    Refused {
        operation: &'static str,
        status: u16,
        errors: Vec<ApiError>,
    },
    /// The answer is not what the API sends.
    #[error("cannot understand the answer to {operation}")]
    Malformed {
        operation: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// The answer has no result.
    #[error("the answer to {operation} holds no result")]
    Empty { operation: &'static str },
    /// The name belongs to another tunnel.
    #[error("tunnel with name already exists")]
    NameTaken,
}

impl RestError {
    /// Whether the API did not answer at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Http { .. })
    }

    /// Whether another tunnel has the name.
    pub(crate) fn is_name_taken(&self) -> bool {
        matches!(self, Self::NameTaken)
    }

    /// Whether the API refused because of the token.
    pub(crate) fn is_unauthorized(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 401 | 403,
                ..
            }
        )
    }
}

/// The body of a reply if its status says success.
pub(super) fn check(operation: &'static str, reply: Reply) -> Result<Vec<u8>, RestError> {
    if reply.status == 200 {
        return Ok(reply.body);
    }
    let is_json = reply.content_type.as_deref() == Some("application/json");
    let envelope = is_json.then(|| serde_json::from_slice::<Envelope<serde_json::Value>>(&reply.body).ok());
    let errors = envelope
        .flatten()
        .map(|envelope| envelope.errors)
        .unwrap_or_default();
    Err(RestError::Refused {
        operation,
        status: reply.status,
        errors,
    })
}

/// The envelope of a successful reply.
pub(super) fn open<T: DeserializeOwned>(
    operation: &'static str,
    body: &[u8],
) -> Result<Envelope<T>, RestError> {
    let envelope: Envelope<T> =
        serde_json::from_slice(body).map_err(|source| RestError::Malformed { operation, source })?;
    if envelope.success && envelope.errors.is_empty() {
        Ok(envelope)
    } else {
        Err(RestError::Refused {
            operation,
            status: 200,
            errors: envelope.errors,
        })
    }
}

fn refusal(operation: &str, status: u16, errors: &[ApiError]) -> String {
    let reason = match errors {
        [] => None,
        [only] => Some(only.to_string()),
        many => Some(format!(
            "API errors: {}",
            many.iter().map(|error| format!("{error}; ")).collect::<String>()
        )),
    };
    match (reason, status) {
        (Some(reason), _) => format!("Failed to {operation}: {reason}"),
        (None, 200) => "API call failed".to_owned(),
        (None, 400) => "incorrect request parameters".to_owned(),
        (None, 401 | 403) => "unauthorized".to_owned(),
        (None, 404) => "not found".to_owned(),
        (None, other) => {
            let text = ::http::StatusCode::from_u16(other)
                .ok()
                .and_then(|status| status.canonical_reason());
            format!(
                "API call to {operation} failed with status {other}: {}",
                text.unwrap_or("")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: u16, content_type: &str, body: &str) -> String {
        let reply = Reply {
            status,
            content_type: Some(content_type.to_owned()),
            body: body.as_bytes().to_vec(),
        };
        check("list tunnels", reply).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_tells_the_servers_reason() {
        let body =
            r#"{"success":false,"errors":[{"code":1003,"message":"bad thing"}],"messages":[],"result":null}"#;
        assert_eq!(
            text(400, "application/json", body),
            "Failed to list tunnels: code: 1003, reason: bad thing"
        );
        assert_eq!(text(400, "text/html", body), "incorrect request parameters");
    }

    #[test]
    fn several_reasons_are_joined() {
        let body = r#"{"success":false,"errors":[{"code":1,"message":"a"},{"code":"2","message":"b"}],"result":null}"#;
        let expected = "Failed to list tunnels: API errors: code: 1, reason: a; code: 2, reason: b; ";
        assert_eq!(text(500, "application/json", body), expected);
    }

    #[test]
    fn a_refusal_without_reason_is_told_by_its_status() {
        assert_eq!(text(401, "text/plain", ""), "unauthorized");
        assert_eq!(text(404, "text/plain", ""), "not found");
        assert_eq!(
            text(502, "text/plain", ""),
            "API call to list tunnels failed with status 502: Bad Gateway"
        );
    }

    #[test]
    fn a_success_must_say_so() {
        let open = |body: &str| open::<u8>("get tunnel", body.as_bytes()).map(|envelope| envelope.result);
        assert_eq!(
            open(r#"{"success":true,"errors":[],"messages":[],"result":3}"#).unwrap(),
            Some(3)
        );
        let refused = open(r#"{"success":false,"errors":[],"messages":[],"result":3}"#).unwrap_err();
        assert_eq!(refused.to_string(), "API call failed");
        assert!(matches!(open("[]").unwrap_err(), RestError::Malformed { .. }));
    }
}
