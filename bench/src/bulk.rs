//! Bulk transfers: so many bytes down from `URL/bytes/N`, so many up to `URL/sink`, one way at a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use tokio::task::JoinSet;

use crate::args::Bulk;
use crate::process::Meter;
use crate::raw;
use crate::report::{self, BulkReport, Cost};
use crate::sender::{Answer, Connection, open_stream};
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
        let path = if bulk.upgrade { "/raw/source" } else { "/bytes" };
        let target = target.below(&format!("{path}/{}", bulk.download));
        reports.push(runtime.block_on(Box::pin(transfer(
            bulk,
            target,
            Direction::Download,
            bulk.download,
        )))?);
    }
    if bulk.upload > 0 {
        let path = if bulk.upgrade {
            format!("/raw/sink/{}", bulk.upload)
        } else {
            "/sink".to_owned()
        };
        let target = target.below(&path);
        reports.push(runtime.block_on(Box::pin(transfer(bulk, target, Direction::Upload, bulk.upload)))?);
    }
    report::print_bulk(&reports, bulk.watch.json)
}

async fn transfer(bulk: &Bulk, target: Target, direction: Direction, bytes: u64) -> Result<BulkReport> {
    let mut meter = Meter::start(&bulk.watch)?;
    let start = Instant::now();
    let mut times = Vec::new();
    let mut transfers = JoinSet::new();
    let is_raw = bulk.upgrade;
    for _ in 0..bulk.parallel {
        let target = target.clone();
        transfers.spawn(async move {
            let begin = Instant::now();
            if is_raw {
                move_raw(&target, direction, bytes).await?;
                return anyhow::Ok(begin.elapsed());
            }
            let connection = Connection::open(target).await?;
            let answer = match direction {
                Direction::Upload => connection.exchange(Method::POST, bytes).await?,
                Direction::Download => connection.exchange(Method::GET, 0).await?,
            };
            check(answer, direction, bytes)?;
            anyhow::Ok(begin.elapsed())
        });
    }
    let mut sampling = tokio::time::interval(SAMPLE_EVERY);
    let end = tokio::time::sleep(bulk.timeout);
    tokio::pin!(end);
    loop {
        tokio::select! {
            done = transfers.join_next() => match done {
                Some(time) => times.push(time??),
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
        slowest_to_mean: slowest_to_mean(&times),
        processes,
    })
}

async fn move_raw(target: &Target, direction: Direction, bytes: u64) -> Result<()> {
    let mut stream = open_stream(target).await?;
    match direction {
        Direction::Download => raw::read(&mut stream, bytes).await,
        Direction::Upload => {
            raw::write(&mut stream, bytes).await?;
            // One byte says that all have arrived.
            raw::read(&mut stream, 1).await
        }
    }
}

/// Rate of the slowest transfer divided by the mean rate: 1 when all got the same.
fn slowest_to_mean(times: &[Duration]) -> f64 {
    let rates = times.iter().map(|time| 1.0 / time.as_secs_f64().max(1e-9));
    let mean = rates.clone().sum::<f64>() / times.len().max(1) as f64;
    let slowest = rates.fold(f64::INFINITY, f64::min);
    if mean > 0.0 { slowest / mean } else { 1.0 }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_transfers_are_fair_and_a_slow_one_shows() {
        let of = |seconds: &[u64]| {
            let times: Vec<Duration> = seconds.iter().map(|s| Duration::from_secs(*s)).collect();
            slowest_to_mean(&times)
        };
        assert!((of(&[2, 2, 2]) - 1.0).abs() < 1e-9);
        // Rates 1 and 1/3: the mean is 2/3.
        assert!((of(&[1, 3]) - 0.5).abs() < 1e-9);
        assert!((of(&[]) - 1.0).abs() < 1e-9);
    }
}
