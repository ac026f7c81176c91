//! Owns how long one slot waits between failed attempts.
//!
//! After the k-th failure in a row the wait is uniform in `[WAIT_MIN, 2^k s)`, k at most `exponent_max`.
//! Full jitter spreads the replicas of a tunnel that all lost the same edge at the same moment.
//!
//! Does not: know why an attempt failed or when it was; the caller adds the wait to its clock.
//!
//! Source: cloudflared `retry/backoffhandler.go`.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// Unit that is doubled.
const BASE: Duration = Duration::from_secs(1);

/// Shortest wait: full jitter may draw zero, and an edge that refuses at once would then be asked in a
/// tight loop.
pub const WAIT_MIN: Duration = Duration::from_millis(100);

/// Largest exponent anybody may configure: 2^12 s is above an hour.
pub const EXPONENT_LIMIT: u32 = 12;

/// Failures in a row and the waits they bring.
#[derive(Debug, Clone)]
pub struct Backoff {
    failures: u32,
    exponent_max: u32,
}

impl Backoff {
    /// Doubles at most `exponent_max` times, which is capped at [`EXPONENT_LIMIT`].
    pub fn new(exponent_max: u32) -> Self {
        Self {
            failures: 0,
            exponent_max: exponent_max.min(EXPONENT_LIMIT),
        }
    }

    /// Counts one more failure and draws the wait that follows it, which is also shorter than `cap`.
    pub fn next_wait(&mut self, cap: Duration, rng: &mut impl Rng) -> Duration {
        self.failures = self.failures.saturating_add(1);
        rng.random_range(WAIT_MIN..self.bound().min(cap).max(2 * WAIT_MIN))
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// No wait after the last counted failure is as long as this.
    pub fn bound(&self) -> Duration {
        BASE * 2_u32.pow(self.failures.min(self.exponent_max))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_over() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::new(5);
        for seconds in [2, 4, 8, 16, 32, 32, 32] {
            let wait = backoff.next_wait(Duration::MAX, &mut rng);
            assert_eq!(backoff.bound(), Duration::from_secs(seconds));
            assert!(wait >= WAIT_MIN && wait < backoff.bound(), "{wait:?}");
        }
        backoff.reset();
        assert_eq!((backoff.failures(), backoff.bound()), (0, BASE));
    }

    #[test]
    fn a_cap_shortens_waits_and_not_the_count() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::new(5);
        for _ in 0..20 {
            assert!(backoff.next_wait(BASE, &mut rng) < BASE);
        }
        assert_eq!(backoff.bound(), 32 * BASE);
    }

    #[test]
    fn no_exponent_overflows() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::new(u32::MAX);
        for _ in 0..100 {
            backoff.next_wait(Duration::MAX, &mut rng);
        }
        assert_eq!(backoff.bound(), Duration::from_secs(4096));
    }
}
