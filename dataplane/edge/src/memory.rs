//! The memory budget of an edge process, as one core keeps it.
//!
//! Two bounds, both `limits.memory`: the cores' shares bound what exchanges under way may come to need, before they
//! need it, and the kernel's count of resident memory bounds what the process has, whatever for. Above either of them
//! new exchanges are refused; those under way go on and give memory back.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How old the kernel's count may be. A read takes about 20 us.
const COUNT_AGE_MAX: Duration = Duration::from_millis(100);

/// Longer than `/proc/self/status` is up to the line that is looked for.
const STATUS_BYTES: usize = 4_096;

/// What a core may still take on.
#[derive(Debug)]
pub(crate) struct Memory {
    budget_bytes: u64,
    share_bytes: u64,
    accounted_bytes: Cell<u64>,
    /// `None` where the kernel does not tell; then only the shares count.
    status: Option<File>,
    resident_bytes: Cell<u64>,
    counted_at: Cell<Option<Instant>>,
}

impl Memory {
    /// A budget of `budget_bytes`, shared evenly among `cores`.
    pub(crate) fn new(budget_bytes: u64, cores: usize) -> Self {
        Self::with_status(budget_bytes, cores, Path::new("/proc/self/status"))
    }

    fn with_status(budget_bytes: u64, cores: usize, status: &Path) -> Self {
        Self {
            budget_bytes,
            share_bytes: budget_bytes / cores as u64,
            accounted_bytes: Cell::new(0),
            status: File::open(status).ok(),
            resident_bytes: Cell::new(0),
            counted_at: Cell::new(None),
        }
    }

    /// Accounts `bytes` to an exchange; false when the budget is used up.
    pub(crate) fn admit(&self, bytes: u64, now: Instant) -> bool {
        let wanted = self.accounted_bytes.get() + bytes;
        if wanted > self.share_bytes || self.resident(now) > self.budget_bytes {
            return false;
        }
        self.accounted_bytes.set(wanted);
        true
    }

    /// Gives accounted bytes back.
    pub(crate) fn release(&self, bytes: u64) {
        let left = self.accounted_bytes.get().saturating_sub(bytes);
        self.accounted_bytes.set(left);
    }

    /// Bytes accounted to exchanges under way.
    pub(crate) fn accounted(&self) -> u64 {
        self.accounted_bytes.get()
    }

    /// The process's resident bytes, at most [`COUNT_AGE_MAX`] old; 0 where the kernel does not tell.
    pub(crate) fn resident(&self, now: Instant) -> u64 {
        let is_fresh = |at| now.saturating_duration_since(at) < COUNT_AGE_MAX;
        if !self.counted_at.get().is_some_and(is_fresh) {
            self.counted_at.set(Some(now));
            self.resident_bytes.set(self.count().unwrap_or(0));
        }
        self.resident_bytes.get()
    }

    fn count(&self) -> Option<u64> {
        let mut text = [0; STATUS_BYTES];
        let length = self.status.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1_024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_core_takes_its_share_and_gets_it_back() {
        let memory = Memory::with_status(4 * MIB, 2, Path::new("/nowhere"));
        let now = Instant::now();
        assert!(memory.admit(MIB, now) && memory.admit(MIB, now));
        assert!(!memory.admit(1, now));
        memory.release(MIB);
        assert_eq!(memory.accounted(), MIB);
        assert!(memory.admit(MIB, now));
    }

    #[test]
    fn a_process_above_its_budget_takes_nothing_more() {
        let status = tempfile::NamedTempFile::new().unwrap();
        let set = |kib: u64| {
            std::fs::write(status.path(), format!("VmHWM:\t 999999 kB\nVmRSS:\t  {kib} kB\n")).unwrap();
        };
        set(64 << 10);
        let memory = Memory::with_status(64 * MIB, 1, status.path());
        let start = Instant::now();
        assert!(memory.admit(MIB, start));
        set((64 << 10) + 1);
        assert!(memory.admit(MIB, start + COUNT_AGE_MAX / 2));
        assert!(!memory.admit(MIB, start + COUNT_AGE_MAX));
        set(1);
        assert!(memory.admit(MIB, start + 2 * COUNT_AGE_MAX));
    }

    #[test]
    fn this_process_is_counted() {
        assert!(Memory::new(MIB, 1).resident(Instant::now()) > MIB);
    }
}
