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

/// Slowest transfer that is waited for, in bytes per second.
const RATE_MIN: u64 = 5_000_000;

/// How bytes are moved.
#[derive(Debug, Clone)]
pub(crate) struct BulkShape {
    /// Transfers side by side, which share the bytes.
    pub(crate) parallel: u32,
}

impl BulkShape {
    /// The transfers as a command.
    pub(crate) fn command(&self, bench: &Bench, running: &Running) -> Command {
        let each = (bench.settings.bulk_bytes / u64::from(self.parallel)).to_string();
        let mut command = tool::program(&bench.program);
        command.arg("bulk").arg(format!("https://{}", running.https));
        command.args(["--host", HOST, "--cacert"]).arg(&running.root);
        command.args(["--download", &each, "--upload", &each]);
        command.args(["--parallel", &self.parallel.to_string(), "--json"]);
        command
            .arg("--timeout")
            .arg(format!("{}s", limit(bench).as_secs()));
        command
    }
}

/// Limit for one direction.
pub(crate) fn limit(bench: &Bench) -> Duration {
    Duration::from_secs((bench.settings.bulk_bytes / RATE_MIN).clamp(10, 3600))
}

/// One round of one subject: down, then up.
pub(crate) fn measure(
    bench: &Bench,
    shape: &BulkShape,
    origin: &Origin,
    running: &Running,
) -> Result<Measured> {
    let mut command = shape.command(bench, running);
    for (name, pid) in running.processes.iter().chain([&origin.watched()]) {
        command.arg("--pid").arg(format!("{name}={pid}"));
    }
    let company = Company::start(&bench.layout);
    let reports = transfer(bench, &mut command)?;
    let mut measured = Measured::default();
    let processes: Vec<Cost> = reports
        .iter()
        .flat_map(|report| report.processes.clone())
        .collect();
    if let Some((figures, note)) = company.map(|company| company.stop(running, &processes)) {
        measured.figures.extend(figures);
        measured.notes.extend(note);
    }
    for report in &reports {
        let way = if report.direction == "download" {
            "down"
        } else {
            "up"
        };
        measured.figures.push(Figure::new(
            format!("{way}.mb_per_s"),
            report.megabytes_per_second,
        ));
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

/// Runs the transfers and reads what they say.
pub(crate) fn transfer(bench: &Bench, command: &mut Command) -> Result<Vec<BulkReport>> {
    let text = tool::run(command, &bench.layout.load, limit(bench) * 2)?;
    serde_json::from_str(&text).context("the report of the transfer is not what we know")
}
