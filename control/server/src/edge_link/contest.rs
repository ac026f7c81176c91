//! Which names two living edges fight over, so that a fight is told once and not at every blow.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A fight that was quiet for so long is over; the next blow is news. Far above the longest pause of an edge
/// that was replaced.
const QUIET: Duration = Duration::from_secs(600);

/// When each contested name was last taken over.
#[derive(Debug, Default)]
pub(super) struct Contests {
    /// Bounded by what fits into [`QUIET`]: each name costs two links of edges that may attach under it.
    taken: RefCell<BTreeMap<String, Instant>>,
}

impl Contests {
    /// Notes that `name` was taken from a living edge; whether nothing like it was heard lately.
    pub(super) fn is_news(&self, name: &str, now: Instant) -> bool {
        let mut taken = self.taken.borrow_mut();
        taken.retain(|_, last| now.saturating_duration_since(*last) < QUIET);
        taken.insert(name.to_owned(), now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_is_news_once_until_it_has_been_quiet() {
        let (contests, start) = (Contests::default(), Instant::now());
        assert!(contests.is_news("a", start));
        assert!(contests.is_news("b", start));
        for minute in 1..60 {
            assert!(!contests.is_news("a", start + Duration::from_secs(60 * minute)));
        }
        assert!(contests.is_news("a", start + Duration::from_secs(60 * 59) + QUIET));
        assert_eq!(contests.taken.borrow().len(), 1, "what is over is forgotten");
    }
}
