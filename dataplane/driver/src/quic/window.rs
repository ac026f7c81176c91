//! How far a peer may send ahead on a stream: little at first, and more as long as the reader is faster than
//! the network.
//!
//! ```text
//!        64 KiB ──reader waits, half a window came in a few round trips──► four times as much … 4 MiB
//!          ▲                                                                           │
//!          └──────────────── the stream ends: given back to the budget ────────────────┘
//! ```
//! A reader that is slower than the network never waits for it. So its window stays small, and with it the
//! bytes that are held for it. A [`WindowBudget`] bounds what all windows of a process have grown by. A
//! window takes no more than a part of what the budget has left, so something is left for later streams.
//!
//! Cost: a few additions per read, and a look at the clock per half window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the windows of a process may have grown by unless that is said: sixteen streams at full speed.
pub const GROWN_BYTES_MAX: u64 = 64 << 20;

/// The largest part of what the budget has left that one window may be.
const PART_OF_FREE: u64 = 8;

/// A stream waits for the network only if half a window has come within this many round trips. Below one
/// would be more than the window lets through.
const ROUND_TRIPS: u32 = 4;

/// A window grows by this factor. A sender whose connection has carried much before may use all of a large
/// window at once, so each step costs a transfer a round trip. By four there are three steps to 4 MiB; by two
/// there would be six.
const GROWTH: u64 = 4;

/// Taken for a round trip if it is shorter: on the same host, tasks that take their turns are most of it.
const ROUND_TRIP_MIN: Duration = Duration::from_millis(2);

/// What the windows of one process may have grown by, over all cores.
#[derive(Debug)]
pub struct WindowBudget {
    limit_bytes: AtomicU64,
    taken_bytes: AtomicU64,
    refused: AtomicU64,
}

impl WindowBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes: AtomicU64::new(limit_bytes),
            taken_bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Changes the limit. What is taken stays taken.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
    }

    /// Bytes that windows have grown by.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// How often a window was not let grow.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes `bytes` for what will then be a window of `window` bytes, if that leaves enough for others.
    #[must_use]
    pub fn take(&self, bytes: u64, window: u64) -> bool {
        let limit = self.limit_bytes.load(Ordering::Relaxed);
        let taken = self
            .taken_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                let free = limit.saturating_sub(taken);
                (window.max(bytes) <= free / PART_OF_FREE).then(|| taken + bytes)
            });
        if taken.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    /// Gives back what was taken.
    pub fn give_back(&self, bytes: u64) {
        self.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The windows of one connection's streams.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    pub(crate) first_bytes: u64,
    pub(crate) max_bytes: u64,
    pub(crate) budget: Arc<WindowBudget>,
}

/// The window of one stream.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: u64,
    /// Of the budget.
    taken_bytes: u64,
    /// Read since then.
    read_bytes: u64,
    since: Option<Instant>,
}

impl Window {
    pub(crate) fn new(windows: &Windows) -> Self {
        Self {
            bytes: windows.first_bytes,
            taken_bytes: 0,
            read_bytes: 0,
            since: None,
        }
    }

    /// The reader has taken so many bytes.
    pub(crate) fn handle_read(&mut self, bytes: u64) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
        self.read_bytes += bytes;
    }

    /// The reader has taken all there is and waits for more. Returns the window that the peer is to be told,
    /// if it is a new one.
    pub(crate) fn handle_wait(&mut self, windows: &Windows, round_trip: Duration) -> Option<u64> {
        if self.read_bytes < self.bytes / 2 || self.bytes >= windows.max_bytes {
            return None;
        }
        let now = Instant::now();
        let took = self
            .since
            .replace(now)
            .map(|since| now.saturating_duration_since(since));
        self.read_bytes = 0;
        if took.is_none_or(|took| took > ROUND_TRIPS * round_trip.max(ROUND_TRIP_MIN)) {
            return None;
        }
        let grown = (GROWTH * self.bytes).min(windows.max_bytes);
        let more = grown - self.bytes;
        if !windows.budget.take(more, grown) {
            return None;
        }
        self.bytes = grown;
        self.taken_bytes += more;
        Some(grown)
    }

    /// The stream has ended, or nobody reads it any more.
    pub(crate) fn end(&mut self, windows: &Windows) {
        windows.budget.give_back(std::mem::take(&mut self.taken_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn windows(limit_bytes: u64) -> Windows {
        Windows {
            first_bytes: 64 << 10,
            max_bytes: 4 * MIB,
            budget: WindowBudget::new(limit_bytes),
        }
    }

    /// Reads and waits until the window stays what it is.
    fn grow(window: &mut Window, windows: &Windows) -> u64 {
        let mut last = windows.first_bytes;
        loop {
            window.handle_read(4 * MIB);
            match window.handle_wait(windows, Duration::from_secs(60)) {
                Some(grown) => last = grown,
                None => return last,
            }
        }
    }

    #[test]
    fn a_fast_reader_gets_the_largest_window_and_gives_it_back() {
        let windows = windows(64 * MIB);
        let mut window = Window::new(&windows);
        assert_eq!(grow(&mut window, &windows), 4 * MIB);
        assert_eq!(windows.budget.taken(), 4 * MIB - windows.first_bytes);
        window.end(&windows);
        window.end(&windows);
        assert_eq!(windows.budget.taken(), 0);
    }

    #[test]
    fn what_came_slowly_needs_no_larger_window() {
        let windows = windows(64 * MIB);
        let mut window = Window::new(&windows);
        window.since = Instant::now().checked_sub(Duration::from_secs(1));
        window.handle_read(MIB);
        assert_eq!(window.handle_wait(&windows, Duration::from_millis(20)), None);
        // Counted anew from here.
        window.handle_read(MIB);
        assert_eq!(
            window.handle_wait(&windows, Duration::from_secs(60)),
            Some(256 << 10)
        );
        assert_eq!(window.handle_wait(&windows, Duration::from_secs(60)), None);
    }

    #[test]
    fn the_first_leave_something_to_those_who_come_later() {
        let windows = windows(16 * MIB);
        let mut all: Vec<_> = (0..100).map(|_| Window::new(&windows)).collect();
        let grown: Vec<_> = all.iter_mut().map(|window| grow(window, &windows)).collect();
        assert_eq!(grown.first(), Some(&MIB), "an eighth of the budget at most");
        assert!(windows.budget.taken() <= 16 * MIB);
        assert!(grown.iter().all(|bytes| *bytes >= 64 << 10));
        assert!(grown.iter().skip(30).any(|bytes| *bytes > 64 << 10), "{grown:?}");
        assert!(windows.budget.refused() >= 100);
        all.iter_mut().for_each(|window| window.end(&windows));
        assert_eq!(windows.budget.taken(), 0);
    }
}
