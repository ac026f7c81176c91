//! Which CPUs belong to whom, so that a subject and its load do not take time from each other.
//!
//! | CPUs | load | origin | edge, proxy | connector |
//! |---|---|---|---|---|
//! | 1 | 0 | 0 | 0 | 0 |
//! | 2 | 0 | 0 | 1 | 1 |
//! | 3 | 0 | 0 | 1 | 2 |
//! | 4 and more | 0 | 1 | 2 | 3 |
//!
//! A child inherits the CPUs of the thread that starts it, so we pin it by moving ourselves for a moment.

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

/// The CPUs of each part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Layout {
    /// Every CPU this process may use.
    pub(crate) all: Vec<usize>,
    /// The load generator's.
    pub(crate) load: Vec<usize>,
    /// The origin's.
    pub(crate) origin: Vec<usize>,
    /// The edge's, or a proxy's that stands in its place.
    pub(crate) edge: Vec<usize>,
    /// The connector's.
    pub(crate) connector: Vec<usize>,
}

impl Layout {
    /// Divides the CPUs that this process may use.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let set = sched_getaffinity(Pid::from_raw(0)).context("cannot ask which CPUs may be used")?;
        let is_ours = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
        let all: Vec<usize> = (0..CpuSet::count()).filter(is_ours).collect();
        ensure!(!all.is_empty(), "there is no CPU to use");
        Ok(Self::divide(all))
    }

    fn divide(all: Vec<usize>) -> Self {
        let [load, origin, edge, connector] = match all.len() {
            0 | 1 => [0, 0, 0, 0],
            2 => [0, 0, 1, 1],
            3 => [0, 0, 1, 2],
            _ => [0, 1, 2, 3],
        }
        .map(|index: usize| all.get(index).copied().into_iter().collect());
        Self {
            all,
            load,
            origin,
            edge,
            connector,
        }
    }

    /// Whether the subject has to share its CPU with the load.
    pub(crate) fn is_crowded(&self) -> bool {
        self.load == self.edge
    }
}

/// Does something on these CPUs; whatever it starts stays there.
pub(crate) fn on<T>(cpus: &[usize], work: impl FnOnce() -> T) -> Result<T> {
    let here = Pid::from_raw(0);
    let before = sched_getaffinity(here).context("cannot ask which CPUs may be used")?;
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).with_context(|| format!("there is no CPU {cpu}"))?;
    }
    sched_setaffinity(here, &set).with_context(|| format!("cannot move to the CPUs {cpus:?}"))?;
    let done = work();
    sched_setaffinity(here, &before).context("cannot move back")?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_and_subject_are_apart_wherever_there_are_two_cpus() {
        let of = |count| Layout::divide((0..count).collect());
        assert!(of(1).is_crowded());
        for count in 2..9 {
            let layout = of(count);
            assert!(!layout.is_crowded(), "{count}");
            assert!(!layout.connector.contains(&layout.load[0]), "{count}");
        }
        assert_eq!(of(8).connector, [3]);
    }

    #[test]
    fn what_is_started_on_a_cpu_stays_there_and_we_come_back() {
        let layout = Layout::of_this_machine().unwrap();
        let listed = on(&layout.load, || {
            let output = std::process::Command::new("sh")
                .args(["-c", "grep Cpus_allowed_list /proc/self/status"])
                .output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        });
        assert!(listed.unwrap().trim().ends_with(&layout.load[0].to_string()));
        assert_eq!(Layout::of_this_machine().unwrap(), layout);
    }
}
