//! Where facts outlive the process: the contract, and the one store that keeps it, a file on this machine
//! (`redb`).
//!
//! A commit is all or nothing and on disk when it returns `Ok`. After an error the caller cannot know whether
//! the changes are in: the last sync may have failed after the data was written. So it loads again.

use std::io;
use std::path::PathBuf;

use crate::facts::{Change, Facts};

mod redb;

pub use self::redb::RedbStore;
#[cfg(test)]
pub(crate) use self::redb::tests::store_on_small_disk as small_disk;

/// Durable facts.
pub trait Store: Send + Sync + 'static {
    /// Reads everything.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn load(&self) -> Result<Facts, StoreError>;

    /// Makes the changes durable, all together.
    ///
    /// # Errors
    /// Any [`StoreError`]; see the module's words on what is then known.
    fn commit(&self, changes: &[Change]) -> Result<(), StoreError>;
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
