//! Writes: decided on the published facts, committed at their revision, and decided again if somebody else
//! was faster.

use std::sync::Arc;
use std::time::Duration;

use adit_control_api::problem::{ApiError, Code};
use tokio::time::timeout;

use super::{Chain, State};
use crate::change::{Decided, Decision};
use crate::facts::{Change, Facts};
use crate::store::{Revision, StoreError};

/// Times that a write is decided before its caller is told that others are faster.
const ATTEMPTS_MAX: usize = 5;

/// How long a write waits until its commit is published. Longer only if the store answers no more.
const PUBLISH_TIME: Duration = Duration::from_secs(10);

/// Why a write came to nothing.
enum Failure {
    /// It is not allowed.
    Refused(ApiError),
    /// The store does not take it.
    Store(StoreError),
}

impl State {
    /// Decides a write on the newest facts and makes it durable. It may be decided several times, on facts
    /// that others have changed meanwhile.
    pub(crate) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        mut decide: impl FnMut(&Facts) -> Decided<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let state = self.clone();
        let write = tokio::spawn(async move {
            state
                .commit_decided(|facts| {
                    let Decision { mut changes, answer } = decide(facts)?;
                    if !changes.is_empty() {
                        changes.push(Change::Generation(facts.generation + 1));
                    }
                    Ok(Decision { changes, answer })
                })
                .await
        });
        match write.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Failure::Refused(error))) => Err(error),
            Ok(Err(Failure::Store(error))) => Err(refusal(&error)),
            Err(_) => Err(Code::Unavailable.error("control is stopping")),
        }
    }

    /// Has every edge know another limit of replicas, by a new generation.
    pub(crate) async fn replan(&self, replicas_max: u32) -> Result<(), StoreError> {
        self.change_settings(|settings| settings.replicas_max = replicas_max);
        self.next_generation(|facts| Some(facts.generation + 1)).await
    }

    /// Goes above a generation that an edge holds.
    pub(super) async fn raise_generation(&self, held: u64) -> Result<(), StoreError> {
        self.next_generation(|facts| (held > facts.generation).then_some(held + 1))
            .await
    }

    async fn next_generation(&self, next: impl Fn(&Facts) -> Option<u64>) -> Result<(), StoreError> {
        let done = self
            .commit_decided(|facts| {
                let changes = next(facts).map(Change::Generation).into_iter().collect();
                Ok(Decision { changes, answer: () })
            })
            .await;
        match done {
            Ok(()) => Ok(()),
            Err(Failure::Store(error)) => Err(error),
            Err(Failure::Refused(_)) => unreachable!("a generation is never refused"),
        }
    }

    async fn commit_decided<T>(&self, mut decide: impl FnMut(&Facts) -> Decided<T>) -> Result<T, Failure> {
        let _turn = self.turn.lock().await;
        let mut attempts = 1;
        loop {
            let (facts, revision) = {
                let published = self.published.borrow();
                (published.facts.clone(), published.revision)
            };
            let Decision { changes, answer } = decide(&facts).map_err(Failure::Refused)?;
            if changes.is_empty() {
                return Ok(answer);
            }
            match self.commit(revision, changes).await {
                Ok(committed) => {
                    self.reach(committed).await;
                    return Ok(answer);
                }
                Err(StoreError::Raced { found, .. }) if attempts < ATTEMPTS_MAX => {
                    self.metrics.commit_raced();
                    attempts += 1;
                    self.reach(found).await;
                }
                Err(error) => {
                    self.metrics.commit_failed();
                    tracing::error!(error = %Chain(&error), "a write could not be stored");
                    return Err(Failure::Store(error));
                }
            }
        }
    }

    async fn commit(&self, expected: Revision, changes: Vec<Change>) -> Result<Revision, StoreError> {
        let store = self.store.clone();
        let commit = tokio::task::spawn_blocking(move || store.commit(expected, &changes));
        let Ok(done) = commit.await else {
            std::panic::resume_unwind(Box::new("the store's thread has failed"))
        };
        if done.is_ok() {
            self.store_answers.notify_one();
        }
        done
    }

    /// Waits until the follower has published a revision.
    async fn reach(&self, revision: Revision) {
        let mut published = self.published.subscribe();
        let reached = published.wait_for(|published| published.revision >= revision);
        if timeout(PUBLISH_TIME, reached).await.is_err() {
            tracing::warn!(
                revision = revision.0,
                "a stored write is not published yet: the store does not tell of it"
            );
        }
    }
}

/// What an API caller learns of a failed commit; paths and kernel errors stay in the log.
fn refusal(error: &StoreError) -> ApiError {
    Code::StoreFailed.error(match error {
        StoreError::Full { .. } => {
            "control's disk is full, so the write was not stored; try again when it has room"
        }
        StoreError::Raced { .. } => {
            "others were writing all the time, so the write was not stored; try again"
        }
        StoreError::InUse { .. }
        | StoreError::Unwatchable { .. }
        | StoreError::Io { .. }
        | StoreError::Damaged { .. }
        | StoreError::Newer { .. } => {
            "control's store has failed, so the write was not stored; its log says why"
        }
    })
}
