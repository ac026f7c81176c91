//! What an edge keeps on its disk: the last snapshot, so that it serves and admits while control is away.
//!
//! Files are replaced whole: written beside, synced, renamed. A full disk leaves the old one in place. The
//! steps from snapshot to snapshot are appended to a journal, so a change costs what it changes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use adit_control_api::snapshot::{RouteSnapshot, SnapshotDelta};

use self::journal::Records;

mod journal;

/// Steps that may wait to be written one by one.
const STEPS_BYTES_MAX: usize = 1024 * 1024;

/// The journal may always grow to this, or a small snapshot would be rewritten all the time.
const JOURNAL_BYTES_MIN: u64 = 64 * 1024;

/// A state file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub(crate) struct StateError {
    path: PathBuf,
    /// The kernel's.
    reason: io::Error,
}

/// Where the last snapshot is kept: a whole one in `snapshot.json`, the steps since in `snapshot.journal`.
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
        let mut snapshot: RouteSnapshot = serde_json::from_slice(&read(&self.path)?)
            .inspect_err(|error| {
                tracing::warn!(path = %self.path.display(), %error, "stored snapshot is damaged");
            })
            .ok()?;
        if let Some(journal) = read(&self.journal()) {
            self.replay(&mut snapshot, &journal);
        }
        Some(snapshot)
    }

    /// Takes the steps that follow on the snapshot. Those that it has already were written before it.
    fn replay(&self, snapshot: &mut RouteSnapshot, journal: &[u8]) {
        let path = self.journal();
        let mut records = Records::of(journal);
        for body in records.by_ref() {
            let step: SnapshotDelta = match serde_json::from_slice(body) {
                Ok(step) => step,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a stored step is damaged");
                    return;
                }
            };
            if let Err(gap) = snapshot.apply(step) {
                tracing::warn!(path = %path.display(), error = %gap, "stored steps are missing");
                return;
            }
        }
        if !records.rest().is_empty() {
            let bytes = records.rest().len();
            tracing::warn!(path = %path.display(), bytes, "the last stored step was cut off; control repeats it");
        }
    }

    /// Writes a whole snapshot; returns its size. The steps before it are left for the caller to forget.
    pub(crate) fn save(&self, snapshot: &RouteSnapshot) -> Result<u64, StateError> {
        let bytes = serde_json::to_vec(snapshot).expect("maps with string keys");
        write_atomically(&self.path, &bytes, 0o600)?;
        Ok(bytes.len() as u64)
    }

    fn journal(&self) -> PathBuf {
        self.path.with_extension("journal")
    }
}

/// What has to be written.
#[derive(Debug, Default)]
pub(crate) enum Unsaved {
    /// Nothing since the last time.
    #[default]
    Nothing,
    /// Deltas in their JSON form, in order.
    Steps(Vec<Vec<u8>>),
    /// Everything.
    Whole,
}

impl Unsaved {
    /// Adds a delta. More than a mebibyte of them is written as a whole snapshot.
    pub(crate) fn step(&mut self, step: Vec<u8>) {
        match self {
            Self::Nothing => *self = Self::Steps(vec![step]),
            Self::Steps(steps) => {
                steps.push(step);
                if steps.iter().map(Vec::len).sum::<usize>() > STEPS_BYTES_MAX {
                    *self = Self::Whole;
                }
            }
            Self::Whole => {}
        }
    }
}

/// Keeps the files up to date: appends steps, and writes the whole once they take more room than it does.
///
/// ```text
/// whole snapshot ─► journal emptied ─► step, step, step … ─► longer than the snapshot? ─► whole snapshot …
/// ```
/// So over time at most twice the bytes of all steps are written. A kill between the first two leaves steps
/// that the snapshot has already; reading passes over them. After an error the whole is written next.
#[derive(Debug)]
pub(crate) struct Saver {
    file: SnapshotFile,
    journal: Option<Journal>,
}

