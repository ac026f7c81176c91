//! The world's time: an instant that only the world moves.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// When every world begins. One instant for all, so that a seed sees the same time in every run of one
/// process.
pub(super) fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}

/// The earlier of two moments, of which either may never come.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// So many milliseconds.
pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}
