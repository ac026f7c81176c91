//! Passes an exchange's interim answers on to the visitor, as many as it may have.

use std::cell::Cell;

use adit_proto::exchange::interim::{Allowance, http1_head, interim_response};
use adit_wire::connect::ConnectResponse;
use http::StatusCode;
use http::header::EXPECT;
use http::request::Parts;

use super::record::Progress;
use crate::metrics::CoreMetrics;
use crate::public::interim::InterimWay;

/// The way to the visitor, and what may still go there. It lasts for all attempts.
pub(super) struct Hints {
    way: Option<InterimWay>,
    allowance: Cell<Allowance>,
    /// The visitor hears `100 Continue` of this edge.
    has_continue: bool,
}

impl Hints {
    pub(super) fn new(way: Option<InterimWay>, request: &Parts) -> Self {
        Self {
            way,
            allowance: Cell::default(),
            has_continue: request.headers.contains_key(EXPECT),
        }
    }

    /// Passes on what a connector says ahead of its answer.
    pub(super) async fn pass(&self, response: &ConnectResponse, progress: &Progress, metrics: &CoreMetrics) {
        let read = interim_response(response).filter(|(status, headers)| {
            let mut allowance = self.allowance.get();
            let is_admitted = allowance.admits(headers);
            self.allowance.set(allowance);
            is_admitted && !(self.has_continue && *status == StatusCode::CONTINUE)
        });
        let (Some(way), Some((status, headers))) = (&self.way, read) else {
            metrics.interim_dropped.add(1);
            return;
        };
        // An origin that says something is not silent. It has no more than its allowance to say.
        progress.touch();
        way.pass(http1_head(status, &headers)).await;
        progress.touch();
        metrics.interim_passed.add(1);
    }
}
