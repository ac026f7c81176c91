//! CPU time, memory and context switches of processes, from their CPU clocks and `/proc`.
//!
//! CPU time is exact to the kernel's last tick of each thread and includes threads that have ended. Its
//! division into user and system is an estimate of the kernel by ticks (10 ms). The peak of memory is the
//! kernel's own mark where we may reset it at the start, and else the highest of our samples.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::args::Watch;

/// Ticks per second in `/proc/PID/stat`; the kernel shows this value to programs on every architecture.
const TICKS_PER_SECOND: u64 = 100;

/// Processes that are watched at most.
const WATCHED_MAX: usize = 64;

/// A process with the name it has in the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watched {
    name: String,
    pid: u32,
}

/// What a process had used at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    cpu_us: u64,
    user_us: u64,
    system_us: u64,
    rss_kib: u64,
    peak_kib: u64,
    switches: u64,
}

/// What a process used during a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// Name in the report.
    pub(crate) name: String,
    /// Process id.
    pub(crate) pid: u32,
    /// CPU time.
    pub(crate) cpu_us: u64,
    /// The part of it in user mode.
    pub(crate) user_us: u64,
    /// The part of it in the kernel.
    pub(crate) system_us: u64,
    /// Context switches of the threads that still run, wanted or not.
    pub(crate) switches: u64,
    /// Resident memory at the start.
    pub(crate) rss_start_kib: u64,
    /// Most resident memory during the run.
    pub(crate) rss_peak_kib: u64,
}

/// Watches processes from its making until [`Meter::stop`].
#[derive(Debug)]
pub(crate) struct Meter {
    processes: Vec<Metered>,
}

#[derive(Debug)]
struct Metered {
    process: Watched,
    before: Usage,
    rss_peak_kib: u64,
    /// Whether the kernel's mark of the peak began anew with us.
    is_mark_ours: bool,
}

impl Meter {
    /// Starts watching, ourselves included.
    pub(crate) fn start(watch: &Watch) -> Result<Self> {
        let own = Watched {
            name: "adit-bench".to_owned(),
            pid: std::process::id(),
        };
        let mut watched = find(watch)?;
        watched.push(own);
        Ok(Self {
            processes: watched.into_iter().map(Metered::start).collect::<Result<_>>()?,
        })
    }

    /// Looks at everyone's memory; call it now and then to find the peak.
    pub(crate) fn sample(&mut self) {
        for metered in &mut self.processes {
            let now = memory(metered.process.pid).map_or(0, |(rss_kib, _)| rss_kib);
            metered.rss_peak_kib = metered.rss_peak_kib.max(now);
        }
    }

    /// What each process used since the start; a process that ended used nothing we can know.
    pub(crate) fn stop(mut self) -> Vec<Spent> {
        self.sample();
        self.processes.into_iter().map(Metered::stop).collect()
    }
}

impl Metered {
    fn start(process: Watched) -> Result<Self> {
        // "5" resets the mark of the peak; a process of somebody else's refuses it.
        let is_mark_ours = fs::write(format!("/proc/{}/clear_refs", process.pid), "5").is_ok();
        let before = usage(process.pid)
            .with_context(|| format!("process {} ({}) is not there", process.pid, process.name))?;
        Ok(Self {
            process,
            before,
            rss_peak_kib: before.rss_kib,
            is_mark_ours,
        })
    }

    fn stop(self) -> Spent {
        let Self {
            process,
            before,
            mut rss_peak_kib,
            is_mark_ours,
        } = self;
        let after = usage(process.pid).unwrap_or(before);
        if is_mark_ours {
            rss_peak_kib = rss_peak_kib.max(after.peak_kib);
        }
        let cpu_us = after.cpu_us.saturating_sub(before.cpu_us);
        let user = after.user_us.saturating_sub(before.user_us);
        let system = after.system_us.saturating_sub(before.system_us);
        let user_us = share(cpu_us, user, system);
        Spent {
            name: process.name,
            pid: process.pid,
            cpu_us,
            user_us,
            system_us: cpu_us - user_us,
            switches: after.switches.saturating_sub(before.switches),
            rss_start_kib: before.rss_kib,
            rss_peak_kib,
        }
    }
}

/// The part of `whole` that `one` has of `one + other`.
const fn share(whole: u64, one: u64, other: u64) -> u64 {
    match (whole as u128 * one as u128).checked_div(one as u128 + other as u128) {
        Some(part) => part as u64,
        None => 0,
    }
}

