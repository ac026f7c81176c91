//! What lines of the log tell of an exchange, so that they can be found beside the edge's access log.

use adit_proto::error_chain::chain;
use adit_proto::exchange::connector::RequestHead;
use adit_wire::ConnIndex;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{ExchangeError, path};
use crate::management::LogEvent;
use crate::origin::OriginError;

/// The edge's name for a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// As much as is known of it. Costs an exchange two counts of references.
#[derive(Default)]
pub(super) struct Told {
    /// What the edge asks for.
    pub(super) dest: Bytes,
    /// The edge's name for the exchange, in its access log and on error pages.
    request_id: Option<HeaderValue>,
    /// Position of the rule.
    pub(super) rule: Option<usize>,
}

impl Told {
    /// Takes what a request and its rule say.
    pub(super) fn of_request(&mut self, head: &RequestHead, rule: Option<usize>) {
        self.request_id = head.header(&REQUEST_ID).cloned();
        self.rule = rule;
    }

    /// The edge's name for the exchange.
    pub(super) fn request_id(&self) -> Option<&str> {
        self.request_id.as_ref()?.to_str().ok()
    }

    /// Tells that the exchange did not end well. What is nobody's fault here is for who looks closely only.
    pub(super) fn failed(&self, index: ConnIndex, error: &ExchangeError) {
        let dest = String::from_utf8_lossy(&self.dest);
        // Queries may hold secrets: those of management requests always do.
        let dest = path(&dest);
        // Only a flow is addressed without a scheme.
        let event = if dest.contains("://") {
            LogEvent::Http
        } else {
            LogEvent::Tcp
        } as u8;
        let (id, rule) = (self.request_id(), self.rule);
        if matches!(error, ExchangeError::Origin(OriginError::Busy(_))) {
            // Logged by the group, now and then.
            tracing::debug!(event, connIndex = index.0, dest, requestID = id, ingressRule = rule, %error, "Request refused");
        } else if error.is_the_visitors() {
            tracing::debug!(event, connIndex = index.0, dest, requestID = id, ingressRule = rule, %error, "Request cancelled");
        } else {
            let error = chain(error);
            tracing::error!(
                event,
                connIndex = index.0,
                dest,
                requestID = id,
                ingressRule = rule,
                error,
                "Request failed"
            );
        }
    }
}
