//! System calls per unit of work, counted by `perf stat` on the kernel's trace points.
//!
//! Counting slows each call down, so it happens beside a load of its own whose other figures are thrown away.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use adit_tests::deadline;
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Bench;
use super::bulk::BulkShape;
use super::layout::on;
use super::requests::RequestShape;
use super::series::Figure;
use super::subject::Running;
use super::tool;

/// The calls told apart, each with the trace points that count as it.
const CALLS: [(&str, &[&str]); 9] = [
    ("all", &["raw_syscalls:sys_enter"]),
    ("io_uring_enter", &["syscalls:sys_enter_io_uring_enter"]),
    (
        "sendmsg",
        &["syscalls:sys_enter_sendmsg", "syscalls:sys_enter_sendmmsg"],
    ),
    (
        "recvmsg",
        &["syscalls:sys_enter_recvmsg", "syscalls:sys_enter_recvmmsg"],
    ),
    ("send", &["syscalls:sys_enter_sendto"]),
    ("recv", &["syscalls:sys_enter_recvfrom"]),
    ("read", &["syscalls:sys_enter_read", "syscalls:sys_enter_readv"]),
    (
        "write",
        &["syscalls:sys_enter_write", "syscalls:sys_enter_writev"],
    ),
    (
        "epoll",
        &["syscalls:sys_enter_epoll_wait", "syscalls:sys_enter_epoll_pwait"],
    ),
];

/// Length of the load around the counting.
const LOAD: Duration = Duration::from_millis(2_500);

/// Length of the counting, in the middle of the load so that no connection is made during it.
const WINDOW_SECONDS: f64 = 1.0;

/// From the start of the load to the start of the counting.
const LEAD: Duration = Duration::from_millis(700);

/// Limit for anything here.
const LIMIT: Duration = Duration::from_secs(30);

/// Calls per request of each process, at the fixed rate.
pub(crate) fn per_request(
    bench: &Bench,
    shape: &RequestShape,
    running: &Running,
    rate: u32,
) -> Result<Vec<Figure>> {
    if running.processes.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = shape.steady(bench, running, rate, LOAD);
    let mut load = on(&bench.layout.load, || {
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    })?
    .context("cannot start the load")?;
    // The load itself takes this long to connect; there is nothing to wait on.
    std::thread::sleep(LEAD);
    let counters = start(bench, running, Some(WINDOW_SECONDS));
    let counted = counters.and_then(|counters| {
        counters
            .into_iter()
            .map(Counter::finish)
            .collect::<Result<Vec<_>>>()
    });
    wait(&mut load)?;
    Ok(figures(counted?, f64::from(rate) * WINDOW_SECONDS, "request"))
}

/// Calls per gigabyte of each process, both directions together.
pub(crate) fn per_gigabyte(bench: &Bench, shape: &BulkShape, running: &Running) -> Result<Vec<Figure>> {
    if running.processes.is_empty() {
        return Ok(Vec::new());
    }
    let counters = start(bench, running, None)?;
    // perf does not say when it counts.
    std::thread::sleep(LEAD);
    let reports = shape.transfer(bench, &mut shape.command(bench, running));
    let counted = counters
        .into_iter()
        .map(Counter::interrupt)
        .collect::<Result<Vec<_>>>();
    let bytes: u64 = reports?.iter().map(|report| report.bytes).sum();
    Ok(figures(counted?, bytes as f64 / 1e9, "gb"))
}

/// A `perf stat` on the processes of one name.
struct Counter {
    process: String,
    child: Child,
}

fn start(bench: &Bench, running: &Running, seconds: Option<f64>) -> Result<Vec<Counter>> {
    let names = running.process_names();
    let begin = |process: String| {
        let mut command = perf(&running.pids(&process), seconds);
        let child = on(&bench.layout.load, || command.spawn())?;
        let child = child.context("cannot start perf (Debian's package linux-perf)")?;
        Ok(Counter { process, child })
    };
    names.into_iter().map(begin).collect()
}

fn perf(pids: &[u32], seconds: Option<f64>) -> Command {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let mut command = tool::program("perf");
    command.args(["stat", "-x", ",", "-p", &pids.join(",")]);
    for (_, points) in CALLS {
        for point in points {
            command.args(["-e", point]);
        }
    }
    if let Some(seconds) = seconds {
        command.arg("--").arg("sleep").arg(seconds.to_string());
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Counter {
    fn interrupt(self) -> Result<(String, BTreeMap<&'static str, f64>)> {
        let pid = i32::try_from(self.child.id()).context("process ids fit an i32")?;
        kill(Pid::from_raw(pid), Signal::SIGINT).context("cannot stop perf")?;
        self.finish()
    }

    fn finish(mut self) -> Result<(String, BTreeMap<&'static str, f64>)> {
        wait(&mut self.child)?;
        let output = self.child.wait_with_output().context("cannot hear perf")?;
        let text = String::from_utf8_lossy(&output.stderr);
        let counts = parse(&text);
        ensure!(
            counts.contains_key("all"),
            "perf stat says: {}",
            text.lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("nothing")
        );
        Ok((self.process, counts))
    }
}

fn wait(child: &mut Child) -> Result<()> {
    if deadline::within(LIMIT, || child.try_wait().transpose()).is_none() {
        child.kill().context("cannot end a child that took too long")?;
    }
    Ok(())
}

/// Counts by our names, from the output of `perf stat -x ,`: value, unit, event, …
fn parse(text: &str) -> BTreeMap<&'static str, f64> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let (Some(value), Some(event)) = (fields.first(), fields.get(2)) else {
            continue;
        };
        // "<not counted>" and "<not supported>" are no numbers.
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        if let Some((name, _)) = CALLS.iter().find(|(_, points)| points.contains(event)) {
            *counts.entry(*name).or_insert(0.0) += value;
        }
    }
    counts
}

fn figures(counted: Vec<(String, BTreeMap<&'static str, f64>)>, units: f64, unit: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (process, counts) in counted {
        for (name, count) in counts {
            figures.push(Figure::of(
                format!("calls.{name}_per_{unit}"),
                process.clone(),
                count / units,
            ));
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_points_add_up_to_calls() {
        let text = "100,,raw_syscalls:sys_enter,618581,100.00,,\n3,,syscalls:sys_enter_sendmsg,1,100.00,,\n\
                    4,,syscalls:sys_enter_sendmmsg,1,100.00,,\n<not counted>,,syscalls:sys_enter_recvmsg,0,0.00,,\n";
        let counts = parse(text);
        assert_eq!(counts.get("all"), Some(&100.0));
        assert_eq!(counts.get("sendmsg"), Some(&7.0));
        assert_eq!(counts.get("recvmsg"), None);
        let figures = figures(vec![("edge".to_owned(), counts)], 50.0, "request");
        assert_eq!(figures[0], Figure::of("calls.all_per_request", "edge", 2.0));
    }

    #[test]
    fn words_of_failure_are_no_counts() {
        assert!(parse("event syntax error: 'raw_syscalls:sys_enter'\n").is_empty());
    }
}
