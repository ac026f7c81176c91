//! Exchanges of one core that wait for a tunnel to come back. Which tunnels are expected is decided by
//! [`adit_proto::absence`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use adit_driver::time::{now, timeout_at};
use adit_proto::absence::{Absences, WAITING_MAX};
use adit_wire::TunnelId;
use tokio::sync::Notify;

/// The tunnels that are expected back, and who waits for them. Bounded by [`WAITING_MAX`].
#[derive(Debug)]
pub(crate) struct Absent {
    absences: RefCell<Absences<Rc<Notify>>>,
    waiting: Cell<usize>,
}

impl Absent {
    /// `reconnect_wait` is how long exchanges wait for a tunnel that has just lost its last connection.
    pub(super) fn new(reconnect_wait: Duration) -> Self {
        Self {
            absences: RefCell::new(Absences::new(reconnect_wait, now())),
            waiting: Cell::new(0),
        }
    }

    /// Changes how long tunnels that are lost from now on are expected back.
    pub(super) fn set_limit(&self, limit: Duration) {
        self.absences.borrow_mut().set_limit(limit);
    }

    /// Waits for a tunnel that has just lost its last connection; true once it has one again, false if it is
    /// not expected, has not come in time, or too many wait.
    pub(crate) async fn returned(&self, tunnel: TunnelId) -> bool {
        let Some(absence) = self.absences.borrow_mut().of(tunnel, now()) else {
            return false;
        };
        if self.waiting.get() >= WAITING_MAX {
            return false;
        }
        let _waiting = Waiting::enter(&self.waiting);
        timeout_at(absence.until, absence.back.notified()).await.is_ok()
    }

    /// Expects a tunnel back whose last connection is lost or late, though the directory may not know it yet.
    pub(crate) fn expect_back(&self, tunnel: TunnelId) {
        self.absences.borrow_mut().begin(tunnel, now());
    }

    /// The tunnel has a connection again: all that wait choose again.
    pub(super) fn end(&self, tunnel: TunnelId) {
        if let Some(back) = self.absences.borrow_mut().end(tunnel) {
            back.notify_waiters();
        }
    }

    /// Exchanges that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }
}

/// Counts one exchange that waits, for as long as it does.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
