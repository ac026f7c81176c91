//! CPU time and memory of processes, from `/proc`.
//!
//! CPU time has the kernel's clock tick (10 ms) as its resolution and includes threads that have ended.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};
use serde::Serialize;

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
    user_ms: u64,
    system_ms: u64,
    rss_kib: u64,
}

/// What a process used during a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Spent {
    /// Name in the report.
    pub(crate) name: String,
    /// Process id.
    pub(crate) pid: u32,
    /// CPU time in user mode.
    pub(crate) user_ms: u64,
    /// CPU time in the kernel.
    pub(crate) system_ms: u64,
    /// Resident memory at the start.
    pub(crate) rss_start_kib: u64,
    /// Most resident memory seen.
    pub(crate) rss_peak_kib: u64,
}

impl Spent {
    /// User and system time.
    pub(crate) const fn cpu_ms(&self) -> u64 {
        self.user_ms + self.system_ms
    }
}

/// Watches processes from its making until [`Meter::stop`].
#[derive(Debug)]
pub(crate) struct Meter {
    processes: Vec<(Watched, Usage, u64)>,
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
        let begin = |process: Watched| {
            let usage = usage(process.pid)
                .with_context(|| format!("process {} ({}) is not there", process.pid, process.name))?;
            Ok((process, usage, usage.rss_kib))
        };
        Ok(Self {
            processes: watched.into_iter().map(begin).collect::<Result<_>>()?,
        })
    }

    /// Looks at everyone's memory; call it now and then to find the peak.
    pub(crate) fn sample(&mut self) {
        for (process, _, peak) in &mut self.processes {
            *peak = (*peak).max(usage(process.pid).map_or(0, |usage| usage.rss_kib));
        }
    }

    /// What each process used since the start; a process that ended used nothing we can know.
    pub(crate) fn stop(mut self) -> Vec<Spent> {
        self.sample();
        let spent = |(process, before, rss_peak_kib): (Watched, Usage, u64)| {
            let after = usage(process.pid).unwrap_or(before);
            Spent {
                name: process.name,
                pid: process.pid,
                user_ms: after.user_ms.saturating_sub(before.user_ms),
                system_ms: after.system_ms.saturating_sub(before.system_ms),
                rss_start_kib: before.rss_kib,
                rss_peak_kib,
            }
        };
        self.processes.into_iter().map(spent).collect()
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
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let (user_ms, system_ms) = cpu_ms(&stat)?;
    Some(Usage {
        user_ms,
        system_ms,
        rss_kib: rss_kib(&status).unwrap_or(0),
    })
}

fn cpu_ms(stat: &str) -> Option<(u64, u64)> {
    let fields = after_name(stat)?;
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let to_ms = |ticks: u64| ticks * 1000 / TICKS_PER_SECOND;
    // Fields 14 and 15 of proc_pid_stat(5); the first one here is field 3.
    Some((to_ms(ticks(11)?), to_ms(ticks(12)?)))
}

/// The fields behind the program's name, which may itself hold spaces and parentheses.
fn after_name(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

fn rss_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a ) b) S 7 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 1 0 1000 10 20";
        assert_eq!(cpu_ms(stat), Some((1230, 450)));
        assert_eq!(after_name(stat).unwrap()[1], "7");
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        assert_eq!(rss_kib("Name:\tx\nVmRSS:\t    1234 kB\n"), Some(1234));
        assert_eq!(rss_kib("Name:\tx\n"), None);
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
        assert!(spent[0].rss_peak_kib > 0);
    }
}
