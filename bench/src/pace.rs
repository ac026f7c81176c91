//! The schedule of an open-loop run: when each request is due, and a thread that releases them then.
//!
//! A thread of its own, because a runtime's timers are good to a millisecond only and a run of 1,000 req/s
//! has one request per millisecond. Requests that nobody can send yet stay due: their wait counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Requests due at a fixed rate from a start on.
#[derive(Debug)]
pub(crate) struct Schedule {
    start: Instant,
    rate: u32,
    total: u64,
    next: AtomicU64,
    due: Semaphore,
}

impl Schedule {
    /// `total` requests at `rate` per second, the first one at `start`.
    pub(crate) const fn new(start: Instant, rate: u32, total: u64) -> Self {
        Self {
            start,
            rate,
            total,
            next: AtomicU64::new(0),
            due: Semaphore::const_new(0),
        }
    }

    /// Waits for the next due request and says when it was due; `None` after the last one.
    pub(crate) async fn take(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.total).then(|| self.due_at(index))
    }

    /// Releases each request when it is due; returns after the last one. Then wakes `takers` to tell
    /// each that there is no more.
    pub(crate) fn release(&self, takers: usize) {
        let mut released = 0;
        while released < self.total {
            let now = Instant::now();
            let wait = self.due_at(released).saturating_duration_since(now);
            if !wait.is_zero() {
                std::thread::sleep(wait);
                continue;
            }
            let mut ready = 1;
            while released + ready < self.total && self.due_at(released + ready) <= now {
                ready += 1;
            }
            released += ready;
            self.due.add_permits(usize::try_from(ready).unwrap_or(usize::MAX));
        }
        self.due.add_permits(takers);
    }

    /// When the last request is due.
    pub(crate) fn end(&self) -> Instant {
        self.due_at(self.total)
    }

    fn due_at(&self, index: u64) -> Instant {
        let nanoseconds = u128::from(index) * 1_000_000_000 / u128::from(self.rate);
        self.start + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_due_once_and_each_taker_is_told_the_end() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 100_000, 500);
        schedule.release(2);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut dues = Vec::new();
            while let Some(due) = schedule.take().await {
                dues.push(due);
            }
            assert_eq!(schedule.take().await, None);
            assert_eq!(dues.len(), 500);
            assert_eq!(dues[0], start);
            assert_eq!(dues[499], start + Duration::from_micros(4_990));
        });
        assert!(Instant::now() >= start + Duration::from_micros(4_990));
    }
}
