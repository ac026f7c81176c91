//! Which API connections have no request under way, the longest silent first, so that one can be closed for a
//! newcomer.
//!
//! A half head is silence. Bounded by the connections there are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// All silent connections; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Silent(Arc<Mutex<Order>>);

#[derive(Debug, Default)]
struct Order {
    next: u64,
    by_age: BTreeMap<u64, Arc<Notify>>,
}

/// One connection; clones are of the same.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    silent: Silent,
    /// Since which turn it is silent, if it is.
    turn: Arc<Mutex<Option<u64>>>,
    close: Arc<Notify>,
}

impl Silent {
    /// A new connection, silent until its first request.
    pub(super) fn seat(&self) -> Seat {
        let seat = Seat {
            silent: self.clone(),
            turn: Arc::default(),
            close: Arc::default(),
        };
        seat.is_silent();
        seat
    }

    /// Closes the one that is silent for longest, if any is.
    pub(super) fn close_oldest(&self) {
        let oldest = self.order().by_age.pop_first();
        if let Some((_, close)) = oldest {
            close.notify_one();
        }
    }

    fn order(&self) -> std::sync::MutexGuard<'_, Order> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// It has a request under way, or is over.
    pub(super) fn speaks(&self) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(turn) = turn {
            self.silent.order().by_age.remove(&turn);
        }
    }

    /// Its request is answered.
    pub(super) fn is_silent(&self) {
        let mut order = self.silent.order();
        let turn = order.next;
        order.next += 1;
        order.by_age.insert(turn, self.close.clone());
        drop(order);
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
    }

    /// Waits until it is to make room.
    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn is_closed(seat: &Seat) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        pin!(seat.closed()).poll(&mut cx) == Poll::Ready(())
    }

    #[test]
    fn the_longest_silent_makes_room_and_who_speaks_is_spared() {
        let silent = Silent::default();
        let (first, second, third) = (silent.seat(), silent.seat(), silent.seat());
        first.speaks();
        silent.close_oldest();
        assert!(!is_closed(&first) && is_closed(&second) && !is_closed(&third));
        // Silent again, it is the last in the row.
        first.is_silent();
        silent.close_oldest();
        assert!(!is_closed(&first) && is_closed(&third));
        third.speaks();
        silent.close_oldest();
        assert!(is_closed(&first));
        silent.close_oldest();
        assert!(silent.order().by_age.is_empty());
    }
}
