//! Whether a failed attempt of an exchange may be made again on another connection. Pure.
//!
//! The rule: nothing of a response has reached the visitor, the connector did not refuse the request
//! itself, and sending the request again cannot do harm or lose bytes. A request whose body has begun to
//! leave cannot be repeated, because bodies are not kept.

use std::time::Duration;

use http::Method;

/// Attempts of one exchange, the first included.
pub const ATTEMPTS_MAX: usize = 3;

/// Time from the first attempt within which another may start.
pub const RETRY_WINDOW: Duration = Duration::from_secs(10);

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The stream could not be opened: the connector saw nothing.
    NotOpened,
    /// The connection was lost, or the stream reset, before a response head.
    NoResponse,
    /// The connector answered that it could not get a response from the origin.
    Refused,
}

/// What is known of an attempt when it has failed.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// Whether any byte of the body has been taken from the visitor.
    pub body_has_begun: bool,
    /// Attempts made so far, this one included.
    pub made: usize,
    /// Time since the first attempt.
    pub elapsed: Duration,
    /// How it failed.
    pub failure: Failure,
}

impl Attempt<'_> {
    /// Whether to try the next connection.
    #[must_use]
    pub fn may_repeat(&self) -> bool {
        if self.body_has_begun || self.made >= ATTEMPTS_MAX || self.elapsed >= RETRY_WINDOW {
            return false;
        }
        match self.failure {
            Failure::NotOpened => true,
            // RFC 9110 §9.2.2: the origin may have acted on it, so only what may be done twice.
            Failure::NoResponse => self.method.is_idempotent(),
            // The origin behind another replica may be well, but this replica has spoken for it; asking
            // all of them would multiply the load on an origin in trouble.
            Failure::Refused => false,
        }
    }
}


#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, failure: Failure, change: impl Fn(&mut Attempt<'_>), expected: bool) {
        let mut attempt = Attempt {
            method: &method,
            body_has_begun: false,
            made: 1,
            elapsed: Duration::ZERO,
            failure,
        };
        change(&mut attempt);
        assert_eq!(attempt.may_repeat(), expected, "{attempt:?}");
    }

    #[test]
    fn an_unopened_stream_is_tried_elsewhere_whatever_the_method() {
        check(Method::POST, Failure::NotOpened, |_| {}, true);
        check(Method::POST, Failure::NotOpened, |attempt| attempt.body_has_begun = true, false);
    }

    #[test]
    fn a_lost_request_is_repeated_only_if_that_does_no_harm() {
        check(Method::GET, Failure::NoResponse, |_| {}, true);
        check(Method::PUT, Failure::NoResponse, |_| {}, true);
        check(Method::POST, Failure::NoResponse, |_| {}, false);
        check(Method::PATCH, Failure::NoResponse, |_| {}, false);
        check(Method::GET, Failure::Refused, |_| {}, false);
    }

    #[test]
    fn attempts_and_time_are_bounded() {
        check(Method::GET, Failure::NoResponse, |attempt| attempt.made = ATTEMPTS_MAX, false);
        check(Method::GET, Failure::NoResponse, |attempt| attempt.elapsed = RETRY_WINDOW, false);
    }
}
