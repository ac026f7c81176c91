//! Publishes what the store says was committed, whoever committed it.
//!
//! ```text
//! watching ── a commit ──► applied to the facts, planned, published
//!     │ ▲
//! the watch ends   load, publish if it is another revision, watch from there
//!     ▼ │
//! loading ── the store does not answer ──► again after a pause, or as soon as a write was taken
//! ```

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Chain, State};
use crate::facts::{Change, Facts};
use crate::plan::{PlanSettings, Touched};
use crate::store::{Committed, Revision, StoreError, Watch};

/// Pause before a store that does not answer is asked again.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// Runs until the state is gone.
pub(super) async fn follow(state: Weak<State>, mut watch: Watch, store_answers: Arc<Notify>) {
    loop {
        while let Some(committed) = watch.next().await {
            let Some(state) = state.upgrade() else { return };
            state.on_committed(&committed);
        }
        let mut is_known = false;
        watch = loop {
            let Some(reloading) = state.upgrade() else { return };
            match reloading.reload().await {
                Ok(watch) => break watch,
                Err(error) if is_known => {
                    tracing::debug!(error = %Chain(&error), "the store is still not readable");
                }
                Err(error) => {
                    is_known = true;
                    tracing::warn!(error = %Chain(&error), "the store is not readable; what was read stays");
                }
            }
            drop(reloading);
            // After the pause it is asked anyway.
            let _ = timeout(RELOAD_PAUSE, store_answers.notified()).await;
        };
    }
}

impl State {
    /// Changes what is planned with; the next commit plans everything anew.
    pub(super) fn change_settings(&self, change: impl FnOnce(&mut PlanSettings)) {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut settings);
    }

    fn on_committed(&self, committed: &Committed) {
        let (mut facts, revision) = self.published_facts();
        if committed.revision <= revision {
            return;
        }
        let touched = Touched::by(&committed.changes);
        for change in committed.changes.iter() {
            facts.apply(change.clone());
        }
        self.publish(facts, committed.revision, Some(touched));
    }

    /// Reads everything anew, publishes it if it is news, and watches from there.
    ///
    /// A store that was restored meanwhile may be behind. It gets a generation above the published one, so
    /// that edges take what is in it and never have to go back.
    async fn reload(&self) -> Result<Watch, StoreError> {
        let store = self.store.clone();
        let (held, known) = self.published_facts();
        let loading = tokio::task::spawn_blocking(move || {
            let (mut facts, mut revision) = store.load()?;
            let is_news = revision != known;
            if is_news && facts.generation <= held.generation {
                let next = Change::Generation(held.generation + 1);
                revision = store.commit(revision, std::slice::from_ref(&next))?;
                facts.apply(next);
            }
            let watch = store.watch(revision)?;
            Ok((is_news.then_some(facts), revision, watch))
        });
        let Ok(loaded) = loading.await else {
            std::panic::resume_unwind(Box::new("the store's thread has failed"))
        };
        let (news, revision, watch) = loaded?;
        if let Some(facts) = news {
            self.publish(facts, revision, None);
        }
        Ok(watch)
    }

    fn published_facts(&self) -> (Facts, Revision) {
        let published = self.published.borrow();
        (Facts::clone(&published.facts), published.revision)
    }
}
