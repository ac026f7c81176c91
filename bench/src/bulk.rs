//! Bulk transfers: so many bytes down from `URL/bytes/N`, so many up to `URL/sink`, one way at a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use tokio::task::JoinSet;

use crate::args::Bulk;
use crate::process::Meter;
use crate::report::{self, BulkReport, Cost};
use crate::sender::{Answer, Connection};
use crate::target::Target;

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Download,
    Upload,
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

/// Runs `bulk` and prints its report.
pub(crate) fn run(bulk: &Bulk) -> Result<()> {
    ensure!(
        bulk.download > 0 || bulk.upload > 0,
        "nothing to do: give --download BYTES or --upload BYTES"
    );
    let target = Target::resolve(&bulk.to)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a runtime")?;
    let mut reports = Vec::new();
    if bulk.download > 0 {
        let target = target.below(&format!("/bytes/{}", bulk.download));
        reports.push(runtime.block_on(Box::pin(transfer(
            bulk,
            target,
            Direction::Download,
            bulk.download,
        )))?);
    }
    if bulk.upload > 0 {
        let target = target.below("/sink");
        reports.push(runtime.block_on(Box::pin(transfer(bulk, target, Direction::Upload, bulk.upload)))?);
    }
    report::print_bulk(&reports, bulk.watch.json)
}

async fn transfer(bulk: &Bulk, target: Target, direction: Direction, bytes: u64) -> Result<BulkReport> {
    let mut meter = Meter::start(&bulk.watch)?;
    let start = Instant::now();
    let mut transfers = JoinSet::new();
    for _ in 0..bulk.parallel {
        let target = target.clone();
        transfers.spawn(async move {
            let connection = Connection::open(target).await?;
            match direction {
                Direction::Upload => connection.exchange(Method::POST, bytes).await,
                Direction::Download => connection.exchange(Method::GET, 0).await,
            }
        });
    }
    let mut sampling = tokio::time::interval(SAMPLE_EVERY);
    let end = tokio::time::sleep(bulk.timeout);
    tokio::pin!(end);
    loop {
        tokio::select! {
            done = transfers.join_next() => match done {
                Some(answer) => check(answer??, direction, bytes)?,
                None => break,
            },
            _ = sampling.tick() => meter.sample(),
            () = &mut end => anyhow::bail!("the {} did not end within {:?}", direction.name(), bulk.timeout),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let total = bytes * u64::from(bulk.parallel);
    let processes = meter
        .stop()
        .into_iter()
        .map(|spent| Cost::per_gigabyte(spent, total))
        .collect();
    Ok(BulkReport {
        direction: direction.name().to_owned(),
        bytes: total,
        seconds,
        megabytes_per_second: total as f64 / 1e6 / seconds,
        processes,
    })
}

fn check(answer: Answer, direction: Direction, bytes: u64) -> Result<()> {
    let name = direction.name();
    ensure!(
        answer.status == 200,
        "the {name} was answered with status {}",
        answer.status
    );
    let whole = direction == Direction::Upload || answer.bytes == bytes;
    ensure!(whole, "the {name} ended after {} of {bytes} bytes", answer.bytes);
    Ok(())
}
