//! The access log: one JSON line per exchange, written by a thread of its own.
//!
//! Cores put records into a bounded queue and never wait: when the writer is behind, because the disk is
//! slow or full, records are dropped and counted. A failed write loses its lines and is counted; the next
//! one starts on a fresh line.
//!
//! Does not: rotate files. After a rename, SIGHUP makes it open the file anew.

mod line;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::metrics::Counter;

pub(crate) use line::{AccessRecord, Protocol, Via};

/// Records that may wait for the writer; about 2 MiB.
const RECORDS_MAX: usize = 8_192;

/// Bytes collected before a write when records keep coming.
const WRITE_BYTES: usize = 64 << 10;

/// What the writer is asked.
enum Message {
    Record(Box<AccessRecord>),
    /// This file, or the same.
    Reopen(Option<PathBuf>),
    /// Write what is there and say so.
    Flush(SyncSender<()>),
}

/// Counters of the writer.
#[derive(Debug, Default)]
pub(crate) struct LogMetrics {
    pub(crate) written: Counter,
    pub(crate) failed: Counter,
}

/// The way to the writer; `Send`, one per core.
#[derive(Clone)]
pub(crate) struct AccessLog {
    queue: Option<SyncSender<Message>>,
    metrics: Arc<LogMetrics>,
}

impl AccessLog {
    /// Opens the file and starts the writer; without a path nothing is logged.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let metrics = Arc::<LogMetrics>::default();
        let Some(path) = path else {
            return Ok(Self { queue: None, metrics });
        };
        let writer = Writer {
            path: path.to_owned(),
            file: open(path)?,
            is_torn: false,
            metrics: metrics.clone(),
        };
        let (queue, records) = sync_channel(RECORDS_MAX);
        // Ends with the process; `flush` makes sure that nothing is lost by that.
        thread::Builder::new()
            .name("adit-access-log".into())
            .spawn(move || writer.run(&records))?;
        Ok(Self {
            queue: Some(queue),
            metrics,
        })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues a record; false if it was dropped.
    pub(crate) fn write(&self, record: Box<AccessRecord>) -> bool {
        self.queue
            .as_ref()
            .is_none_or(|queue| queue.try_send(Message::Record(record)).is_ok())
    }

    /// Opens the file anew, after it was renamed, or another one.
    pub(crate) fn reopen(&self, other: Option<&Path>) {
        if let Some(queue) = &self.queue
            && queue
                .try_send(Message::Reopen(other.map(Path::to_owned)))
                .is_err()
        {
            tracing::warn!("access log not reopened: its writer is behind");
        }
    }

    /// Waits until what is queued is written. Blocks.
    pub(crate) fn flush(&self) {
        let Some(queue) = &self.queue else { return };
        let (done, is_done) = sync_channel(1);
        if queue.send(Message::Flush(done)).is_ok() {
            // An error means that the writer is gone and there is nothing to wait for.
            let _ = is_done.recv();
        }
    }

    pub(crate) fn metrics(&self) -> &LogMetrics {
        &self.metrics
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

struct Writer {
    path: PathBuf,
    file: File,
    /// The last write may have ended inside a line.
    is_torn: bool,
    metrics: Arc<LogMetrics>,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut batch = Vec::with_capacity(WRITE_BYTES);
        let mut count = 0;
        while let Ok(first) = messages.recv() {
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Record(record) => {
                        record.write_line(&mut batch);
                        count += 1;
                        if batch.len() >= WRITE_BYTES {
                            self.write(&mut batch, &mut count);
                        }
                    }
                    Message::Reopen(other) => {
                        self.write(&mut batch, &mut count);
                        self.reopen(other);
                    }
                    Message::Flush(done) => {
                        self.write(&mut batch, &mut count);
                        // Whoever asked may have stopped waiting.
                        let _ = done.send(());
                    }
                }
                next = messages.try_recv().ok();
            }
            self.write(&mut batch, &mut count);
        }
    }

    fn write(&mut self, batch: &mut Vec<u8>, count: &mut u64) {
        if batch.is_empty() {
            return;
        }
        if self.is_torn {
            batch.insert(0, b'\n');
        }
        match self.file.write_all(batch) {
            Ok(()) => {
                self.is_torn = false;
                self.metrics.written.add(*count);
            }
            Err(error) => {
                // Said once per failure period; the counter tells how much was lost.
                if !self.is_torn {
                    tracing::warn!(path = %self.path.display(), %error, "access log lines lost");
                }
                self.is_torn = true;
                self.metrics.failed.add(*count);
            }
        }
        batch.clear();
        *count = 0;
    }

    fn reopen(&mut self, other: Option<PathBuf>) {
        let path = other.unwrap_or_else(|| self.path.clone());
        match open(&path) {
            Ok(file) => {
                self.file = file;
                self.path = path;
                self.is_torn = false;
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "access log not reopened");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_lines_and_a_renamed_file_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = AccessLog::open(Some(&path)).unwrap();
        assert!(log.write(Box::new(AccessRecord::example())));
        log.flush();
        std::fs::rename(&path, dir.path().join("old.log")).unwrap();
        log.reopen(None);
        assert!(log.write(Box::new(AccessRecord::example())));
        log.flush();
        for name in ["old.log", "access.log"] {
            let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(text.lines().count(), 1, "{name}");
        }
        assert_eq!(log.metrics().written.get(), 2);
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let log = AccessLog::open(Some(Path::new("/dev/full"))).unwrap();
        assert!(log.write(Box::new(AccessRecord::example())));
        log.flush();
        assert_eq!((log.metrics().written.get(), log.metrics().failed.get()), (0, 1));
    }
}
