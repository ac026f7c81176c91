//! What a load counted: times from due and from sent, statuses, errors.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use crate::process::Spent;
use crate::report::{self, Cost, LoadReport, Times};

/// Largest time a histogram holds, in microseconds: an hour, the longest run.
const TIME_US_MAX: u64 = 3_600_000_000;

/// Different error texts that are told apart; the rest is counted together.
const ERRORS_MAX: usize = 16;

/// What workers counted.
pub(crate) struct Tally {
    latency: Histogram<u64>,
    service: Histogram<u64>,
    lag: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    answered: u64,
    failed: u64,
    pub(crate) last: Option<Instant>,
}

impl Tally {
    /// Nothing counted yet.
    pub(crate) fn new() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, TIME_US_MAX, 3).context("cannot make a histogram");
        Ok(Self {
            latency: histogram()?,
            service: histogram()?,
            lag: histogram()?,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            answered: 0,
            failed: 0,
            last: None,
        })
    }

    /// Counts one exchange that ends at this moment: its status, or why it failed.
    pub(crate) fn count(&mut self, due: Instant, sent: Instant, outcome: Result<u16, String>) {
        let now = Instant::now();
        self.last = Some(now);
        let since = |from: Instant| {
            u64::try_from(now.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
        };
        let lag = u64::try_from(sent.saturating_duration_since(due).as_micros()).unwrap_or(u64::MAX);
        self.lag.saturating_record(lag);
        match outcome {
            Ok(status) => {
                self.answered += 1;
                *self.statuses.entry(status).or_default() += 1;
                self.latency.saturating_record(since(due));
                self.service.saturating_record(since(sent));
            }
            Err(text) => {
                self.failed += 1;
                self.count_error(text, 1);
            }
        }
    }

    fn count_error(&mut self, text: String, count: u64) {
        let known = self.errors.contains_key(&text) || self.errors.len() < ERRORS_MAX;
        *self
            .errors
            .entry(if known { text } else { "other".to_owned() })
            .or_default() += count;
    }

    /// Adds what another thread counted.
    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        self.latency.add(&other.latency)?;
        self.service.add(&other.service)?;
        self.lag.add(&other.lag)?;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (text, count) in &other.errors {
            self.count_error(text.clone(), *count);
        }
        self.answered += other.answered;
        self.failed += other.failed;
        self.last = self.last.max(other.last);
        Ok(())
    }

    /// The report of a run that ended `seconds` after it began.
    pub(crate) fn report(
        self,
        rate: Option<u32>,
        due: Option<u64>,
        seconds: f64,
        spent: Vec<Spent>,
    ) -> LoadReport {
        let answered = self.answered;
        let due = due.unwrap_or(answered + self.failed);
        LoadReport {
            offered_per_second: rate,
            due,
            answered,
            failed: self.failed,
            unanswered: due.saturating_sub(answered + self.failed),
            achieved_per_second: if seconds > 0.0 {
                answered as f64 / seconds
            } else {
                0.0
            },
            statuses: self.statuses,
            errors: self.errors,
            latency_us: Times::of(&self.latency),
            latency_curve: report::curve(&self.latency),
            service_us: Times::of(&self.service),
            lag_us: Times::of(&self.lag),
            processes: spent
                .into_iter()
                .map(|spent| Cost::per_request(spent, answered))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_request_sent_late_is_slow_from_the_moment_it_was_due() {
        let mut tally = Tally::new().unwrap();
        let sent = Instant::now();
        let Some(due) = sent.checked_sub(Duration::from_secs(1)) else {
            return;
        };
        tally.count(due, sent, Ok(200));
        assert!(tally.latency.max() >= 1_000_000);
        assert!(tally.service.max() < 500_000);
        assert!(tally.lag.max() >= 999_000);
    }

    #[test]
    fn error_texts_are_bounded() {
        let mut tally = Tally::new().unwrap();
        for number in 0..100 {
            tally.count(Instant::now(), Instant::now(), Err(format!("error {number}")));
        }
        assert_eq!(tally.errors.len(), ERRORS_MAX + 1);
        assert_eq!(tally.errors.values().sum::<u64>(), 100);
        assert_eq!(tally.report(Some(1), Some(100), 1.0, Vec::new()).failed, 100);
    }
}
