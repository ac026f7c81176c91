//! Large transfers, one way at a time.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::company::Company;
use super::requests::{costs, per_unit};
use super::scenario::Measured;
use super::series::Figure;
use super::subject::{HOST, Origin, Running};
use super::tool;
use crate::report::{BulkReport, Cost};

/// Transfer after which memory has its working size.
const WARM_UP_BYTES: u64 = 100_000_000;

/// How bytes are moved.
#[derive(Debug, Clone)]
pub(crate) struct BulkShape {
    /// Transfers side by side, which share the bytes.
    pub(crate) parallel: u32,
    /// Bytes each way.
    pub(crate) bytes: u64,
    /// Whether bare bytes are moved after an upgrade, without TLS towards the visitor.
    pub(crate) is_raw: bool,
    /// Slowest transfer that is waited for, in bytes per second.
    pub(crate) rate_min: u64,
    /// Which ways.
    pub(crate) ways: Ways,
}

/// Which ways bytes are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ways {
    /// First down, then up.
    Both,
    /// To the visitor.
    Down,
    /// To the origin.
    Up,
}

impl BulkShape {
    /// One transfer over TLS, its size still to be chosen.
    pub(crate) const fn one() -> Self {
        Self {
            parallel: 1,
            bytes: 0,
            is_raw: false,
            rate_min: 5_000_000,
            ways: Ways::Both,
        }
    }

    /// The transfers as a command.
    pub(crate) fn command(&self, bench: &Bench, running: &Running) -> Command {
        let each = (self.bytes / u64::from(self.parallel)).to_string();
        let mut command = tool::program(&bench.program);
        match running.http.filter(|_| self.is_raw) {
            Some(address) => {
                command
                    .arg("bulk")
                    .arg(format!("http://{address}"))
                    .args(["--host", HOST, "--upgrade"]);
            }
            None => {
                command.arg("bulk").arg(format!("https://{}", running.https));
                command.args(["--host", HOST, "--cacert"]).arg(&running.root);
            }
        }
        if self.ways != Ways::Up {
            command.args(["--download", &each]);
        }
        if self.ways != Ways::Down {
            command.args(["--upload", &each]);
        }
        command.args(["--parallel", &self.parallel.to_string(), "--json"]);
        command
            .arg("--timeout")
            .arg(format!("{}s", self.limit().as_secs()));
        command
    }

    /// Limit for one direction.
    fn limit(&self) -> Duration {
        Duration::from_secs((self.bytes / self.rate_min).clamp(10, 3600))
    }

    /// Runs the transfers and reads what they say.
    pub(crate) fn transfer(&self, bench: &Bench, command: &mut Command) -> Result<Vec<BulkReport>> {
        let text = tool::run(command, &bench.layout.load, self.limit() * 2)?;
        serde_json::from_str(&text).context("the report of the transfer is not what we know")
    }
}

/// One round of one subject: down, then up.
pub(crate) fn measure(
    bench: &Bench,
    shape: &BulkShape,
    origin: &Origin,
    running: &Running,
) -> Result<Measured> {
    let mut command = shape.command(bench, running);
    watch(&mut command, origin, running);
    let company = Company::start(&bench.layout);
    let reports = shape.transfer(bench, &mut command)?;
    let mut measured = Measured::default();
    let processes: Vec<Cost> = reports
        .iter()
        .flat_map(|report| report.processes.clone())
        .collect();
    if let Some(company) = company {
        measured.figures.push(company.stop(running, &processes));
    }
    for report in &reports {
        measured.figures.extend(rates(shape, report));
        let way = way(report);
        measured
            .figures
            .extend(costs(way, "ms_per_gb", running, &report.processes));
    }
    if let Some(up) = reports.last() {
        measured
            .figures
            .extend(per_unit(running, &up.processes, up.bytes as f64 / 1e9, "gb"));
    }
    measured.commands = vec![tool::line(&command)];
    Ok(measured)
}

/// How fast bytes went, and for several transfers how much faster than the slowest they went on average.
pub(super) fn rates(shape: &BulkShape, report: &BulkReport) -> Vec<Figure> {
    let way = way(report);
    let mut figures = vec![Figure::new(
        format!("{way}.mb_per_s"),
        report.megabytes_per_second,
    )];
    if shape.parallel > 1 {
        let ratio = 1.0 / report.slowest_to_mean.max(f64::MIN_POSITIVE);
        figures.push(Figure::new(format!("{way}.mean_to_slowest"), ratio));
    }
    figures
}

fn way(report: &BulkReport) -> &'static str {
    if report.direction == "download" {
        "down"
    } else {
        "up"
    }
}

/// Memory growth of each process over long transfers, down and then up, after a short one to warm it up.
pub(crate) fn growth(
    bench: &Bench,
    shape: &BulkShape,
    origin: &Origin,
    running: &Running,
) -> Result<Measured> {
    let warm_up = BulkShape {
        bytes: WARM_UP_BYTES,
        ..shape.clone()
    };
    warm_up.transfer(bench, &mut warm_up.command(bench, running))?;
    let mut command = shape.command(bench, running);
    watch(&mut command, origin, running);
    let reports = shape.transfer(bench, &mut command)?;
    let mut measured = Measured::default();
    for name in running.process_names() {
        let of_name = reports
            .iter()
            .flat_map(|report| &report.processes)
            .filter(|cost| cost.spent.name == name);
        let first = of_name
            .clone()
            .map(|cost| cost.spent.rss_start_kib)
            .next()
            .unwrap_or(0);
        let peak = of_name.map(|cost| cost.spent.rss_peak_kib).max().unwrap_or(0);
        let grown = peak.saturating_sub(first) as f64 / 1024.0;
        measured.figures.push(Figure::of("rss_growth_mib", name, grown));
    }
    measured.commands = vec![tool::line(&command)];
    Ok(measured)
}

fn watch(command: &mut Command, origin: &Origin, running: &Running) {
    for (name, pid) in running.processes.iter().chain([&origin.watched()]) {
        command.arg("--pid").arg(format!("{name}={pid}"));
    }
}
