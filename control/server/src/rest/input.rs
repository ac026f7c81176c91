//! Bodies, parameters and path parts, with refusals in the envelope.

use adit_control_api::TunnelId;
use adit_control_api::problem::{ApiError, Code};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::Refusal;

/// Items on a page when the caller does not say.
const PER_PAGE_DEFAULT: u64 = 100;

/// Most items on a page.
const PER_PAGE_MAX: u64 = 1_000;

/// A JSON body, whatever type the caller declares for it.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|error| unreadable(&error))?;
        let body = serde_json::from_slice(&bytes).map_err(|error| {
            Code::Malformed.error(format!("the body is not the JSON expected here: {error}"))
        })?;
        Ok(Self(body))
    }
}

/// Parameters of the query.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Query(params) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error: QueryRejection| Code::Malformed.error(error.body_text()))?;
        Ok(Self(params))
    }
}

/// Which page of a list is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paging {
    /// From 1.
    pub(super) page: u64,
    /// Items a full page has.
    pub(super) per_page: u64,
}

/// Paging as written in the query.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PagingParams {
    page: Option<u64>,
    per_page: Option<u64>,
}

impl PagingParams {
    pub(super) const fn new(page: Option<u64>, per_page: Option<u64>) -> Self {
        Self { page, per_page }
    }

    pub(super) fn resolve(&self) -> Result<Paging, ApiError> {
        let paging = Paging {
            page: self.page.unwrap_or(1),
            per_page: self.per_page.unwrap_or(PER_PAGE_DEFAULT).min(PER_PAGE_MAX),
        };
        if paging.page == 0 || paging.per_page == 0 {
            return Err(Code::Malformed.error("page and per_page begin at 1"));
        }
        Ok(paging)
    }
}

impl Paging {
    /// Items on earlier pages.
    pub(super) const fn skipped(self) -> u64 {
        (self.page - 1).saturating_mul(self.per_page)
    }
}

/// The tunnel id in a path.
pub(super) fn tunnel_id(text: &str) -> Result<TunnelId, ApiError> {
    text.parse()
        .map_err(|_| Code::NotFound.error(format!("{text:?} is not a tunnel id")))
}

fn unreadable(error: &BytesRejection) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Code::TooLarge.error("the body is larger than this API takes");
    }
    Code::Malformed.error("the body cannot be read")
}
