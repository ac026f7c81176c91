//! Requests: how many a subject takes (closed loop), and latency and cost at a fixed rate (open loop).

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Bench;
use super::company::Company;
use super::scenario::Measured;
use super::series::{Figure, TOTAL};
use super::subject::{HOST, Origin, Running};
use super::tool;
use crate::report::{Cost, LoadReport};

/// Added to a load's own length before it is ended from outside.
const GRACE: Duration = Duration::from_secs(15);

/// Length of the load that finds out what a subject takes, for the choice of the rate.
const CALIBRATION: Duration = Duration::from_millis(700);

/// The fixed rate, as a share of what the slowest subject takes.
const RATE_SHARE: f64 = 0.4;

/// Share of its CPU above which the generator may be what limits a run.
const GENERATOR_BUSY: f64 = 0.9;

/// How requests are sent.
#[derive(Debug, Clone)]
pub(crate) struct RequestShape {
    /// Which of our loads sends them, and its flags.
    load: &'static [&'static str],
    path: &'static str,
    connections: u32,
    /// Whether to find out how much a subject takes.
    is_pushed: bool,
    /// The fixed rate; none when it is calibrated.
    rate: Option<u32>,
}

impl RequestShape {
    /// HTTP/1.1 with 64 connections.
    pub(crate) const H1: Self = Self {
        load: &["load"],
        path: "/",
        connections: 64,
        is_pushed: true,
        rate: None,
    };

    /// HTTP/2 with 64 requests in flight on few connections.
    pub(crate) const H2: Self = Self {
        load: &["load", "--h2", "--streams", "16"],
        connections: 4,
        ..Self::H1
    };

    /// A new connection for each request.
    pub(crate) const FRESH: Self = Self {
        load: &["load", "--fresh"],
        connections: 16,
        ..Self::H1
    };

    /// Messages over WebSocket.
    pub(crate) const WEBSOCKET: Self = Self {
        load: &["load", "--websocket"],
        path: "/ws",
        ..Self::H1
    };

    /// One request at a time.
    pub(crate) const ALONE: Self = Self {
        connections: 1,
        is_pushed: false,
        rate: Some(100),
        ..Self::H1
    };

    /// A few requests a second over a long way.
    pub(crate) const FAR: Self = Self {
        connections: 16,
        is_pushed: false,
        rate: Some(50),
        ..Self::H1
    };

    /// As [`Self::H1`], at a rate that one core takes anywhere.
    pub(crate) const CORES: Self = Self {
        rate: Some(1_000),
        ..Self::H1
    };

    /// Events of 16 streams, one each 10 ms on each.
    pub(crate) const EVENTS: Self = Self {
        load: &["events", "--every", "10ms"],
        path: "",
        connections: 16,
        is_pushed: false,
        rate: Some(1600),
    };

    /// The rate that needs no calibration.
    pub(crate) const fn rate(&self) -> Option<u32> {
        self.rate
    }

    /// The load as fast as answers come.
    fn busy(&self, bench: &Bench, running: &Running, length: Duration) -> Command {
        let mut command = self.command(bench, running, length);
        command.arg("--closed");
        command
    }

    /// The load at a fixed rate.
    pub(crate) fn steady(&self, bench: &Bench, running: &Running, rate: u32, length: Duration) -> Command {
        let mut command = self.command(bench, running, length);
        // Events come at the rate of their streams.
        if self.load.first() == Some(&"load") {
            command.arg("--rate").arg(rate.to_string());
        }
        command
    }

    fn command(&self, bench: &Bench, running: &Running, length: Duration) -> Command {
        let mut command = tool::program(&bench.program);
        command.args(self.load);
        command.arg(format!("https://{}{}", running.https, self.path));
        command.args(["--host", HOST, "--cacert"]).arg(&running.root);
        command.args(["--connections", &self.connections.to_string()]);
        command
            .arg("--duration")
            .arg(format!("{}ms", length.as_millis()))
            .arg("--json");
        command
    }
}

/// The fixed rate for these subjects: a share of what the slowest takes, in round numbers.
pub(crate) fn calibrate(
    bench: &Bench,
    shape: &RequestShape,
    origin: &Origin,
    subjects: &[&Running],
) -> Result<u32> {
    let mut slowest = f64::INFINITY;
    for running in subjects {
        let mut command = shape.busy(bench, running, CALIBRATION);
        // A subject that fails here will fail in the rounds too, where it is noted.
        if let Ok(report) = load(bench, &mut command, running, origin, CALIBRATION) {
            slowest = slowest.min(report.achieved_per_second);
        }
    }
    ensure!(slowest.is_finite(), "no subject answered the calibrating load");
    Ok(round_down(slowest * RATE_SHARE))
}

/// Down to two leading digits, at least 1.
fn round_down(rate: f64) -> u32 {
    let rate = rate.max(1.0) as u32;
    let step = 10_u32.pow(rate.ilog10().saturating_sub(1));
    rate / step * step
}

