//! Results as text or JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::process::Spent;

/// A distribution of times in microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

/// What `load` found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoadReport {
    /// None when requests followed each other as fast as answers came.
    pub(crate) offered_per_second: Option<u32>,
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
    /// The same as points (share of requests, microseconds) for a curve.
    pub(crate) latency_curve: Vec<(f64, u64)>,
    /// From the moment it was sent.
    pub(crate) service_us: Times,
    /// From due to sent: large values mean too few connections or a busy generator.
    pub(crate) lag_us: Times,
    pub(crate) processes: Vec<Cost>,
}

/// What one direction of `bulk` found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BulkReport {
    pub(crate) direction: String,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) megabytes_per_second: f64,
    /// Rate of the slowest transfer by the mean rate.
    pub(crate) slowest_to_mean: f64,
    pub(crate) processes: Vec<Cost>,
}

/// A process's use, and its share per unit of work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cost {
    #[serde(flatten)]
    pub(crate) spent: Spent,
    /// CPU microseconds per request, or milliseconds per gigabyte.
    pub(crate) per_unit: f64,
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
        Self::per(spent, requests as f64)
    }

    /// CPU milliseconds per gigabyte.
    pub(crate) fn per_gigabyte(spent: Spent, bytes: u64) -> Self {
        // Microseconds per megabyte is the same number.
        Self::per(spent, bytes as f64 / 1e6)
    }

    fn per(spent: Spent, units: f64) -> Self {
        let per_unit = if units > 0.0 {
            spent.cpu_us as f64 / units
        } else {
            0.0
        };
        Self { spent, per_unit }
    }
}

/// Points of a distribution from its fastest value up to its 99.99th percentile. They are evenly spread over
/// the logarithm of the share that is slower, as such curves are drawn.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    const PER_DECADE: u32 = 8;
    const DECADES: u32 = 4;
    (0..=PER_DECADE * DECADES)
        .map(|step| {
            let share = 1.0 - 10_f64.powf(-f64::from(step) / f64::from(PER_DECADE));
            (share, histogram.value_at_quantile(share))
        })
        .collect()
}

/// Prints a report of `load`.
pub(crate) fn print_load(report: &LoadReport, json: bool) -> Result<()> {
    if json {
        return print(&(serde_json::to_string_pretty(report)? + "\n"));
    }
    let offered = report.offered_per_second.map_or_else(
        || "offered as fast as answered".to_owned(),
        |rate| format!("offered {rate}/s"),
    );
    let mut text = format!(
        "{offered}: {} due, {} answered ({:.1}/s), {} failed, {} unanswered\n",
        report.due, report.answered, report.achieved_per_second, report.failed, report.unanswered
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
            slowest_to_mean,
            processes,
        } = report;
        text.push_str(&format!(
            "{direction}: {bytes} bytes in {seconds:.2} s, {megabytes_per_second:.1} MB/s, slowest to mean {slowest_to_mean:.2}\n"
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
        "{:24} {:>8} {:>9} {:>9} {:>9} {:>12} {:>10} {:>10} {:>10}\n",
        "process", "pid", "CPU ms", "user", "system", unit, "switches", "RSS KiB", "peak KiB"
    );
    for Cost { spent, per_unit } in processes {
        let Spent {
            name,
            pid,
            cpu_us,
            user_us,
            system_us,
            switches,
            rss_start_kib,
            rss_peak_kib,
        } = spent;
        let [cpu, user, system] = [cpu_us, user_us, system_us].map(|us| *us as f64 / 1e3);
        text.push_str(&format!(
            "{name:24} {pid:>8} {cpu:>9.1} {user:>9.1} {system:>9.1} {per_unit:>12.1} {switches:>10} {rss_start_kib:>10} {rss_peak_kib:>10}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_and_ends_at_the_slow_tail() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=100_000).for_each(|value| histogram.record(value).unwrap());
        let points = curve(&histogram);
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        let (share, value) = points[points.len() - 1];
        assert!((share - 0.9999).abs() < 1e-9 && (99_900..=100_100).contains(&value));
    }

    #[test]
    fn cost_is_per_request_or_per_gigabyte() {
        let spent = Spent {
            name: "x".to_owned(),
            pid: 1,
            cpu_us: 2_000_000,
            user_us: 0,
            system_us: 0,
            switches: 0,
            rss_start_kib: 0,
            rss_peak_kib: 0,
        };
        assert!((Cost::per_request(spent.clone(), 1_000).per_unit - 2_000.0).abs() < 1e-9);
        assert!((Cost::per_gigabyte(spent.clone(), 500_000_000).per_unit - 4_000.0).abs() < 1e-9);
        assert!(Cost::per_request(spent, 0).per_unit.abs() < 1e-9);
    }
}
