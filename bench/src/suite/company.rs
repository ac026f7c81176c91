//! Who else used the subject's CPUs while it was measured: other programs, and the hypervisor.
//!
//! A subject that shares its CPU finds its caches cold and pays more for the same work. So figures taken
//! beside other processes are worth less.

use std::fs;
use std::time::Instant;

use super::layout::Layout;
use super::series::Figure;
use super::subject::Running;
use crate::report::Cost;

/// Microseconds per tick in `/proc/stat`.
const TICK_US: f64 = 10_000.0;

/// The figure's name.
pub(crate) const FIGURE: &str = "others_cpu_percent";

/// Looks at the subject's CPUs from its making on.
#[derive(Debug)]
pub(crate) struct Company {
    cpus: Vec<usize>,
    start: Instant,
    before: u64,
}

impl Company {
    /// Starts; none when the load runs on the same CPU, which makes the question pointless.
    pub(crate) fn start(layout: &Layout) -> Option<Self> {
        let mut cpus = [layout.edge.as_slice(), layout.connector.as_slice()].concat();
        cpus.sort_unstable();
        cpus.dedup();
        (!layout.is_crowded()).then(|| Self {
            before: busy(&cpus),
            start: Instant::now(),
            cpus,
        })
    }

    /// CPU that others and the hypervisor took, in percent of the subject's CPUs. `processes` says what the
    /// subject itself took.
    pub(crate) fn stop(self, running: &Running, processes: &[Cost]) -> Figure {
        let after = busy(&self.cpus);
        let whole_us = self.start.elapsed().as_secs_f64() * 1e6 * self.cpus.len() as f64;
        let names = running.process_names();
        let own_us: u64 = processes
            .iter()
            .filter(|cost| names.contains(&cost.spent.name))
            .map(|cost| cost.spent.cpu_us)
            .sum();
        let busy_us = after.saturating_sub(self.before) as f64 * TICK_US;
        Figure::new(FIGURE, ((busy_us - own_us as f64) * 100.0 / whole_us).max(0.0))
    }
}

/// Ticks that programs used or the hypervisor took, on these CPUs together.
fn busy(cpus: &[usize]) -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    cpus.iter().filter_map(|cpu| ticks(&text, *cpu)).sum()
}

fn ticks(stat: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    let programs: u64 = fields.get(..3)?.iter().sum();
    Some(programs + fields.get(7).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_nice_system_and_stolen_time_count() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 3 100 5 6 7 8 0 0\ncpu10 50 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(ticks(stat, 1), Some(14));
        assert_eq!(ticks(stat, 10), Some(50));
        assert_eq!(ticks(stat, 2), None);
    }
}
