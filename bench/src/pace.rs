//! The schedule of an open-loop run: when each request is due, and a thread that releases them then.
//!
//! A thread of its own, because a runtime's timers are good to a millisecond only and a run of 1,000 req/s
//! has one request per millisecond. Requests that nobody can send yet stay due: their wait counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// When requests become due.
#[derive(Debug)]
pub(crate) enum Schedule {
    /// At a fixed rate from a start on.
    Open(Open),
    /// Whenever somebody is free to send one: finds out how much a server takes.
    Closed {
        /// The first request.
        start: Instant,
        /// No request is sent after it.
        end: Instant,
    },
}

/// Requests due at a fixed rate from a start on.
#[derive(Debug)]
pub(crate) struct Open {
    start: Instant,
    rate: u32,
    total: u64,
    next: AtomicU64,
    due: Semaphore,
}

impl Schedule {
    /// Requests at `rate` per second for `length`, the first one at `start`; closed without a rate.
    pub(crate) fn new(start: Instant, rate: Option<u32>, length: Duration) -> Self {
        match rate {
            Some(rate) => {
                let total = (f64::from(rate) * length.as_secs_f64()).round().max(1.0) as u64;
                Self::Open(Open::new(start, rate, total))
            }
            None => Self::Closed {
                start,
                end: start + length,
            },
        }
    }

    /// Waits for the next due request and says when it was due; `None` after the last one.
    pub(crate) async fn take(&self) -> Option<Instant> {
        match self {
            Self::Open(open) => open.take().await,
            Self::Closed { start, end } => {
                let mut now = Instant::now();
                if now < *start {
                    tokio::time::sleep_until((*start).into()).await;
                    now = Instant::now();
                }
                Some(now).filter(|now| now < end)
            }
        }
    }

    /// Releases each request when it is due; returns after the last one. Then wakes `takers` to tell
    /// each that there is no more.
    pub(crate) fn release(&self, takers: usize) {
        match self {
            Self::Open(open) => open.release(takers),
            Self::Closed { .. } => {}
        }
    }

    /// When the last request is due.
    pub(crate) fn end(&self) -> Instant {
        match self {
            Self::Open(open) => open.due_at(open.total),
            Self::Closed { end, .. } => *end,
        }
    }

    /// How many requests become due, if that is known before.
    pub(crate) const fn total(&self) -> Option<u64> {
        match self {
            Self::Open(open) => Some(open.total),
            Self::Closed { .. } => None,
        }
    }
}

impl Open {
    const fn new(start: Instant, rate: u32, total: u64) -> Self {
        Self {
            start,
            rate,
            total,
            next: AtomicU64::new(0),
            due: Semaphore::const_new(0),
        }
    }

    async fn take(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.total).then(|| self.due_at(index))
    }

    fn release(&self, takers: usize) {
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
        let schedule = Schedule::new(start, Some(100_000), Duration::from_millis(5));
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

    #[test]
    fn a_closed_schedule_gives_until_its_end() {
        let start = Instant::now();
        let schedule = Schedule::new(start, None, Duration::from_millis(5));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut count = 0_u64;
            while schedule.take().await.is_some() {
                count += 1;
            }
            assert!(count > 0);
        });
        assert!(Instant::now() >= schedule.end());
        assert_eq!(schedule.total(), None);
    }
}
