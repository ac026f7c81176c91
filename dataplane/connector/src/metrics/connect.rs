//! Connections to TCP services: the time until the visitor's side was told that they are open, and the number
//! that never opened.

use std::time::{Duration, Instant};

use super::Counter;

/// Upper bounds of the latency histogram, in milliseconds.
pub(crate) const CONNECT_BUCKETS: [u64; 8] = [1, 10, 25, 50, 100, 500, 1_000, 5_000];

/// Connections of one core.
#[derive(Debug, Default)]
pub(crate) struct ConnectMetrics {
    /// Those that could not be opened or acknowledged.
    pub(crate) errors: Counter,
    /// Those that were, by latency bucket, the last one for everything above.
    pub(crate) buckets: [Counter; CONNECT_BUCKETS.len() + 1],
    /// Whole milliseconds that they took together.
    pub(crate) millis: Counter,
}

impl ConnectMetrics {
    /// Begins to connect.
    pub(crate) fn begin(&self) -> Connecting<'_> {
        Connecting {
            metrics: self,
            began: Some(Instant::now()),
        }
    }

    fn established(&self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.millis.add(millis);
        let place = CONNECT_BUCKETS.partition_point(|bound| millis > *bound);
        self.buckets[place].add(1);
    }
}

/// A connection on its way; an error if it is dropped before it is established.
#[derive(Debug)]
pub(crate) struct Connecting<'a> {
    metrics: &'a ConnectMetrics,
    began: Option<Instant>,
}

impl Connecting<'_> {
    /// The other side knows that the connection is open.
    pub(crate) fn established(mut self) {
        if let Some(began) = self.began.take() {
            self.metrics.established(began.elapsed());
        }
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.metrics.errors.add(u64::from(self.began.is_some()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_counted_in_the_first_bucket_that_holds_it() {
        let metrics = ConnectMetrics::default();
        for micros in [0, 1_900, 2_000, 5_000_999, 5_001_000] {
            metrics.established(Duration::from_micros(micros));
        }
        let counts = metrics.buckets.each_ref().map(Counter::get);
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(metrics.millis.get(), 10_004);
    }

    #[test]
    fn one_that_is_given_up_is_an_error() {
        let metrics = ConnectMetrics::default();
        metrics.begin().established();
        assert_eq!(metrics.errors.get(), 0);
        drop(metrics.begin());
        assert_eq!(metrics.errors.get(), 1);
        assert_eq!(metrics.buckets.iter().map(Counter::get).sum::<u64>(), 1);
    }
}
