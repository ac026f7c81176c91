//! Wakes a core that sleeps in its ring, from any thread.
//!
//! The core says that it falls asleep and then looks once more whether it was rung; whoever rings does so
//! before looking whether the core sleeps. Both are sequentially consistent, so one of them sees the other.
//! Ringing an awake core costs two atomic operations, a sleeping one a write to an eventfd.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use io_uring::squeue;
use io_uring::{opcode, types};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::AsRawFd;

/// What the kernel writes when the eventfd is read.
pub(super) type Counter = Box<[u8; 8]>;

#[derive(Debug)]
pub(super) struct Bell {
    was_rung: AtomicBool,
    is_asleep: AtomicBool,
    event: EventFd,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            was_rung: AtomicBool::new(false),
            is_asleep: AtomicBool::new(false),
            event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// Whether it was rung since the last time this was asked.
    pub(super) fn take(&self) -> bool {
        self.was_rung.swap(false, Ordering::SeqCst)
    }

    /// Says that the core is about to sleep; returns whether it may.
    pub(super) fn fall_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        if self.was_rung.load(Ordering::SeqCst) {
            self.is_asleep.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    pub(super) fn wake_up(&self) {
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Reads the eventfd into `counter`, which ends the core's sleep.
    pub(super) fn listen(&self, counter: &mut Counter) -> squeue::Entry {
        opcode::Read::new(types::Fd(self.event.as_raw_fd()), counter.as_mut_ptr(), 8).build()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.was_rung.store(true, Ordering::SeqCst);
        if self.is_asleep.swap(false, Ordering::SeqCst)
            && let Err(error) = self.event.write(1)
        {
            tracing::error!(%error, "a sleeping core cannot be woken");
        }
    }
}
