//! How many exchanges a connection serves.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// Streams being served.
#[derive(Default)]
pub(super) struct InFlight {
    count: Cell<usize>,
    started: Notify,
    emptied: Notify,
}

/// Counts one stream for as long as it is served.
pub(super) struct Guard(Rc<InFlight>);

impl InFlight {
    /// Streams being served.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    /// Waits until nothing is being served.
    pub(super) async fn idle(&self) {
        while self.count.get() > 0 {
            self.emptied.notified().await;
        }
    }

    /// Waits until something is being served.
    pub(super) async fn busy(&self) {
        while self.count.get() == 0 {
            self.started.notified().await;
        }
    }
}

impl Guard {
    pub(super) fn new(in_flight: Rc<InFlight>) -> Self {
        let before = in_flight.count.get();
        in_flight.count.set(before + 1);
        if before == 0 {
            in_flight.started.notify_waiters();
        }
        Self(in_flight)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let left = self.0.count.get() - 1;
        self.0.count.set(left);
        if left == 0 {
            self.0.emptied.notify_waiters();
        }
    }
}
