//! The one timer that a core's ring keeps in the kernel.
//!
//! To set a kernel timer costs about 3 us on a virtual machine, and a wait with a time limit sets and clears
//! one each time. QUIC moves its deadlines away with every packet. So this alarm stays where it is: at times
//! it goes off early and the core makes a turn with nothing to do, which is cheaper than to set it twice per
//! packet.

use std::time::{Duration, Instant};

use io_uring::types::Timespec;
use io_uring::{opcode, squeue};

/// Number of the completion that says that the alarm has gone off.
pub(super) const NUMBER: u64 = u64::MAX;

/// Number of the completion that says that the alarm could not be moved. The alarm has gone off just then,
/// and has a completion of its own.
pub(super) const NOT_MOVED: u64 = u64::MAX - 1;

#[derive(Default)]
pub(super) struct Alarm {
    /// When it goes off at the latest, while the kernel has it.
    at: Option<Instant>,
    /// Read by the kernel when an entry is submitted.
    left: Box<Timespec>,
}

impl Alarm {
    /// Returns the entry that makes the kernel's timer go off by `deadline`, which is `left` from now. `None`
    /// if the timer will do so anyway.
    ///
    /// The entry must be submitted before the alarm is dropped.
    pub(super) fn set(&mut self, deadline: Instant, left: Duration) -> Option<squeue::Entry> {
        if self.at.is_some_and(|at| at <= deadline) {
            return None;
        }
        *self.left = Timespec::from(left);
        let entry = match self.at.replace(deadline) {
            None => opcode::Timeout::new(&raw const *self.left)
                .build()
                .user_data(NUMBER),
            Some(_) => opcode::TimeoutUpdate::new(NUMBER, &raw const *self.left)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(NOT_MOVED),
        };
        Some(entry)
    }

    /// It has gone off.
    pub(super) fn on_completion(&mut self) {
        self.at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_deadline_moves_the_alarm() {
        let mut alarm = Alarm::default();
        let now = Instant::now();
        let mut set = |ms| {
            let left = Duration::from_millis(ms);
            alarm.set(now + left, left).is_some()
        };
        assert!(set(30));
        assert!(!set(30));
        assert!(!set(40));
        assert!(set(20));
        assert!(!set(25));
        alarm.on_completion();
        assert!(
            alarm
                .set(now + Duration::from_secs(1), Duration::from_secs(1))
                .is_some()
        );
    }
}
