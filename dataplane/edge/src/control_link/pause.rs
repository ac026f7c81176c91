//! Decides how long the edge waits before it attaches again. Pure: endings and randomness in, pauses out.
//!
//! A link that was never up or broke is tried again soon, and after a long life at once. An edge whose place
//! another process of its name has taken waits longer each time: to come back is to push the other one off,
//! and neither can know which of them bears the name rightly.

use std::time::Duration;

/// Pauses after a failure or a loss double from the first to the last.
const LOST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Pauses after a replacement: the last one bounds how long an edge stays away after the other has got a name
/// of its own, and how often two that keep one name disturb control.
const REPLACED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// A link that lived for this long was not contested. It is ten of the longest pauses: while two edges take
/// turns, the link of one lives for a pause of the other.
pub(super) const UNCONTESTED: Duration = Duration::from_secs(600);

/// How a try to be attached ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It did not come about.
    NeverAttached,
    /// The link broke after this time.
    Lost(Duration),
    /// Another process of this edge's name took its place after this time.
    Replaced(Duration),
}

/// The next pause of either kind.
#[derive(Debug)]
pub(super) struct Pauses {
    lost: Duration,
    replaced: Duration,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self {
            lost: LOST.0,
            replaced: REPLACED.0,
        }
    }

    /// The pause after `end`; a share of up to a half is taken off by `random`, so that edges which lost the
    /// same control, or took the same name, do not come back in step.
    pub(super) fn after(&mut self, end: End, random: u32) -> Duration {
        if let End::Lost(held) | End::Replaced(held) = end {
            // Short lives in a row count like failures: whatever cuts them is not over.
            if held >= LOST.1 {
                self.lost = LOST.0;
            }
            if held >= UNCONTESTED {
                self.replaced = REPLACED.0;
            }
        }
        let (next, last) = match end {
            End::NeverAttached | End::Lost(_) => (&mut self.lost, LOST.1),
            End::Replaced(_) => (&mut self.replaced, REPLACED.1),
        };
        let pause = *next;
        *next = (pause * 2).min(last);
        pause - (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(pauses: &mut Pauses, end: End) -> Duration {
        pauses.after(end, 0)
    }

    #[test]
    fn pauses_double_up_to_the_last_and_lose_up_to_a_half() {
        let mut pauses = Pauses::new();
        let millis: Vec<_> = (0..8)
            .map(|_| longest(&mut pauses, End::NeverAttached).as_millis())
            .collect();
        assert_eq!(millis, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(pauses.after(End::NeverAttached, u32::MAX), LOST.1 / 2);
    }

    #[test]
    fn a_link_that_lived_is_missed_at_once_and_one_that_did_not_is_a_failure() {
        let mut pauses = Pauses::new();
        assert_eq!(longest(&mut pauses, End::Lost(Duration::ZERO)), LOST.0);
        assert_eq!(longest(&mut pauses, End::Lost(Duration::ZERO)), 2 * LOST.0);
        assert_eq!(longest(&mut pauses, End::Lost(LOST.1)), LOST.0);
    }

    #[test]
    fn a_replaced_edge_comes_back_ever_later_until_nobody_contests_its_place() {
        let mut pauses = Pauses::new();
        let mut turn = Duration::ZERO;
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            turn = longest(&mut pauses, End::Replaced(turn));
            assert_eq!(turn, Duration::from_secs(seconds));
        }
        assert_eq!(
            longest(&mut pauses, End::Lost(turn)),
            LOST.0,
            "control alone was lost"
        );
        assert_eq!(longest(&mut pauses, End::Replaced(turn)), REPLACED.1);
        assert_eq!(longest(&mut pauses, End::Replaced(UNCONTESTED)), REPLACED.0);
    }
}
