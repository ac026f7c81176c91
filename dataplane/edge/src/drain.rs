//! One core's way to its end.
//!
//! ```text
//! serving ─► draining: no new connections, visitors are told to leave, running exchanges go on
//!              └► all visitors gone, or grace period over ─► reported ─► tunnels closed ─► done
//! ```
//! Tunnels close only when every core has reported, because exchanges of one core run over connections of
//! another.

use std::cell::Cell;

use tokio::sync::Notify;

/// Whether this core is draining and how many visitors' connections are left; shared by its tasks.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    is_draining: Cell<bool>,
    visitors: Cell<usize>,
    changed: Notify,
}

impl Drain {
    /// Begins; later calls change nothing.
    pub(crate) fn begin(&self) {
        self.is_draining.set(true);
        self.changed.notify_waiters();
    }

    /// Waits for the beginning.
    pub(crate) async fn begun(&self) {
        self.until(|| self.is_draining.get()).await;
    }

    /// Waits until no visitor is connected.
    pub(crate) async fn empty(&self) {
        self.until(|| self.visitors.get() == 0).await;
    }

    pub(crate) fn visitors(&self) -> usize {
        self.visitors.get()
    }

    pub(crate) fn visitor_came(&self) {
        self.visitors.set(self.visitors.get() + 1);
    }

    pub(crate) fn visitor_left(&self) {
        self.visitors.set(self.visitors.get().saturating_sub(1));
        if self.is_draining.get() {
            self.changed.notify_waiters();
        }
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            // Taken before the look, so that no change is missed.
            let changed = self.changed.notified();
            if holds() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn the_end_waits_for_the_last_visitor() {
        let drain = Drain::default();
        drain.visitor_came();
        let mut cx = Context::from_waker(Waker::noop());
        let mut begun = pin!(drain.begun());
        assert_eq!(begun.as_mut().poll(&mut cx), Poll::Pending);
        drain.begin();
        assert_eq!(begun.as_mut().poll(&mut cx), Poll::Ready(()));
        let mut empty = pin!(drain.empty());
        assert_eq!(empty.as_mut().poll(&mut cx), Poll::Pending);
        drain.visitor_left();
        assert_eq!(empty.as_mut().poll(&mut cx), Poll::Ready(()));
    }
}
