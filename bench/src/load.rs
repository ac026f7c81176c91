//! The run at a fixed rate (open loop) or as fast as answers come (`--closed`). Workers take requests when
//! they are due and send them over their connections.
//!
//! ```text
//! pacing thread ──permits──► workers (one per HTTP/1.1 connection, or per HTTP/2 stream) ──► tallies
//! ```
//! Latency counts from the due time, so requests that wait because the server stalls are counted as slow.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use http::Method;
use tokio::task::LocalSet;

use crate::args::Load;
use crate::pace::Schedule;
use crate::process::Meter;
use crate::report;
use crate::sender::Connection;
use crate::tally::Tally;
use crate::target::Target;

/// From the last connection made to the first request, so that all threads stand ready.
const HEAD_START: Duration = Duration::from_millis(50);

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
        target: Target {
            websocket: load.websocket,
            fresh: load.fresh,
            ..Target::resolve(&load.to)?
        },
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
