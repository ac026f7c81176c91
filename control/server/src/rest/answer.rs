//! Answers in the envelope. Stock clients read a refusal only if its type is exactly `application/json`.

use adit_control_api::envelope::{Envelope, ResultInfo};
use adit_control_api::problem::{ApiError, Code};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::input::Paging;

/// What a handler gives: an answer or a refusal.
pub(super) type Answer = Result<Response, Refusal>;

/// An [`ApiError`] on its way out, or one for each part of the request that is not allowed.
pub(super) struct Refusal(Vec<ApiError>);

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(vec![error])
    }
}

impl From<Vec<ApiError>> for Refusal {
    fn from(errors: Vec<ApiError>) -> Self {
        Self(errors)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refuse_all(self.0)
    }
}

/// One object. The status is 200 also for what was created: stock clients take no other for success.
pub(super) fn one(result: impl Serialize) -> Response {
    Json(Envelope::of(result)).into_response()
}

/// The asked page of a list.
pub(super) fn page<T: Serialize>(all: Vec<T>, paging: Paging) -> Response {
    let total_count = all.len() as u64;
    let items: Vec<T> = all
        .into_iter()
        .skip(usize::try_from(paging.skipped()).unwrap_or(usize::MAX))
        .take(usize::try_from(paging.per_page).unwrap_or(usize::MAX))
        .collect();
    let info = ResultInfo {
        count: items.len() as u64,
        page: paging.page,
        per_page: paging.per_page,
        total_count,
    };
    Json(Envelope::page(items, info)).into_response()
}

/// A refusal with its code's status.
pub(super) fn refuse(error: ApiError) -> Response {
    refuse_all(vec![error])
}

/// A refusal for several reasons; the first one's code gives the status.
fn refuse_all(errors: Vec<ApiError>) -> Response {
    let number = errors.first().map(|error| error.code);
    let code = Code::ALL.into_iter().find(|code| Some(code.number()) == number);
    let status = code.and_then(|code| StatusCode::from_u16(code.status()).ok());
    (
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Json(Envelope::<()>::refusals(errors)),
    )
        .into_response()
}