/// The open journal.
#[derive(Debug)]
struct Journal {
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl Saver {
    /// Knows nothing of what is there, so the first thing it writes is a whole snapshot.
    pub(crate) const fn new(file: SnapshotFile) -> Self {
        Self { file, journal: None }
    }

    /// Brings the files up to `snapshot`, which is where `unsaved` leads. Returns how many bytes it wrote.
    pub(crate) fn save(&mut self, snapshot: &RouteSnapshot, unsaved: &Unsaved) -> Result<u64, StateError> {
        let steps = match unsaved {
            Unsaved::Nothing => return Ok(0),
            Unsaved::Steps(steps) => steps,
            Unsaved::Whole => return self.whole(snapshot),
        };
        let mut records = Vec::new();
        for step in steps {
            journal::encode(step, &mut records);
        }
        let length = records.len() as u64;
        let Some(mut journal) = self
            .journal
            .take()
            .filter(|journal| journal.bytes + length <= journal.bytes_max)
        else {
            return self.whole(snapshot);
        };
        let appended = journal
            .file
            .write_all(&records)
            .and_then(|()| journal.file.sync_data());
        appended.map_err(|reason| StateError {
            path: self.file.journal(),
            reason,
        })?;
        journal.bytes += length;
        self.journal = Some(journal);
        Ok(length)
    }

    fn whole(&mut self, snapshot: &RouteSnapshot) -> Result<u64, StateError> {
        self.journal = None;
        let bytes = self.file.save(snapshot)?;
        let path = self.file.journal();
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| file.sync_all().map(|()| file));
        let file = opened.map_err(|reason| StateError { path, reason })?;
        self.journal = Some(Journal {
            file,
            bytes: 0,
            bytes_max: bytes.max(JOURNAL_BYTES_MIN),
        });
        Ok(bytes)
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "stored snapshot not readable");
            None
        }
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
    use adit_control_api::snapshot::RouteTarget;

    use super::*;

    /// So many hostnames, one more in each generation.
    fn snapshot(generation: u64) -> RouteSnapshot {
        let tunnel = uuid::Uuid::nil().into();
        RouteSnapshot {
            generation,
            routes: (0..generation)
                .map(|n| (format!("h{n}.test").parse().unwrap(), RouteTarget::Tunnel(tunnel)))
                .collect(),
            ..Default::default()
        }
    }

    /// The step to this generation from the one before.
    fn step(to: u64) -> Unsaved {
        let mut unsaved = Unsaved::default();
        unsaved.step(serde_json::to_vec(&delta(to)).unwrap());
        unsaved
    }

    fn delta(to: u64) -> SnapshotDelta {
        let pattern = format!("h{}.test", to - 1).parse().unwrap();
        SnapshotDelta {
            from: to - 1,
            to,
            routes_set: [(pattern, RouteTarget::Tunnel(uuid::Uuid::nil().into()))].into(),
            ..Default::default()
        }
    }

    fn assert_stored(file: &SnapshotFile, generation: u64) {
        let stored = file.load().unwrap();
        assert_eq!(stored.generation, generation);
        assert!(stored.same_content(&snapshot(generation)));
    }

    #[test]
    fn a_saved_snapshot_comes_back_and_a_damaged_one_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile::in_dir(dir.path());
        assert!(file.load().is_none());
        file.save(&snapshot(7)).unwrap();
        assert_stored(&file, 7);
        std::fs::write(dir.path().join("snapshot.json"), b"{\"gen").unwrap();
        assert!(file.load().is_none());
    }

    #[test]
    fn steps_are_appended_and_the_whole_is_written_when_they_outgrow_it() {
        const LAST: u64 = 3_000;
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile::in_dir(dir.path());
        let mut saver = Saver::new(file.clone());
        let (mut written, mut steps, mut wholes) = (0, 0, 0);
        let mut held = snapshot(0);
        for generation in 1..=LAST {
            held.apply(delta(generation)).unwrap();
            let unsaved = step(generation);
            let Unsaved::Steps(list) = &unsaved else {
                panic!("one step")
            };
            let bytes = list[0].len() as u64 + 8;
            let saved = saver.save(&held, &unsaved).unwrap();
            wholes += u64::from(saved != bytes);
            written += saved;
            steps += bytes;
            if generation % 1_000 == 0 {
                assert_stored(&file, generation);
            }
        }
        assert!((2..=8).contains(&wholes), "{wholes} whole snapshots");
        assert!(
            written < 2 * steps + JOURNAL_BYTES_MIN,
            "{written} bytes for {steps}"
        );
        // After a restart nothing is appended to a journal that somebody else has written.
        let mut again = Saver::new(file.clone());
        again.save(&snapshot(LAST + 1), &step(LAST + 1)).unwrap();
        assert_eq!(std::fs::metadata(file.journal()).unwrap().len(), 0);
        assert_stored(&file, LAST + 1);
    }

    #[test]
    fn a_kill_at_any_byte_leaves_the_last_whole_step_or_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile::in_dir(dir.path());
        let mut saver = Saver::new(file.clone());
        saver.save(&snapshot(1), &Unsaved::Whole).unwrap();
        let mut ends = vec![0];
        for generation in 2..=4 {
            saver.save(&snapshot(generation), &step(generation)).unwrap();
            ends.push(std::fs::metadata(file.journal()).unwrap().len() as usize);
        }
        let journal = std::fs::read(file.journal()).unwrap();
        for cut in 0..=journal.len() {
            std::fs::write(file.journal(), &journal[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
            assert_stored(&file, whole);
        }
        // Between a whole snapshot and the emptied journal: the steps are older than the snapshot.
        std::fs::write(file.journal(), &journal).unwrap();
        file.save(&snapshot(3)).unwrap();
        assert_stored(&file, 4);
        file.save(&snapshot(9)).unwrap();
        assert_stored(&file, 9);
        // Steps that begin later than the snapshot ends do not count.
        file.save(&snapshot(1)).unwrap();
        std::fs::write(file.journal(), &journal[ends[1]..]).unwrap();
        assert_stored(&file, 1);
    }

    #[test]
    fn after_an_error_the_whole_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = SnapshotFile::in_dir(dir.path());
        let mut saver = Saver::new(file.clone());
        saver.save(&snapshot(1), &Unsaved::Whole).unwrap();
        // Writing to a file that is open for reading only fails as a full disk does.
        saver.journal.as_mut().unwrap().file = File::open(file.journal()).unwrap();
        assert!(saver.save(&snapshot(2), &step(2)).is_err());
        assert_stored(&file, 1);
        saver.save(&snapshot(3), &step(3)).unwrap();
        assert_stored(&file, 3);
    }

    #[test]
    fn many_steps_at_once_are_one_snapshot() {
        let mut unsaved = Unsaved::default();
        for _ in 0..3 {
            unsaved.step(vec![0; STEPS_BYTES_MAX / 2]);
        }
        assert!(matches!(unsaved, Unsaved::Whole));
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
