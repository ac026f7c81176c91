//! How long a writer waits for bytes to be taken. Counted from the last byte that was taken, for as long as
//! there are more.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::time::{Duration, Sleep, sleep};

/// A wait for progress. Costs nothing until there is something to wait for.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    waiting: Option<Sleep>,
}

/// Nothing was taken for as long as one waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing was taken for too long")]
pub struct Stalled;

impl Patience {
    /// A wait of at most `limit` between two bytes.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, waiting: None }
    }

    /// Something was taken, or there is nothing to take.
    pub fn renew(&mut self) {
        self.waiting = None;
    }

    /// Waits on; ready when nothing was taken for too long.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Stalled> {
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| sleep(limit));
        ready!(Pin::new(waiting).poll(cx));
        self.waiting = None;
        Poll::Ready(Stalled)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::testing::{modes, on_core};
    use crate::time::Instant;

    #[test]
    fn it_ends_after_a_time_without_progress_only() {
        for io in modes() {
            on_core(io, || async {
                let limit = Duration::from_millis(50);
                let mut patience = Patience::new(limit);
                let began = Instant::now();
                while began.elapsed() < 3 * limit {
                    patience.renew();
                    let ended = poll_fn(|cx| Poll::Ready(patience.poll_end(cx).is_ready())).await;
                    assert!(!ended, "something was taken just now");
                    sleep(Duration::from_millis(1)).await;
                }
                let renewed = Instant::now();
                patience.renew();
                assert_eq!(poll_fn(|cx| patience.poll_end(cx)).await, Stalled);
                assert!(renewed.elapsed() >= limit);
            });
        }
    }
}
