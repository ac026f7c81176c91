//! Wakes the one sleeping side of a lock-free queue, at most once per sleep.
//!
//! The sleeper arms the bell and then looks once more at the queue; whoever publishes rings after
//! publishing. Both sides put a full fence between their write and their read, so at least one of them
//! sees the other: either the sleeper finds the item, or the ringer finds the bell armed.
//!
//! Ringing an unarmed bell costs a fence and one shared load, so a batch sent to a busy core costs no
//! wakeup and no bouncing cache line.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::Context;

use atomic_waker::AtomicWaker;

/// One sleeper, any number of ringers.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    armed: AtomicBool,
    waker: AtomicWaker,
}

impl Doorbell {
    /// Announces that this task is about to sleep. The caller must look at what it waits for once more
    /// after this, and may sleep only if it still finds nothing.
    pub(crate) fn arm(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
        // Release: a ringer that sees the bell armed also sees the waker.
        self.armed.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back because the last look found something. A ring that races with this
    /// wakes the task for nothing, which is harmless.
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }

    /// Wakes the sleeper if there is one. Call it after publishing.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}
