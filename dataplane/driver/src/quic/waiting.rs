//! Tasks that wait for one thing to happen.
//!
//! Each waiter has a place. It keeps the place however often it is polled for other reasons, and gives it up
//! when it waits no more. A mere list of wakers would grow with every poll until the event, which may never
//! come.

use std::collections::BTreeMap;
use std::task::{Context, Waker};

/// Those who wait, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// Where somebody waits in a [`Queue`], if he does.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<u64>);

impl Queue {
    /// Has the task of `cx` wait at `place`.
    pub(crate) fn park(&mut self, place: &mut Place, cx: &Context<'_>) {
        let parked = place.0.and_then(|at| self.wakers.get_mut(&at));
        if let Some(waker) = parked {
            waker.clone_from(cx.waker());
            return;
        }
        place.0 = Some(self.next);
        self.wakers.insert(self.next, cx.waker().clone());
        self.next += 1;
    }

    /// Wakes all of them; whoever goes on waiting takes a new place.
    pub(crate) fn wake_all(&mut self) {
        for waker in std::mem::take(&mut self.wakers).into_values() {
            waker.wake();
        }
    }

    /// Nobody waits at `place` any more.
    pub(crate) fn leave(&mut self, place: &mut Place) {
        if let Some(at) = place.0.take() {
            self.wakers.remove(&at);
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.wakers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_over_many_polls_and_left_once() {
        let cx = Context::from_waker(Waker::noop());
        let (mut queue, mut first, mut second) = (Queue::default(), Place::default(), Place::default());
        for _ in 0..1_000 {
            queue.park(&mut first, &cx);
            queue.park(&mut second, &cx);
        }
        assert_eq!(queue.len(), 2);
        queue.wake_all();
        assert_eq!(queue.len(), 0);
        queue.park(&mut second, &cx);
        // The place was lost with the wake, and is nobody else's.
        queue.leave(&mut first);
        assert_eq!(queue.len(), 1);
        queue.leave(&mut second);
        assert_eq!(queue.len(), 0);
    }
}
