//! The wrapper around every REST answer.

use serde::{Deserialize, Serialize};

use crate::problem::ApiError;

/// `{"success":…,"errors":[…],"messages":[…],"result":…,"result_info":{…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Whether the request was carried out.
    pub success: bool,
    /// Why not; empty on success.
    #[serde(default)]
    pub errors: Vec<ApiError>,
    /// Remarks. Plain strings: stock clients fail on objects here.
    #[serde(default)]
    pub messages: Vec<String>,
    /// The answer itself.
    pub result: Option<T>,
    /// Present on lists only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_info: Option<ResultInfo>,
}

/// Which part of a list this answer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultInfo {
    /// Items in this answer.
    pub count: u64,
    /// Its page, from 1.
    pub page: u64,
    /// Items a full page has.
    pub per_page: u64,
    /// Items on all pages.
    pub total_count: u64,
}

impl<T> Envelope<T> {
    /// A successful answer.
    pub const fn of(result: T) -> Self {
        Self {
            success: true,
            errors: Vec::new(),
            messages: Vec::new(),
            result: Some(result),
            result_info: None,
        }
    }

    /// A refusal with a reason for each part of the request that is not allowed.
    pub const fn refusals(errors: Vec<ApiError>) -> Self {
        Self {
            success: false,
            errors,
            messages: Vec::new(),
            result: None,
            result_info: None,
        }
    }

    /// One page of a list.
    pub const fn page(result: T, info: ResultInfo) -> Self {
        Self {
            success: true,
            errors: Vec::new(),
            messages: Vec::new(),
            result: Some(result),
            result_info: Some(info),
        }
    }
}
