//! Notices that a file has changed, by looking at it.
//!
//! Polling works where notifications do not: on network file systems, through symbolic links, and for the
//! mounts of container platforms, which swap a link far above the file. It costs one `stat` every two
//! seconds.
//!
//! A change counts once the file has looked the same twice in a row, so that one that is still being written
//! is not read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until};

/// How often files are looked at.
const PACE: Pace = Pace {
    interval: Duration::from_secs(2),
    settle_time: Duration::from_millis(250),
};

/// How often a file is looked at.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Between looks at a file that does not change.
    interval: Duration,
    /// How long a changed file must stay as it is.
    settle_time: Duration,
}

/// A file that is watched.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    pace: Pace,
    /// As it was read; `None` before the first look.
    read: Option<Stamp>,
    /// As it was seen since, until it has settled.
    changed: Option<Stamp>,
    next: Instant,
}

/// What tells two states of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
    device: u64,
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            modified: file.modified().ok(),
            size: file.len(),
            inode: file.ino(),
            device: file.dev(),
        }
    }
}

impl Watch {
    /// Watches the file that is about to be read, or has just been.
    pub(super) fn new(path: PathBuf) -> Self {
        Self::at(PACE, path)
    }

    fn at(pace: Pace, path: PathBuf) -> Self {
        let read = std::fs::metadata(&path).ok();
        Self {
            read: read.as_ref().map(Stamp::of),
            path,
            pace,
            changed: None,
            next: Instant::now() + pace.interval,
        }
    }

    /// Takes the file as it is for known.
    pub(super) fn forget(&mut self) {
        *self = Self::at(self.pace, std::mem::take(&mut self.path));
    }

    /// Waits until the file has changed and settled. A file that is gone has not changed. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            sleep_until(self.next).await;
            // On a thread that may wait: a network file system may take its time.
            let found = tokio::fs::metadata(&self.path).await;
            let stamp = found.ok().as_ref().map(Stamp::of);
            self.next = Instant::now() + self.pace.interval;
            if stamp.is_none() || stamp == self.read {
                self.changed = None;
                continue;
            }
            if stamp == self.changed {
                self.read = stamp;
                self.changed = None;
                return;
            }
            self.changed = stamp;
            self.next = Instant::now() + self.pace.settle_time;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const QUICK: Pace = Pace {
        interval: Duration::from_millis(4),
        settle_time: Duration::from_millis(2),
    };

    async fn is_quiet(watch: &mut Watch) -> bool {
        tokio::time::timeout(20 * QUICK.interval, watch.changed())
            .await
            .is_err()
    }

    #[tokio::test]
    async fn a_change_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yml");
        fs::write(&file, "a").unwrap();
        let mut watch = Watch::at(QUICK, file.clone());
        assert!(is_quiet(&mut watch).await);
        fs::write(&file, "ab").unwrap();
        watch.changed().await;
        assert!(is_quiet(&mut watch).await);
        // Replaced by another file of the same size, as editors do.
        let new = folder.path().join("new");
        fs::write(&new, "cd").unwrap();
        fs::rename(&new, &file).unwrap();
        watch.changed().await;
        fs::remove_file(&file).unwrap();
        assert!(is_quiet(&mut watch).await);
        fs::write(&file, "efg").unwrap();
        watch.changed().await;
    }
}
