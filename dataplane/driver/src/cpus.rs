//! Which CPUs cores are pinned to: read from text, checked against the machine, dealt out.
//!
//! Without a choice these are the CPUs that this process may use, in order. A choice may name others: what
//! binds is the control group's cpuset, not the affinity the process was started with.
//!
//! Does not: start or pin cores ([`core`](crate::core) does).

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The kernel's list of CPUs that are there and switched on.
const ONLINE_FILE: &str = "/sys/devices/system/cpu/online";

/// CPUs by the kernel's numbers, each once, in the order in which cores are pinned to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(Vec<usize>);

/// Why CPUs cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpusError {
    /// The list is empty.
    #[error("no CPU is named")]
    None,
    /// Neither a number nor a range.
    #[error("{part:?} is no CPU or range of CPUs, such as 0-3,8")]
    Syntax {
        /// The part of the list.
        part: String,
        /// Why, if it is the number.
        #[source]
        source: Option<ParseIntError>,
    },
    /// A range that ends before it begins.
    #[error("the range {part:?} ends before it begins")]
    Backwards {
        /// The range.
        part: String,
    },
    /// A number that no CPU can have.
    #[error("CPU {cpu} cannot exist: the highest number is {}", CpuSet::count() - 1)]
    TooHigh {
        /// The number.
        cpu: usize,
    },
    /// A CPU is named twice.
    #[error("CPU {cpu} is named twice")]
    Twice {
        /// The CPU.
        cpu: usize,
    },
    /// The machine has no such CPU, or has switched it off.
    #[error("CPU {cpu} is not one of this machine, which has {online}")]
    NotHere {
        /// The CPU.
        cpu: usize,
        /// Those it has.
        online: Cpus,
    },
    /// The control group does not give this process that CPU.
    #[error("CPU {cpu} is not allowed to this process by its cpuset, which allows {allowed}")]
    NotAllowed {
        /// The CPU.
        cpu: usize,
        /// Those it may use.
        allowed: Cpus,
    },
    /// Two cores would share a CPU.
    #[error("{cores} cores need as many CPUs, and {cpus} is only {}", cpus.len())]
    TooFew {
        /// How many cores.
        cores: usize,
        /// The CPUs.
        cpus: Cpus,
    },
}

impl Cpus {
    /// The CPUs the calling thread may use; none if the kernel does not say.
    #[must_use]
    pub fn allowed() -> Self {
        let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
            return Self::default();
        };
        let cpus = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false));
        Self(cpus.collect())
    }

    /// Makes a list.
    ///
    /// # Errors
    /// [`CpusError::None`], [`CpusError::TooHigh`] and [`CpusError::Twice`].
    pub fn new(cpus: impl IntoIterator<Item = usize>) -> Result<Self, CpusError> {
        let mut list = Vec::new();
        for cpu in cpus {
            if cpu >= CpuSet::count() {
                return Err(CpusError::TooHigh { cpu });
            }
            if list.contains(&cpu) {
                return Err(CpusError::Twice { cpu });
            }
            list.push(cpu);
        }
        if list.is_empty() {
            return Err(CpusError::None);
        }
        Ok(Self(list))
    }

    /// Checks that `cores` cores can be pinned to these CPUs, one on each, here and now.
    ///
    /// # Errors
    /// [`CpusError::NotHere`], [`CpusError::NotAllowed`] and [`CpusError::TooFew`].
    pub fn check(&self, cores: usize) -> Result<(), CpusError> {
        let online = std::fs::read_to_string(ONLINE_FILE)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        // A thread of its own, because it is moved about.
        let refused = thread::scope(|scope| {
            let trying = scope.spawn(|| self.0.iter().copied().find(|cpu| !try_cpu(*cpu)));
            trying.join().ok().flatten()
        });
        self.judge(cores, online.as_ref(), refused)
    }

    fn judge(&self, cores: usize, online: Option<&Self>, refused: Option<usize>) -> Result<(), CpusError> {
        if let Some(online) = online
            && let Some(cpu) = self.0.iter().find(|cpu| !online.0.contains(cpu))
        {
            return Err(CpusError::NotHere {
                cpu: *cpu,
                online: online.clone(),
            });
        }
        if let Some(cpu) = refused {
            return Err(CpusError::NotAllowed {
                cpu,
                allowed: granted(online),
            });
        }
        if cores > self.len() {
            return Err(CpusError::TooFew {
                cores,
                cpus: self.clone(),
            });
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, which only [`allowed`](Self::allowed) makes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first `count` of them, or all.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        Self(self.0.iter().copied().take(count).collect())
    }

    /// The last `count` of them, or all.
    #[must_use]
    pub fn last(&self, count: usize) -> Self {
        Self(
            self.0
                .iter()
                .copied()
                .skip(self.len().saturating_sub(count))
                .collect(),
        )
    }

    /// The CPU of the core with this number, round robin.
    pub(crate) fn of_core(&self, index: usize) -> Option<usize> {
        self.0.get(index.checked_rem(self.len())?).copied()
    }
}

