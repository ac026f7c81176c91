//! How an attempt or its connection is told to end, and what others wait for of it.

use std::cell::Cell;

use tokio::sync::Notify;

/// Held by the attempt, and by whoever may end it.
#[derive(Default)]
pub(super) struct DrainSignal {
    drain: Notify,
    is_replaced: Cell<bool>,
    has_left: Cell<bool>,
    left: Notify,
}

impl DrainSignal {
    /// Tells it to finish what runs and to end.
    pub(super) fn drain(&self) {
        self.drain.notify_one();
    }

    /// Tells it that another connection is about to take its place.
    pub(super) fn replace(&self) {
        self.is_replaced.set(true);
        self.drain.notify_one();
    }

    /// Waits until it is told to end.
    pub(super) async fn drained(&self) {
        self.drain.notified().await;
    }

    /// Whether another connection takes its place.
    pub(super) fn is_replaced(&self) -> bool {
        self.is_replaced.get()
    }

    /// Whether the edge sends it nothing new.
    pub(super) fn has_left(&self) -> bool {
        self.has_left.get()
    }

    /// The edge sends it nothing new.
    pub(super) fn leave(&self) {
        self.has_left.set(true);
        self.left.notify_waiters();
    }

    /// Waits until the edge sends it nothing new.
    pub(super) async fn left(&self) {
        while !self.has_left.get() {
            self.left.notified().await;
        }
    }
}