/// One round of one subject.
pub(crate) fn measure(
    bench: &Bench,
    shape: &RequestShape,
    origin: &Origin,
    running: &Running,
    rate: u32,
) -> Result<Measured> {
    let settings = &bench.settings;
    let mut measured = Measured::default();
    if shape.is_pushed {
        push(bench, shape, origin, running, &mut measured)?;
    }
    let mut steady = shape.steady(bench, running, rate, settings.steady);
    let company = Company::start(&bench.layout);
    let report = load(bench, &mut steady, running, origin, settings.steady)?;
    if let Some(company) = company {
        measured.figures.push(company.stop(running, &report.processes));
    }
    let times = &report.latency_us;
    for (name, value) in [
        ("p50", times.p50),
        ("p90", times.p90),
        ("p99", times.p99),
        ("p99.9", times.p999),
    ] {
        measured
            .figures
            .push(Figure::new(format!("steady.{name}_us"), value as f64));
    }
    measured
        .figures
        .extend(costs("steady", "us_per_request", running, &report.processes));
    measured.figures.extend(per_unit(
        running,
        &report.processes,
        report.answered as f64,
        "request",
    ));
    measured
        .notes
        .extend(check(&report, "fixed rate", settings.steady));
    measured.curve = report.latency_curve;
    measured.commands.push(tool::line(&steady));
    Ok(measured)
}

/// Finds out how much the subject takes, and at which cost.
fn push(
    bench: &Bench,
    shape: &RequestShape,
    origin: &Origin,
    running: &Running,
    measured: &mut Measured,
) -> Result<()> {
    let length = bench.settings.busy;
    let mut command = shape.busy(bench, running, length);
    let report = load(bench, &mut command, running, origin, length)?;
    measured
        .figures
        .push(Figure::new("busy.requests_per_s", report.achieved_per_second));
    measured
        .figures
        .extend(costs("busy", "us_per_request", running, &report.processes));
    measured.notes.extend(check(&report, "busy", length));
    measured.commands.push(tool::line(&command));
    Ok(())
}

fn load(
    bench: &Bench,
    command: &mut Command,
    running: &Running,
    origin: &Origin,
    length: Duration,
) -> Result<LoadReport> {
    for (name, pid) in running.processes.iter().chain([&origin.watched()]) {
        command.arg("--pid").arg(format!("{name}={pid}"));
    }
    let text = tool::run(command, &bench.layout.load, length + GRACE)?;
    serde_json::from_str(&text).context("the load's report is not what we know")
}

/// CPU of each process of the subject, and of all together, per unit of work.
pub(crate) fn costs(phase: &str, unit: &str, running: &Running, processes: &[Cost]) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut all = [0.0; 3];
    for name in running.process_names() {
        let of_name = || processes.iter().filter(|cost| cost.spent.name == name);
        let cpu: f64 = of_name().map(|cost| cost.per_unit).sum();
        let cpu_us: u64 = of_name().map(|cost| cost.spent.cpu_us).sum();
        let user_us: u64 = of_name().map(|cost| cost.spent.user_us).sum();
        let user = cpu * user_us as f64 / (cpu_us as f64).max(1.0);
        for (index, (part, value)) in [("cpu", cpu), ("user", user), ("system", cpu - user)]
            .into_iter()
            .enumerate()
        {
            all[index] += value;
            figures.push(Figure::of(format!("{phase}.{part}_{unit}"), name.clone(), value));
        }
    }
    if !figures.is_empty() {
        for (part, value) in ["cpu", "user", "system"].into_iter().zip(all) {
            figures.push(Figure::of(format!("{phase}.{part}_{unit}"), TOTAL, value));
        }
    }
    figures
}

/// Memory peak, and context switches per unit of work, of each process of the subject.
pub(crate) fn per_unit(running: &Running, processes: &[Cost], units: f64, unit: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    for name in running.process_names() {
        let of_name = || processes.iter().filter(|cost| cost.spent.name == name);
        let peak: u64 = of_name().map(|cost| cost.spent.rss_peak_kib).sum();
        let switches: u64 = of_name().map(|cost| cost.spent.switches).sum();
        figures.push(Figure::of("rss_peak_mib", name.clone(), peak as f64 / 1024.0));
        figures.push(Figure::of(
            format!("switches_per_{unit}"),
            name,
            switches as f64 / units.max(1e-9),
        ));
    }
    figures
}

/// What makes a load's figures doubtful.
fn check(report: &LoadReport, phase: &str, length: Duration) -> Vec<String> {
    let mut notes = Vec::new();
    let bad: u64 = report
        .statuses
        .iter()
        .filter(|(status, _)| **status != 200)
        .map(|(_, count)| count)
        .sum();
    if report.failed + report.unanswered + bad > 0 {
        notes.push(format!(
            "{phase}: {} failed, {} unanswered, {bad} with another status than 200",
            report.failed, report.unanswered
        ));
    }
    let generator = report
        .processes
        .iter()
        .find(|cost| cost.spent.name == "adit-bench");
    let share = generator.map_or(0.0, |cost| cost.spent.cpu_us as f64 / length.as_micros() as f64);
    if share > GENERATOR_BUSY {
        notes.push(format!(
            "{phase}: the generator used {:.0} % of its CPU",
            share * 100.0
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_two_leading_digits() {
        for (exact, rounded) in [
            (0.2, 1),
            (7.9, 7),
            (98.0, 98),
            (1_234.0, 1_200),
            (98_765.0, 98_000),
        ] {
            assert_eq!(round_down(exact), rounded);
        }
    }
}
