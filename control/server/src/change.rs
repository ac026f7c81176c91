//! Which writes are allowed, and what they change. Pure: facts, a request and the time in, changes out.
//!
//! The caller commits the changes together with the next generation, or none of them.

use adit_control_api::problem::ApiError;

use crate::facts::Change;

pub mod configurations;
pub mod quick;
pub mod routes;
pub mod tunnels;

/// What a write comes to.
#[derive(Debug)]
pub struct Decision<T> {
    /// To be committed; empty when everything is as asked already.
    pub changes: Vec<Change>,
    /// What the caller is told after the commit.
    pub answer: T,
}

/// A write is decided or refused.
pub type Decided<T> = Result<Decision<T>, ApiError>;
