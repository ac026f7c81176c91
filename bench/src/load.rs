//! The run at a fixed rate (open loop) or as fast as answers come (`--closed`): workers take requests when they are due and send them over their connection.
//!
//! ```text
//! pacing thread ──permits──► workers (one per HTTP/1.1 connection, or per HTTP/2 stream) ──► tallies
//! ```
//! Latency counts from the due time, so requests that wait because the server stalls are counted as slow.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use http::Method;
use tokio::task::LocalSet;

use crate::args::Load;
use crate::pace::Schedule;
use crate::process::{Meter, Spent};
use crate::report::{self, Cost, LoadReport, Times};
use crate::sender::Connection;
use crate::target::Target;

/// Largest time a histogram holds, in microseconds: an hour, the longest run.
const TIME_US_MAX: u64 = 3_600_000_000;

/// Different error texts that are told apart; the rest is counted together.
const ERRORS_MAX: usize = 16;

/// From the last connection made to the first request, so that all threads stand ready.
const HEAD_START: Duration = Duration::from_millis(50);

/// What workers counted.
struct Tally {
    latency: Histogram<u64>,
    service: Histogram<u64>,
    lag: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    answered: u64,
    failed: u64,
    last: Option<Instant>,
}

/// What the threads share.
struct Run {
    target: Target,
    timeout: Duration,
    schedule: OnceLock<Schedule>,
    connected: Barrier,
    scheduled: Barrier,
    /// Set before `connected` by a thread that could not connect.
    failed: AtomicBool,
}

/// Runs `load` and prints its report.
pub(crate) fn run(load: &Load) -> Result<()> {
    let threads = load.threads.min(load.connections) as usize;
    let run = Arc::new(Run {
        target: Target::resolve(&load.to)?,
        timeout: load.timeout,
        schedule: OnceLock::new(),
        connected: Barrier::new(threads + 1),
        scheduled: Barrier::new(threads + 1),
        failed: AtomicBool::new(false),
    });
    let per_connection = if load.to.h2 { load.streams as usize } else { 1 };
    let share = |thread: usize| {
        let connections = load.connections as usize;
        connections / threads + usize::from(thread < connections % threads)
    };
    let workers = load.connections as usize * per_connection;
    let start = |thread: usize| {
        let run = Arc::clone(&run);
        let connections = share(thread);
        std::thread::spawn(move || drive(&run, connections, per_connection))
    };
    let handles: Vec<_> = (0..threads).map(start).collect();
    run.connected.wait();
    let meter = Meter::start(&load.watch);
    let begin = Instant::now() + HEAD_START;
    let rate = (!load.closed).then_some(load.rate);
    let schedule = run
        .schedule
        .get_or_init(|| Schedule::new(begin, rate, load.duration));
    run.scheduled.wait();
    if !run.failed.load(Ordering::Acquire) {
        schedule.release(workers);
    }
    let mut tally = Tally::new()?;
    for handle in handles {
        let counted = handle
            .join()
            .map_err(|_| anyhow!("a sending thread panicked"))??;
        tally.add(&counted)?;
    }
    let spent = meter?.stop();
    let seconds = tally
        .last
        .map_or(0.0, |last| last.saturating_duration_since(begin).as_secs_f64());
    let report = tally.report(rate, schedule.total(), seconds, spent);
    report::print_load(&report, load.watch.json)?;
    ensure!(report.answered > 0, "no request was answered");
    Ok(())
}

/// One thread: connects, waits for the others, then runs its workers to the end.
fn drive(run: &Arc<Run>, connections: usize, per_connection: usize) -> Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a runtime")?;
    let opened = runtime.block_on(async {
        let mut opened = Vec::with_capacity(connections);
        for _ in 0..connections {
            opened.push(Rc::new(Connection::open(run.target.clone()).await?));
        }
        anyhow::Ok(opened)
    });
    if opened.is_err() {
        run.failed.store(true, Ordering::Release);
    }
    // The barriers come before any error leaves: the other threads wait at them.
    run.connected.wait();
    run.scheduled.wait();
    let opened = opened?;
    if run.failed.load(Ordering::Acquire) {
        // The thread that failed tells why.
        return Tally::new();
    }
    let schedule = run.schedule.get().context("there is no schedule")?;
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let set = LocalSet::new();
    for connection in opened
        .iter()
        .flat_map(|connection| std::iter::repeat_n(connection, per_connection))
    {
        let (run, connection, tally) = (Arc::clone(run), Rc::clone(connection), Rc::clone(&tally));
        set.spawn_local(async move { work(&run, &connection, &tally).await });
    }
    let end = schedule.end() + run.timeout;
    runtime.block_on(async {
        // Whoever is still waiting at the end is counted as unanswered.
        let _ended = tokio::time::timeout_at(end.into(), set).await;
    });
    Ok(tally.replace(Tally::new()?))
}

async fn work(run: &Run, connection: &Connection, tally: &RefCell<Tally>) {
    let Some(schedule) = run.schedule.get() else {
        return;
    };
    while let Some(due) = schedule.take().await {
        let sent = Instant::now();
        let outcome = tokio::time::timeout(run.timeout, connection.exchange(Method::GET, 0)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("no answer within {:?}", run.timeout)));
        let outcome = outcome
            .map(|answer| answer.status)
            .map_err(|error| format!("{error:#}"));
        tally.borrow_mut().count(due, sent, outcome);
    }
}

impl Tally {
    fn new() -> Result<Self> {
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

    fn count(&mut self, due: Instant, sent: Instant, outcome: Result<u16, String>) {
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

    fn add(&mut self, other: &Self) -> Result<()> {
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

    fn report(self, rate: Option<u32>, due: Option<u64>, seconds: f64, spent: Vec<Spent>) -> LoadReport {
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
