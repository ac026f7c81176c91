//! Waiting on a condition with a deadline: the only place in the tests that pauses.
//!
//! A test names what it waits for and for how long at most; when the time is up it fails with that name. The
//! pause between two looks is short against any deadline and grows, so that a long wait does not eat a core
//! that the binaries under test need.

use std::time::{Duration, Instant};

/// What an ordinary step (a start, a registration, a reload) may take on a busy machine with two cores.
pub const STEP: Duration = Duration::from_secs(30);

/// First pause between two looks at a condition.
const PAUSE_MIN: Duration = Duration::from_millis(2);

/// Longest pause between two looks at a condition.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Calls `look` until it answers `Some`, and returns that.
///
/// # Panics
/// When `limit` has passed; the message names `what`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    match within(limit, look) {
        Some(found) => found,
        None => panic!("gave up after {limit:?} waiting for: {what}"),
    }
}

/// Calls `look` until it answers `true`.
///
/// # Panics
/// When `limit` has passed; the message names `what`.
#[track_caller]
pub fn until_true(what: &str, limit: Duration, mut look: impl FnMut() -> bool) {
    until(what, limit, || look().then_some(()));
}

/// Calls `look` until it answers `Some` or `limit` has passed.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        let left = end.checked_duration_since(Instant::now())?;
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_gives_up_at_its_limit_and_returns_what_was_found() {
        assert_eq!(within(Duration::from_millis(5), || None::<u8>), None);
        let mut looks = 0;
        let found = within(STEP, || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found, Some(3));
    }
}
