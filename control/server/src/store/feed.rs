//! Tells commits to who watches, in order, and keeps the last ones for who begins to watch a little late.
//!
//! Bounded: so many commits and changes are kept, and so many wait for one watcher. One that falls further
//! behind is cut off and has to load again; nobody waits for it.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::{Committed, Revision, Watch};

/// Commits that are kept, and that may wait for one watcher.
pub(super) const COMMITS_MAX: usize = 1_024;

/// Changes in all commits that are kept; a bulk write has thousands.
pub(super) const CHANGES_MAX: usize = 65_536;

/// The last commits and the watchers.
#[derive(Default)]
pub(super) struct Feed {
    kept: VecDeque<Committed>,
    changes: usize,
    watchers: Vec<mpsc::Sender<Committed>>,
}

impl Feed {
    /// Tells a commit. Its revision is one above that of the commit before it.
    pub(super) fn tell(&mut self, committed: Committed) {
        self.watchers
            .retain(|watcher| watcher.try_send(committed.clone()).is_ok());
        self.changes += committed.changes.len();
        self.kept.push_back(committed);
        while self.kept.len() > COMMITS_MAX || self.changes > CHANGES_MAX {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.changes -= oldest.changes.len();
        }
    }

    /// Watches from a revision, unless commits after it are forgotten or it is not reached yet.
    pub(super) fn watch(&mut self, from: Revision, newest: Revision) -> Option<Watch> {
        let missed: Vec<_> = self.kept.iter().filter(|kept| kept.revision > from).collect();
        let due = newest.0.checked_sub(from.0)?;
        if due != missed.len() as u64 {
            return None;
        }
        let (sender, commits) = mpsc::channel(COMMITS_MAX + missed.len());
        for committed in missed {
            // There is room for all of them.
            let _ = sender.try_send(committed.clone());
        }
        self.watchers.push(sender);
        Some(Watch { commits })
    }

    /// Ends all watches and forgets the past, because what comes next may not follow on it.
    pub(super) fn break_off(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Change;

    fn commit(revision: u64, changes: usize) -> Committed {
        Committed {
            revision: Revision(revision),
            changes: vec![Change::Generation(revision); changes].into(),
        }
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_keep_up_is_cut_off_and_the_others_go_on() {
        let mut feed = Feed::default();
        let mut idle = feed.watch(Revision(0), Revision(0)).unwrap();
        let mut awake = feed.watch(Revision(0), Revision(0)).unwrap();
        let last = COMMITS_MAX as u64 + 5;
        for revision in 1..=last {
            feed.tell(commit(revision, 1));
            assert_eq!(awake.next().await.unwrap().revision, Revision(revision));
        }
        for revision in 1..=COMMITS_MAX as u64 {
            assert_eq!(idle.next().await.unwrap().revision, Revision(revision));
        }
        assert!(idle.next().await.is_none(), "it missed some and must know");
        assert!(feed.watch(Revision(4), Revision(last)).is_none(), "forgotten");
        assert!(feed.watch(Revision(5), Revision(last)).is_some());
    }

    #[test]
    fn large_commits_are_kept_in_smaller_number() {
        let mut feed = Feed::default();
        for revision in 1..=3 {
            feed.tell(commit(revision, CHANGES_MAX / 2));
        }
        assert_eq!(feed.kept.len(), 2);
        assert!(feed.watch(Revision(0), Revision(3)).is_none());
        assert!(feed.watch(Revision(1), Revision(3)).is_some());
        feed.tell(commit(4, CHANGES_MAX + 1));
        assert!(feed.kept.is_empty() && feed.changes == 0);
        assert!(feed.watch(Revision(3), Revision(4)).is_none());
        assert!(feed.watch(Revision(4), Revision(4)).is_some());
    }
}
