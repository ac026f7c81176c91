//! The log file, which is opened anew on SIGHUP: whoever rotates logs renames the file and sends one.
//!
//! A thread of its own waits for the signal, so that it works whatever the process is busy with. A file that
//! cannot be opened anew leaves the old one in use.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// A file opened for appending; clones are the same file.
#[derive(Clone, Debug)]
pub(super) struct Reopened {
    path: PathBuf,
    open: Arc<Mutex<File>>,
}

impl Reopened {
    /// Opens it, and makes its folder if there is none.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let file = append(path).with_context(|| format!("cannot open the log file {}", path.display()))?;
        Ok(Self {
            // The working directory may change.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            open: Arc::new(Mutex::new(file)),
        })
    }

    /// Opens it anew at every SIGHUP from here on. The signal no longer ends the process.
    pub(super) fn follow_signals(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.context("cannot wait for signals")?;
        let guard = runtime.enter();
        let mut hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
        drop(guard);
        let file = self.clone();
        // Ends with the process.
        let waiting = std::thread::Builder::new().name("adit-log-file".to_owned());
        let waiting = waiting.spawn(move || {
            runtime.block_on(async {
                while hangup.recv().await.is_some() {
                    file.reopen();
                }
            });
        });
        waiting.context("cannot start a thread").map(drop)
    }

    fn reopen(&self) {
        match append(&self.path) {
            Ok(file) => {
                *self.open.lock().unwrap_or_else(PoisonError::into_inner) = file;
                tracing::info!(path = %self.path.display(), "the log file is opened anew");
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the log file cannot be opened anew; the old one is used");
            }
        }
    }
}

impl Write for Reopened {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_file_is_left_behind_and_a_missing_folder_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/adit.log");
        let mut log = Reopened::open(&path).unwrap();
        log.write_all(b"one\n").unwrap();
        let renamed = folder.path().join("deep/adit.log.1");
        std::fs::rename(&path, &renamed).unwrap();
        log.reopen();
        log.write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&renamed).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        std::fs::rename(folder.path().join("deep"), folder.path().join("away")).unwrap();
        log.reopen();
        log.write_all(b"three\n").unwrap();
        let kept = std::fs::read_to_string(folder.path().join("away/adit.log")).unwrap();
        assert_eq!(kept, "two\nthree\n");
    }
}