fn find(watch: &Watch) -> Result<Vec<Watched>> {
    let mut found: Vec<Watched> = watch
        .pid
        .iter()
        .map(|(name, pid)| Watched {
            name: name.clone(),
            pid: *pid,
        })
        .collect();
    let ours = own_line();
    for text in &watch.matching {
        let before = found.len();
        let running = fs::read_dir("/proc").context("cannot read /proc")?.flatten();
        for pid in running.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            let matches =
                !ours.contains(&pid) && command_line(pid).is_some_and(|line| line.contains(text.as_str()));
            if matches && found.len() < WATCHED_MAX {
                found.push(Watched {
                    name: text.clone(),
                    pid,
                });
            }
        }
        anyhow::ensure!(
            found.len() > before,
            "no process has '{text}' in its command line"
        );
    }
    Ok(found)
}

/// Ourselves and the processes above us, whose command lines hold our own arguments.
fn own_line() -> BTreeSet<u32> {
    let mut line = BTreeSet::new();
    let mut pid = std::process::id();
    while pid > 1 && line.insert(pid) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        pid = after_name(&stat)
            .and_then(|fields| fields.get(1)?.parse().ok())
            .unwrap_or(0);
    }
    line
}

/// The words of a command line, the program without its folder.
fn command_line(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut words = text.trim_end_matches('\0').split('\0');
    let program = words.next()?.rsplit('/').next()?;
    Some(
        std::iter::once(program)
            .chain(words)
            .collect::<Vec<_>>()
            .join(" "),
    )
}

fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (user_us, system_us) = ticks_us(&stat)?;
    let (rss_kib, peak_kib) = memory(pid)?;
    Some(Usage {
        cpu_us: clock_us(pid).unwrap_or(user_us + system_us),
        user_us,
        system_us,
        rss_kib,
        peak_kib,
        switches: switches(pid),
    })
}

/// The process's CPU clock.
fn clock_us(pid: u32) -> Option<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    let now = clock.now().ok()?;
    let seconds = u64::try_from(now.tv_sec()).ok()?;
    Some(seconds * 1_000_000 + u64::try_from(now.tv_nsec()).ok()? / 1_000)
}

/// Resident memory of a process; 0 when it has ended.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    memory(pid).map_or(0, |(rss_kib, _)| rss_kib)
}

/// Resident memory and the kernel's mark of its peak.
fn memory(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name| number(&status, name).unwrap_or(0);
    Some((field("VmRSS:"), field("VmHWM:")))
}

fn switches(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let statuses = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let names = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
    statuses
        .flat_map(|status| names.map(|name| number(&status, name).unwrap_or(0)))
        .sum()
}

/// User and system time in microseconds.
fn ticks_us(stat: &str) -> Option<(u64, u64)> {
    let fields = after_name(stat)?;
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let to_us = |ticks: u64| ticks * 1_000_000 / TICKS_PER_SECOND;
    // Fields 14 and 15 of proc_pid_stat(5); the first one here is field 3.
    Some((to_us(ticks(11)?), to_us(ticks(12)?)))
}

/// The fields behind the program's name, which may itself hold spaces and parentheses.
fn after_name(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

/// The number behind `name` in a status file, whatever its unit.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a ) b) S 7 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 1 0 1000 10 20";
        assert_eq!(ticks_us(stat), Some((1_230_000, 450_000)));
        assert_eq!(after_name(stat).unwrap()[1], "7");
    }

    #[test]
    fn numbers_of_a_status_file_are_read_by_their_whole_name() {
        let status =
            "Name:\tx\nVmRSS:\t    1234 kB\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t5\n";
        assert_eq!(number(status, "VmRSS:"), Some(1234));
        assert_eq!(number(status, "voluntary_ctxt_switches:"), Some(5));
        assert_eq!(number(status, "VmHWM:"), None);
    }

    #[test]
    fn cpu_time_divides_as_its_ticks_do() {
        assert_eq!(share(1_000, 30, 10), 750);
        assert_eq!(share(1_000, 0, 0), 0);
    }

    #[test]
    fn we_can_watch_ourselves() {
        let nobody = Watch {
            pid: Vec::new(),
            matching: Vec::new(),
            json: false,
        };
        let spent = Meter::start(&nobody).unwrap().stop();
        assert_eq!(spent.len(), 1);
        assert!(spent[0].cpu_us > 0);
        assert!(spent[0].rss_peak_kib > 0);
    }
}
