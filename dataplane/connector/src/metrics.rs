//! Counters of one core. Only that core writes them; whoever scrapes reads and sums.
//!
//! Relaxed atomics on memory that one core writes cost what plain integers do.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things there are at the moment.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Responses by the first digit of their status, 1 to 5; anything else counts as 5.
#[derive(Debug, Default)]
pub(crate) struct StatusClasses([Counter; 5]);

impl StatusClasses {
    /// Counts a response.
    pub(crate) fn add(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5);
        if let Some(counter) = self.0.get(class - 1) {
            counter.add(1);
        }
    }

    /// Class and count, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, u64)> {
        (1..).zip(self.0.iter().map(Counter::get))
    }
}

/// What one core counts.
#[derive(Debug, Default)]
pub(crate) struct CoreMetrics {
    /// Exchanges begun.
    pub(crate) requests: Counter,
    /// Exchanges that ended without an answer of the origin.
    pub(crate) request_errors: Counter,
    /// Exchanges going on.
    pub(crate) concurrent_requests: Gauge,
    /// Responses by class.
    pub(crate) responses: StatusClasses,
}
