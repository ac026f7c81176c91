//! How far the peer of an HTTP/2 connection may send ahead on each of its streams: much while there are few
//! streams, little when there are many.
//!
//! HTTP/2 begins all streams with one window and grows none for a single reader. So unread bytes are bounded
//! by making that window smaller as streams open. What it exceeds the smallest by comes from the
//! [`WindowBudget`]. Streams without a reader must not use up the window of the connection.
//! [`CONNECTION_WINDOW_BYTES`] is too large for that.
//!
//! Changes only at powers of two of open streams, each of which costs a SETTINGS frame.

use std::sync::Arc;

use crate::quic::WindowBudget;

/// The largest there is (RFC 9113 §6.9.1).
pub const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// The least window of a stream, which no budget accounts for.
pub const STREAM_WINDOW_BYTES_MIN: u32 = 64 << 10;

/// What all streams of a connection share.
const SHARED_BYTES: u64 = 32 << 20;

/// The window of each stream of one connection.
#[derive(Debug)]
pub struct SharedWindow {
    max_bytes: u32,
    budget: Arc<WindowBudget>,
    taken_bytes: u64,
    /// Streams it is made for; a power of two, or 0.
    streams: usize,
    wanted_bytes: u32,
    told_bytes: u32,
}

impl SharedWindow {
    /// A window that begins with `max_bytes`, which the peer is told as the connection opens.
    #[must_use]
    pub fn new(max_bytes: u32, budget: Arc<WindowBudget>) -> Self {
        Self {
            max_bytes,
            budget,
            taken_bytes: 0,
            streams: 0,
            wanted_bytes: max_bytes,
            told_bytes: max_bytes,
        }
    }

    /// The window that the peer is to be told, if it is another than it knows. Asked again until it [was
    /// told](Self::set_told).
    pub fn poll_wanted(&mut self, open: usize) -> Option<u32> {
        // Fewer streams enlarge it late, so that it does not change with every one that comes and goes.
        if open > self.streams || 4 * open < self.streams {
            self.fit(open);
        }
        (self.wanted_bytes != self.told_bytes).then_some(self.wanted_bytes)
    }

    /// The peer was told.
    pub fn set_told(&mut self, bytes: u32) {
        self.told_bytes = bytes;
    }

    fn fit(&mut self, open: usize) {
        self.budget.give_back(std::mem::take(&mut self.taken_bytes));
        self.streams = if open == 0 { 0 } else { open.next_power_of_two() };
        let streams = self.streams as u64;
        if streams == 0 {
            // The next stream is likely to be the only one again.
            self.wanted_bytes = self.max_bytes;
            return;
        }
        let (least, most) = (u64::from(STREAM_WINDOW_BYTES_MIN), u64::from(self.max_bytes));
        let mut window = (SHARED_BYTES / streams).clamp(least, most);
        while window > least {
            let more = streams * (window - least);
            if self.budget.take(more, window) {
                self.taken_bytes = more;
                break;
            }
            window = (window / 2).max(least);
        }
        self.wanted_bytes = u32::try_from(window).unwrap_or(self.max_bytes);
    }
}

impl Drop for SharedWindow {
    fn drop(&mut self) {
        self.budget.give_back(self.taken_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn streams_share_what_one_may_have() {
        let budget = WindowBudget::new(1024 * MIB);
        let mut window = SharedWindow::new(2 << 20, budget.clone());
        assert_eq!(window.poll_wanted(1), None, "as it was told at first");
        assert_eq!(window.poll_wanted(16), None);
        assert_eq!(window.poll_wanted(17), Some(1 << 20));
        assert_eq!(window.poll_wanted(20), Some(1 << 20), "until the peer was told");
        window.set_told(1 << 20);
        assert_eq!(window.poll_wanted(32), None);
        assert_eq!(window.poll_wanted(1_000), Some(64 << 10));
        assert_eq!(budget.taken(), 0, "the least is free");
        window.set_told(64 << 10);
        assert_eq!(window.poll_wanted(256), None, "not with every stream that ends");
        assert_eq!(window.poll_wanted(255), Some(128 << 10));
        assert_eq!(window.poll_wanted(0), Some(2 << 20));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_budget_without_room_leaves_the_least() {
        let budget = WindowBudget::new(16 * MIB);
        let mut window = SharedWindow::new(4 << 20, budget.clone());
        assert_eq!(window.poll_wanted(1), Some(2 << 20), "an eighth of it");
        assert_eq!(budget.taken(), 2 * MIB - (64 << 10));
        window.poll_wanted(100);
        assert!(budget.taken() <= 2 * MIB);
        let mut other = SharedWindow::new(4 << 20, WindowBudget::new(0));
        assert_eq!(other.poll_wanted(1), Some(64 << 10));
        drop(window);
        assert_eq!(budget.taken(), 0);
    }
}
