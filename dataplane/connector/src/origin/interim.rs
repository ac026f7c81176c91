//! What an origin says over HTTP/1.1 ahead of its answer, on its way from the connection to the exchange.
//!
//! The HTTP library calls whoever wants to hear of interim answers while it reads, and wants that to be a
//! thing that threads can share. The lock is never waited for: connection and exchange live on one core. The
//! library has no such call for origins over HTTP/2.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use adit_proto::exchange::interim::{Allowance, clean};
use http::{HeaderMap, Request, StatusCode};

/// Interim answers of one exchange that wait to be passed on; at most as many as [`Allowance`] has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interim(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    waiting: VecDeque<(StatusCode, HeaderMap)>,
    allowance: Allowance,
    /// Were too many or too large.
    dropped: u64,
    exchange: Option<Waker>,
}

impl Interim {
    /// Listens to the answer to `request`.
    pub(super) fn listen<B>(&self, request: &mut Request<B>) {
        let heard = self.clone();
        hyper::ext::on_informational(request, move |answer| {
            heard.with(|heard| heard.hear(answer.status(), answer.headers()));
        });
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn next(&self) -> (StatusCode, HeaderMap) {
        poll_fn(|cx| {
            self.with(|heard| match heard.waiting.pop_front() {
                Some(head) => Poll::Ready(head),
                None => {
                    heard.exchange = Some(cx.waker().clone());
                    Poll::Pending
                }
            })
        })
        .await
    }

    /// How many were not kept.
    pub(crate) fn dropped(&self) -> u64 {
        self.with(|heard| heard.dropped)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Heard) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Heard {
    fn hear(&mut self, status: StatusCode, headers: &HeaderMap) {
        if !self.allowance.admits(headers) {
            self.dropped += 1;
            return;
        }
        let mut headers = headers.clone();
        clean(&mut headers);
        self.waiting.push_back((status, headers));
        if let Some(exchange) = self.exchange.take() {
            exchange.wake();
        }
    }
}
