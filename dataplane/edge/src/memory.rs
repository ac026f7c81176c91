//! The memory budget of an edge process, as one core keeps it.
//!
//! Two bounds, both from `limits.memory`. The cores' shares bound what exchanges under way hold. The kernel's
//! count of resident memory bounds the whole process. What the process had resident when it started is in
//! nobody's share. Above either bound new exchanges are refused; those under way go on and give memory back.
//!
//! The allocator keeps what was freed, which the kernel counts all the same: see [`give_back`].

pub(crate) mod give_back;

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How old the kernel's count may be. A read takes about 20 us.
const COUNT_AGE_MAX: Duration = Duration::from_millis(100);

/// Longer than `/proc/self/status` is up to the line that is looked for.
const STATUS_BYTES: usize = 4_096;

/// The most of the budget that memory resident at the start may take from the shares. Even a budget that is
/// hardly larger than that memory leaves something.
const IDLE_PART_MAX: u64 = 2;

/// Why nothing more is taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Exchanges under way hold the core's share.
    Held,
    /// The process has its budget resident.
    Resident,
}

/// What a core may still take on.
#[derive(Debug)]
pub(crate) struct Memory {
    budget_bytes: Cell<u64>,
    share_bytes: Cell<u64>,
    /// Resident at the start.
    idle_bytes: u64,
    cores: u64,
    /// Held by exchanges.
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
        let mut memory = Self {
            budget_bytes: Cell::new(0),
            share_bytes: Cell::new(0),
            idle_bytes: 0,
            cores: cores as u64,
            accounted_bytes: Cell::new(0),
            status: File::open(status).ok(),
            resident_bytes: Cell::new(0),
            counted_at: Cell::new(None),
        };
        memory.idle_bytes = memory.count().unwrap_or(0);
        memory.set_budget(budget_bytes);
        memory
    }

    /// Changes the budget. What exchanges hold they keep, even above a smaller one.
    pub(crate) fn set_budget(&self, budget_bytes: u64) {
        let idle = self.idle_bytes.min(budget_bytes / IDLE_PART_MAX);
        self.budget_bytes.set(budget_bytes);
        self.share_bytes.set((budget_bytes - idle) / self.cores);
    }

    /// Accounts `bytes` to an exchange.
    ///
    /// # Errors
    /// Why there is no room for it.
    pub(crate) fn admit(&self, bytes: u64, now: Instant) -> Result<(), Shortage> {
        if bytes > self.free() {
            return Err(Shortage::Held);
        }
        if self.resident(now) > self.budget_bytes.get() {
            return Err(Shortage::Resident);
        }
        self.hold(bytes);
        Ok(())
    }

    /// Accounts what an admitted exchange has come to hold.
    pub(crate) fn hold(&self, bytes: u64) {
        self.accounted_bytes.set(self.accounted_bytes.get() + bytes);
    }

    /// Gives accounted bytes back.
    pub(crate) fn release(&self, bytes: u64) {
        let left = self.accounted_bytes.get().saturating_sub(bytes);
        self.accounted_bytes.set(left);
    }

    /// What this core may hold.
    pub(crate) fn share(&self) -> u64 {
        self.share_bytes.get()
    }

    /// What is left of it.
    pub(crate) fn free(&self) -> u64 {
        self.share_bytes.get().saturating_sub(self.accounted_bytes.get())
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
        read_resident(self.status.as_ref()?)
    }
}

/// The process's resident bytes at this moment.
pub(crate) fn resident() -> Option<u64> {
    read_resident(&File::open("/proc/self/status").ok()?)
}

fn read_resident(status: &File) -> Option<u64> {
    let mut text = [0; STATUS_BYTES];
    let length = status.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_core_takes_its_share_and_gets_it_back() {
        let memory = Memory::with_status(4 * MIB, 2, Path::new("/nowhere"));
        let now = Instant::now();
        assert_eq!((memory.admit(MIB, now), memory.admit(MIB, now)), (Ok(()), Ok(())));
        assert_eq!(memory.admit(1, now), Err(Shortage::Held));
        memory.release(MIB);
        assert_eq!((memory.accounted(), memory.free()), (MIB, MIB));
        assert_eq!(memory.admit(MIB, now), Ok(()));
        // What is held already is accounted in any case.
        memory.hold(MIB);
        assert_eq!((memory.accounted(), memory.free()), (3 * MIB, 0));
        // Another budget counts from now on, and takes nothing from those who have it.
        memory.set_budget(12 * MIB);
        assert_eq!((memory.accounted(), memory.free()), (3 * MIB, 3 * MIB));
        memory.set_budget(2 * MIB);
        assert_eq!(memory.admit(1, now), Err(Shortage::Held));
    }

    #[test]
    fn a_process_above_its_budget_takes_nothing_more() {
        let status = tempfile::NamedTempFile::new().unwrap();
        let set = |kib: u64| {
            std::fs::write(status.path(), format!("VmHWM:\t 999999 kB\nVmRSS:\t  {kib} kB\n")).unwrap();
        };
        set(64 << 10);
        let memory = Memory::with_status(64 * MIB, 1, status.path());
        assert_eq!(memory.share(), 32 * MIB);
        let start = Instant::now();
        assert_eq!(memory.admit(MIB, start), Ok(()));
        set((64 << 10) + 1);
        assert_eq!(memory.admit(MIB, start + COUNT_AGE_MAX / 2), Ok(()));
        assert_eq!(memory.admit(MIB, start + COUNT_AGE_MAX), Err(Shortage::Resident));
        set(1);
        assert_eq!(memory.admit(MIB, start + 2 * COUNT_AGE_MAX), Ok(()));
    }

    #[test]
    fn what_is_resident_at_the_start_is_in_nobodys_share() {
        let status = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(status.path(), format!("VmRSS:\t {} kB\n", 16 << 10)).unwrap();
        assert_eq!(Memory::with_status(64 * MIB, 2, status.path()).share(), 24 * MIB);
    }

    #[test]
    fn this_process_is_counted() {
        assert!(Memory::new(MIB, 1).resident(Instant::now()) > MIB);
        assert!(resident().unwrap() > MIB);
    }
}
