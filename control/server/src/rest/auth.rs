//! Whose token a request carries, and whether the path is theirs.
//!
//! One refusal for every token that does not fit, so that nobody can ask which accounts and zones exist.

use std::sync::Arc;

use adit_control_api::AccountTag;
use adit_control_api::digest::SecretDigest;
use adit_control_api::problem::{ApiError, Code};
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::answer::Refusal;
use crate::facts::{Facts, ZoneId};
use crate::state::State;

/// Who asks: the account of the bearer token.
pub(super) struct Caller {
    /// The account.
    pub(super) account: AccountTag,
    zone: ZoneId,
    /// The facts the token was found in.
    pub(super) facts: Arc<Facts>,
}

impl Caller {
    /// Refuses unless the path names the caller's own account.
    pub(super) fn in_account(&self, tag: &str) -> Result<(), ApiError> {
        if self.account.as_str() == tag {
            Ok(())
        } else {
            Err(unauthorized())
        }
    }

    /// Refuses unless the path names the caller's own zone.
    pub(super) fn in_zone(&self, zone: &str) -> Result<(), ApiError> {
        if self.zone.0 == zone {
            Ok(())
        } else {
            Err(unauthorized())
        }
    }
}

impl FromRequestParts<Arc<State>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Refusal> {
        let mut credentials = parts.headers.get_all(AUTHORIZATION).iter();
        let first = credentials.next();
        // A proxy in between may judge by another one of several than we would.
        if credentials.next().is_some() {
            let several = "the request has several Authorization headers; send exactly one";
            return Err(Code::Malformed.error(several).into());
        }
        let token = first
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| SecretDigest::of(token.trim().as_bytes()))
            .ok_or_else(unauthorized)?;
        let facts = state.facts();
        let (account, zone) = facts
            .account_by_token(&token)
            .map(|account| (account.tag.clone(), account.zone.clone()))
            .ok_or_else(unauthorized)?;
        Ok(Self { account, zone, facts })
    }
}

fn unauthorized() -> ApiError {
    Code::Unauthorized.error("the bearer token does not open this path; cert.pem holds the right one")
}