/// Those of `online` the kernel would give this process; what it uses now if `online` is unknown.
fn granted(online: Option<&Cpus>) -> Cpus {
    let Some(online) = online else {
        return Cpus::allowed();
    };
    let trying = || Cpus(online.0.iter().copied().filter(|cpu| try_cpu(*cpu)).collect());
    thread::scope(|scope| scope.spawn(trying).join().unwrap_or_default())
}

/// Moves the calling thread to `cpu`, if the kernel lets it.
pub(crate) fn pin(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

fn try_cpu(cpu: usize) -> bool {
    pin(cpu).is_ok()
}

impl FromStr for Cpus {
    type Err = CpusError;

    /// Reads numbers and ranges between commas, as the kernel and `taskset` write them.
    fn from_str(text: &str) -> Result<Self, CpusError> {
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim) {
            let number = |text: &str| {
                text.trim().parse::<usize>().map_err(|source| CpusError::Syntax {
                    part: part.to_owned(),
                    source: Some(source),
                })
            };
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None if part.is_empty() && text.trim().is_empty() => return Err(CpusError::None),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(CpusError::Backwards {
                    part: part.to_owned(),
                });
            }
            // Before the range is written out.
            if last >= CpuSet::count() {
                return Err(CpusError::TooHigh { cpu: last });
            }
            cpus.extend(first..=last);
        }
        Self::new(cpus)
    }
}

/// In the form that [`FromStr`] reads.
impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        let mut comma = "";
        while let [first, ..] = rest {
            let run = (*first..)
                .zip(rest)
                .take_while(|(next, cpu)| next == *cpu)
                .count();
            let (now, later) = rest.split_at(run);
            match now {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                _ => write!(f, "{comma}{first}")?,
            }
            (comma, rest) = (",", later);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> Cpus {
        text.parse().unwrap()
    }

    #[test]
    fn lists_and_ranges_are_read_in_their_order_and_shown_alike() {
        for (text, wanted) in [
            ("0", &[0][..]),
            ("0-3,8", &[0, 1, 2, 3, 8]),
            (" 5 , 1 - 2 ", &[5, 1, 2]),
            ("3,2,1", &[3, 2, 1]),
        ] {
            let read = cpus(text);
            assert_eq!(read.0, wanted, "{text:?}");
            assert_eq!(cpus(&read.to_string()), read);
        }
        assert_eq!(cpus("0,1,2,5,7,8").to_string(), "0-2,5,7-8");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, wanted) in [
            ("", "no CPU is named"),
            ("a", "\"a\" is no CPU or range"),
            ("0,,1", "\"\" is no CPU or range"),
            ("-1", "\"-1\" is no CPU or range"),
            ("0-1-2", "\"0-1-2\" is no CPU or range"),
            ("3-1", "the range \"3-1\" ends before it begins"),
            (
                "0-99999999999",
                "CPU 99999999999 cannot exist: the highest number is 1023",
            ),
            ("1024", "CPU 1024 cannot exist"),
            ("0-2,1", "CPU 1 is named twice"),
        ] {
            let told = text.parse::<Cpus>().unwrap_err().to_string();
            assert!(told.contains(wanted), "{text:?}: {told}");
        }
    }

    #[test]
    fn the_machine_the_cpuset_and_the_cores_are_asked_in_this_order() {
        let (asked, online) = (cpus("0,4"), cpus("0-3"));
        assert_eq!(
            asked.judge(1, Some(&online), Some(4)),
            Err(CpusError::NotHere { cpu: 4, online })
        );
        let refused = asked.judge(3, None, Some(4));
        assert!(
            matches!(refused, Err(CpusError::NotAllowed { cpu: 4, .. })),
            "{refused:?}"
        );
        let few = asked.judge(3, None, None).unwrap_err();
        assert_eq!(few.to_string(), "3 cores need as many CPUs, and 0,4 is only 2");
        assert_eq!(asked.judge(2, None, None), Ok(()));
    }

    #[test]
    fn what_this_process_may_use_passes_and_its_thread_stays_where_it_was() {
        let allowed = Cpus::allowed();
        assert_eq!(allowed.check(allowed.len()), Ok(()));
        assert_eq!(Cpus::allowed(), allowed);
        let nowhere = Cpus::new([CpuSet::count() - 1]).unwrap();
        assert!(matches!(nowhere.check(1), Err(CpusError::NotHere { .. })));
    }

    #[test]
    fn parts_and_rounds() {
        let all = cpus("4-8");
        assert_eq!((all.first(2), all.last(2)), (cpus("4-5"), cpus("7-8")));
        assert_eq!((all.first(9), all.last(9)), (all.clone(), all.clone()));
        assert_eq!((all.of_core(4), all.of_core(5)), (Some(8), Some(4)));
        assert_eq!(Cpus::default().of_core(0), None);
    }
}
