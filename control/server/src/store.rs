//! Where facts outlive the process: the contract, and the one store that keeps it, a file on this machine
//! (`redb`).
//!
//! ```text
//! load   → facts at a revision
//! commit(the revision they were decided on, changes) → the next revision, or a lost race and no change
//! watch(from a revision) → every later commit once, in order, whoever made it
//! ```
//! A commit is all or nothing and on disk when it returns `Ok`. After an error the caller cannot know whether
//! the changes are in: the last sync may have failed after the data was written. A store that cannot tell
//! either ends its watches, and who watched loads again. A lost race is no such error: then nothing is in.
//!
//! `conformance` holds any store to these words.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::facts::{Change, Facts};

mod feed;
mod redb;
#[cfg(test)]
mod conformance;

pub use self::redb::RedbStore;
#[cfg(test)]
pub(crate) use self::redb::tests::store_on_small_disk as small_disk;

/// The store's own count of what was committed to it. It grows with every commit, and never goes back.
///
/// It is not the generation: that is a fact, which also has to lie above what edges hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// Durable facts, which several may change at once.
pub trait Store: Send + Sync + 'static {
    /// Reads everything.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn load(&self) -> Result<(Facts, Revision), StoreError>;

    /// Makes the changes durable, all together, if nothing was committed since `expected`.
    ///
    /// # Errors
    /// [`StoreError::Raced`] when something was; nothing has changed then. Of the other variants see the
    /// module's words on what is then known.
    fn commit(&self, expected: Revision, changes: &[Change]) -> Result<Revision, StoreError>;

    /// Tells every commit after `from`, in order and without a gap.
    ///
    /// # Errors
    /// [`StoreError::Unwatchable`] when not all of them are kept any more: load, and watch from there.
    fn watch(&self, from: Revision) -> Result<Watch, StoreError>;
}

/// One commit.
#[derive(Debug, Clone)]
pub struct Committed {
    /// What it came to.
    pub revision: Revision,
    /// What it changed.
    pub changes: Arc<[Change]>,
}

/// Commits as they come.
#[derive(Debug)]
pub struct Watch {
    commits: mpsc::Receiver<Committed>,
}

impl Watch {
    /// The next commit. `None` when the store cannot go on without a gap, because it does not know how a
    /// commit ended or because this watch fell too far behind, and when the store is gone.
    pub async fn next(&mut self) -> Option<Committed> {
        self.commits.recv().await
    }
}

/// The store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another control process has it open.
    #[error(
        "the store {} is in use by another control process; stop that one or choose another state-dir",
        path.display()
    )]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// Somebody else has committed since. Nothing was changed.
    #[error("the store is at revision {}, the write was decided at {}", found.0, expected.0)]
    Raced {
        /// What the write was decided on.
        expected: Revision,
        /// Where the store is.
        found: Revision,
    },
    /// Commits after that revision are not kept any more, or it is not of this store.
    #[error("revision {} cannot be watched from; the store is at {}", from.0, newest.0)]
    Unwatchable {
        /// What was asked for.
        from: Revision,
        /// Where the store is.
        newest: Revision,
    },
    /// The disk is full.
    #[error("no space is left on the disk of the store {}; free some and try again", path.display())]
    Full {
        /// The store's file.
        path: PathBuf,
    },
    /// The disk or its permissions do not allow it.
    #[error("the store {} cannot be read or written", path.display())]
    Io {
        /// The store's file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The file is not what this program wrote.
    #[error("the store {} is damaged: {reason}; restore it from a backup", path.display())]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("the store {} has format {found}, this program knows up to {known}; run a newer adit", path.display())]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// Format of the file.
        found: u64,
        /// Newest known format.
        known: u64,
    },
}
