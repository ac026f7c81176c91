//! The timers of one core, in order of their deadlines.
//!
//! Touched by its own thread only. A timer costs two insertions into trees of at most a few thousand entries;
//! most of those of a request are never waited for and cost none.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::task::{Context, Waker};
use std::time::Instant;

use slab::Slab;

thread_local! {
    static QUEUE: RefCell<Option<Queue>> = const { RefCell::new(None) };
}

struct Queue {
    now: Instant,
    order: BTreeSet<(Instant, usize)>,
    timers: Slab<Timer>,
    /// Wakers of timers that have just fired, called when nothing is borrowed.
    due: Vec<Waker>,
}

struct Timer {
    deadline: Instant,
    /// Not in `order` once it has fired.
    is_waiting: bool,
    waker: Option<Waker>,
}

/// A place in this core's queue.
#[derive(Debug)]
pub(super) struct Key(usize);

/// Gives this thread a queue.
pub(crate) fn install(now: Instant) {
    let queue = Queue {
        now,
        order: BTreeSet::new(),
        timers: Slab::new(),
        due: Vec::new(),
    };
    QUEUE.set(Some(queue));
}

/// The time of this turn, if this thread has a queue.
pub(super) fn now() -> Option<Instant> {
    QUEUE.with_borrow(|queue| queue.as_ref().map(|queue| queue.now))
}

/// When the next timer fires.
pub(crate) fn next_deadline() -> Option<Instant> {
    with(|queue| queue.order.first().map(|(deadline, _)| *deadline)).flatten()
}

/// Sets the time of this turn and wakes the timers whose deadlines have come.
pub(crate) fn fire(now: Instant) {
    let due = with(|queue| {
        queue.now = now;
        while let Some(&(deadline, index)) = queue.order.first()
            && deadline <= now
        {
            queue.order.pop_first();
            if let Some(timer) = queue.timers.get_mut(index) {
                timer.is_waiting = false;
                queue.due.extend(timer.waker.take());
            }
        }
        std::mem::take(&mut queue.due)
    });
    let Some(mut due) = due else { return };
    for waker in due.drain(..) {
        waker.wake();
    }
    with(|queue| queue.due = due);
}

/// Adds a timer.
pub(super) fn enter(deadline: Instant, cx: &Context<'_>) -> Key {
    let index = with(|queue| {
        let index = queue.timers.insert(Timer {
            deadline,
            is_waiting: true,
            waker: Some(cx.waker().clone()),
        });
        queue.order.insert((deadline, index));
        index
    });
    Key(index.expect("asked on a core with a queue"))
}

/// Makes a timer wake `cx`.
pub(super) fn renew(key: &Key, cx: &Context<'_>) {
    let old = with(|queue| {
        let timer = queue.timers.get_mut(key.0)?;
        match &timer.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => timer.waker.replace(cx.waker().clone()),
        }
    });
    drop(old);
}

/// Moves a timer. Who is waiting is woken at the new deadline.
pub(super) fn reset(key: &Key, deadline: Instant) {
    with(|queue| {
        let Some(timer) = queue.timers.get_mut(key.0) else {
            return;
        };
        if timer.is_waiting {
            if timer.deadline == deadline {
                return;
            }
            queue.order.remove(&(timer.deadline, key.0));
        }
        timer.deadline = deadline;
        timer.is_waiting = true;
        queue.order.insert((deadline, key.0));
    });
}

/// Takes a timer out.
pub(super) fn leave(key: &Key) {
    let old = with(|queue| {
        let timer = queue.timers.try_remove(key.0)?;
        if timer.is_waiting {
            queue.order.remove(&(timer.deadline, key.0));
        }
        timer.waker
    });
    drop(old);
}

fn with<R>(act: impl FnOnce(&mut Queue) -> R) -> Option<R> {
    // A timer dropped while its thread ends finds no queue any more, and needs none.
    QUEUE
        .try_with(|queue| queue.borrow_mut().as_mut().map(act))
        .ok()
        .flatten()
}
