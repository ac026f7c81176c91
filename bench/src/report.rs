//! Results as text or JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::process::Spent;

/// A distribution of times in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p999: u64,
    max: u64,
}

/// What `load` found.
#[derive(Debug, Serialize)]
pub(crate) struct LoadReport {
    pub(crate) offered_per_second: u32,
    pub(crate) due: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// Due but not answered when the run ended.
    pub(crate) unanswered: u64,
    pub(crate) achieved_per_second: f64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    /// From the moment a request was due.
    pub(crate) latency_us: Times,
    /// From the moment it was sent.
    pub(crate) service_us: Times,
    /// From due to sent: large values mean too few connections or a busy generator.
    pub(crate) lag_us: Times,
    pub(crate) processes: Vec<Cost>,
}

/// What one direction of `bulk` found.
#[derive(Debug, Serialize)]
pub(crate) struct BulkReport {
    pub(crate) direction: &'static str,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) megabytes_per_second: f64,
    pub(crate) processes: Vec<Cost>,
}

/// A process's use, and its share per unit of work.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    #[serde(flatten)]
    spent: Spent,
    cpu_ms: u64,
    /// Microseconds per request, or milliseconds per gigabyte.
    per_unit: f64,
}

impl Times {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

impl Cost {
    /// CPU microseconds per request.
    pub(crate) fn per_request(spent: Spent, requests: u64) -> Self {
        Self::per(spent, 1_000.0, requests as f64)
    }

    /// CPU milliseconds per gigabyte.
    pub(crate) fn per_gigabyte(spent: Spent, bytes: u64) -> Self {
        Self::per(spent, 1.0, bytes as f64 / 1e9)
    }

    fn per(spent: Spent, scale: f64, units: f64) -> Self {
        let cpu_ms = spent.cpu_ms();
        let per_unit = if units > 0.0 {
            cpu_ms as f64 * scale / units
        } else {
            0.0
        };
        Self {
            spent,
            cpu_ms,
            per_unit,
        }
    }
}

/// Prints a report of `load`.
pub(crate) fn print_load(report: &LoadReport, json: bool) -> Result<()> {
    if json {
        return print(&(serde_json::to_string_pretty(report)? + "\n"));
    }
    let mut text = format!(
        "offered {}/s: {} due, {} answered ({:.1}/s), {} failed, {} unanswered\n",
        report.offered_per_second,
        report.due,
        report.answered,
        report.achieved_per_second,
        report.failed,
        report.unanswered
    );
    let statuses: Vec<String> = report
        .statuses
        .iter()
        .map(|(status, count)| format!("{status}: {count}"))
        .collect();
    text.push_str(&format!("status   {}\n", statuses.join(", ")));
    for (error, count) in &report.errors {
        text.push_str(&format!("error    {count} x {error}\n"));
    }
    text.push_str(&format!(
        "{:24} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
        "microseconds", "p50", "p90", "p99", "p99.9", "max"
    ));
    let rows = [
        ("latency (since due)", &report.latency_us),
        ("service (since sent)", &report.service_us),
        ("lag (due to sent)", &report.lag_us),
    ];
    for (name, times) in rows {
        let Times {
            p50,
            p90,
            p99,
            p999,
            max,
        } = times;
        text.push_str(&format!(
            "{name:24} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {max:>9}\n"
        ));
    }
    text.push_str(&costs(&report.processes, "us/request"));
    print(&text)
}

/// Prints the reports of `bulk`.
pub(crate) fn print_bulk(reports: &[BulkReport], json: bool) -> Result<()> {
    if json {
        return print(&(serde_json::to_string_pretty(reports)? + "\n"));
    }
    let mut text = String::new();
    for report in reports {
        let BulkReport {
            direction,
            bytes,
            seconds,
            megabytes_per_second,
            processes,
        } = report;
        text.push_str(&format!(
            "{direction}: {bytes} bytes in {seconds:.2} s, {megabytes_per_second:.1} MB/s\n"
        ));
        text.push_str(&costs(processes, "ms/GB"));
    }
    print(&text)
}

/// Says why a run did not work.
pub(crate) fn complain(error: &anyhow::Error) {
    // With standard error closed there is nobody to tell; the exit status remains.
    let _nobody_listens = writeln!(io::stderr(), "{error:#}");
}

/// Prints a line at once, for a reader that waits for it.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .context("cannot write the report")
}

fn costs(processes: &[Cost], unit: &str) -> String {
    let mut text = format!(
        "{:24} {:>8} {:>9} {:>9} {:>9} {:>12} {:>10} {:>10}\n",
        "process", "pid", "CPU ms", "user", "system", unit, "RSS KiB", "peak KiB"
    );
    for Cost {
        spent,
        cpu_ms,
        per_unit,
    } in processes
    {
        let Spent {
            name,
            pid,
            user_ms,
            system_ms,
            rss_start_kib,
            rss_peak_kib,
        } = spent;
        text.push_str(&format!(
            "{name:24} {pid:>8} {cpu_ms:>9} {user_ms:>9} {system_ms:>9} {per_unit:>12.1} {rss_start_kib:>10} {rss_peak_kib:>10}\n"
        ));
    }
    text
}
