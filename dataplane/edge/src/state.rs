//! What an edge keeps on its disk: the last snapshot, so that it serves and admits while control is away.
//!
//! Files are replaced whole: written beside, synced, renamed. A full disk leaves the old one in place.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use adit_control_api::snapshot::RouteSnapshot;

/// A state file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub(crate) struct StateError {
    path: PathBuf,
    /// The kernel's.
    reason: io::Error,
}

/// Where the last snapshot is kept.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
}

impl SnapshotFile {
    pub(crate) fn in_dir(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("snapshot.json"),
        }
    }

    /// The stored snapshot; a missing or damaged one counts as none, since control sends a new one.
    pub(crate) fn load(&self) -> Option<RouteSnapshot> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "stored snapshot not readable");
                return None;
            }
        };
        serde_json::from_slice(&bytes)
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "stored snapshot is damaged");
            })
            .ok()
    }

    pub(crate) fn save(&self, snapshot: &RouteSnapshot) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(snapshot).expect("maps with string keys");
        write_atomically(&self.path, &bytes, 0o600)
    }
}

/// Replaces `path` by `contents`, readable by `mode` only, or leaves it as it was.
pub(crate) fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> Result<(), StateError> {
    let beside = path.with_extension("new");
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        // The rename itself must survive a power cut.
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|reason| StateError {
        path: path.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_snapshot_comes_back_and_a_damaged_one_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile::in_dir(dir.path());
        assert!(file.load().is_none());
        file.save(&RouteSnapshot {
            generation: 7,
            ..Default::default()
        })
        .unwrap();
        assert_eq!(file.load().unwrap().generation, 7);
        std::fs::write(dir.path().join("snapshot.json"), b"{\"gen").unwrap();
        assert!(file.load().is_none());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write_atomically(&path, b"old", 0o600).unwrap();
        // A directory in the way of the temporary file fails the write before the rename.
        std::fs::create_dir(path.with_extension("new")).unwrap();
        assert!(write_atomically(&path, b"new", 0o600).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}
