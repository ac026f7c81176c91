//! Lets only those requests to an origin that carry a token of an access service: the key `access` of a rule.
//!
//! ```text
//! Cf-Access-Jwt-Assertion ─► signed by a key of certsUrl? ─► issuer, time, audience? ─► to the origin
//!                             └ unknown key: fetch the keys once more   └ no to any: 403
//! ```
//! Whatever goes wrong, a token that could not be verified is refused. Each core keeps its own copy of the
//! keys.
//!
//! Source: cloudflared `ingress/middleware/jwtvalidator.go`; RFC 7515, RFC 7517, RFC 7519.

use std::rc::Rc;
use std::time::SystemTime;

use adit_proto::error_chain::chain;
use adit_proto::ingress::access::AccessSettings;
use adit_proto::ingress::settings::OriginSettings;
use http::{HeaderName, HeaderValue};

use crate::origin::CoreOrigins;
use keys::KeySet;
use token::Token;

mod keys;
mod token;

/// Where the token is.
pub(crate) const ASSERTION: HeaderName = HeaderName::from_static("cf-access-jwt-assertion");

/// Why a request is not let through.
#[derive(Debug, thiserror::Error)]
enum AccessError {
    #[error("the request has no token")]
    Missing,
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    #[error("the token's algorithm is not supported: {0}")]
    Algorithm(String),
    #[error("the token is signed by a key that is not published")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is of another issuer: {0}")]
    Issuer(String),
    #[error("the token is no longer or not yet valid")]
    Time,
    #[error("the token is for another audience")]
    Audience,
    #[error("the keys cannot be fetched: {0}")]
    Keys(String),
}

/// Guards the service of one rule.
pub(crate) struct Gate {
    settings: AccessSettings,
    /// `None` if the settings do not say whose tokens are good: then none is.
    keys: Option<KeySet>,
}

impl Gate {
    /// The gate that a rule asks for, if it asks for one.
    pub(crate) fn of(settings: &OriginSettings) -> Option<Rc<Self>> {
        let access = settings.access.as_deref().filter(|access| access.is_required)?;
        let keys = access
            .certs_url()
            .and_then(|url| KeySet::new(&url, settings.ca_pool.clone()));
        Some(Rc::new(Self {
            settings: access.clone(),
            keys,
        }))
    }

    /// Whether a request with this token may pass.
    pub(crate) async fn admits(&self, core: &CoreOrigins, assertion: Option<&HeaderValue>) -> bool {
        match self.verify(core, assertion).await {
            Ok(()) => true,
            Err(error @ AccessError::Keys(_)) => {
                tracing::error!(
                    error = chain(&error),
                    "A request was refused because its token cannot be verified"
                );
                false
            }
            Err(error) => {
                tracing::debug!(error = chain(&error), "A request was refused for its token");
                false
            }
        }
    }

    async fn verify(&self, core: &CoreOrigins, assertion: Option<&HeaderValue>) -> Result<(), AccessError> {
        let text = assertion.and_then(|value| value.to_str().ok());
        let token = Token::parse(text.filter(|text| !text.is_empty()).ok_or(AccessError::Missing)?)?;
        let keys = self.keys.as_ref().ok_or(AccessError::UnknownKey)?;
        let issuer = self.settings.issuer().ok_or(AccessError::UnknownKey)?;
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = seconds.map_or(0, |elapsed| elapsed.as_secs());
        // What is cheap comes first, so that a stranger's token costs no fetch.
        token.check_claims(&issuer, &self.settings.audiences, now)?;
        keys.verify(core, &token).await
    }
}
