//! A log file that is put aside when it is full: `cloudflared.log`, before it
//! `cloudflared-2026-01-02T03-04-05.678.log`.
//!
//! The names, the size and the number of files kept are cloudflared's, so that what collects its logs finds
//! ours. Directories are made when the file is opened. A file that cannot be put aside is written on to:
//! lines come first.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use time::{OffsetDateTime, UtcOffset};

/// Largest size of the file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Files that are kept besides the one that is written.
const ASIDE_MAX: usize = 5;

/// What stands between the stem and the extension of a file that was put aside, with zeros for digits.
const STAMP: &str = "0000-00-00T00-00-00.000";

/// The file and how full it is.
#[derive(Debug)]
pub(super) struct Rolling {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Rolling {
    /// Opens the file, going on where an earlier process ended.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)?;
        }
        let file = open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
        })
    }

    /// Writes a line; `now` names the file that may have to be put aside for it.
    pub(super) fn write(&mut self, line: &[u8], now: OffsetDateTime) -> io::Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > FILE_BYTES_MAX {
            self.put_aside(now)?;
        }
        self.bytes += length;
        self.file.write_all(line)
    }

    fn put_aside(&mut self, now: OffsetDateTime) -> io::Result<()> {
        let (stem, extension) = self.name();
        let aside = self
            .path
            .with_file_name(format!("{stem}-{}{extension}", stamp(now)));
        match std::fs::rename(&self.path, aside) {
            Ok(()) => {
                self.file = open(&self.path)?;
                self.prune();
            }
            // Somebody else has put it aside.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.file = open(&self.path)?,
            Err(_) => {}
        }
        // A directory that does not let us is asked again after as many bytes, not at every line.
        self.bytes = 0;
        Ok(())
    }

    /// Removes the oldest of the files put aside. One that stays is removed the next time.
    fn prune(&self) {
        let directory = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Ok(entries) = std::fs::read_dir(directory.unwrap_or_else(|| Path::new("."))) else {
            return;
        };
        let (stem, extension) = self.name();
        let is_aside = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            let stamp = name
                .and_then(|name| name.strip_prefix(&stem)?.strip_prefix('-'))
                .and_then(|rest| rest.strip_suffix(&extension));
            stamp.is_some_and(is_stamp)
        };
        let mut aside: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(is_aside)
            .collect();
        // Stamps sort as their times do.
        aside.sort_unstable();
        let surplus = aside.len().saturating_sub(ASIDE_MAX);
        for path in aside.into_iter().take(surplus) {
            let _tried_again_next_time = std::fs::remove_file(path);
        }
    }

    /// `cloudflared` and `.log`.
    fn name(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = self
            .path
            .extension()
            .map_or_else(String::new, |_| format!(".{}", text(self.path.extension())));
        (text(self.path.file_stem()), extension)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn stamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}-{:02}-{:02}.{:03}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

fn is_stamp(text: &str) -> bool {
    let fits = |(byte, model): (u8, u8)| byte == model || model == b'0' && byte.is_ascii_digit();
    text.len() == STAMP.len() && text.bytes().zip(STAMP.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_767_323_040 + second).unwrap()
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("cloudflared.log");
        let half = vec![b'x'; FILE_BYTES_MAX as usize / 2];
        let mut rolling = Rolling::open(&path).unwrap();
        rolling.write(&half, at(0)).unwrap();
        rolling.write(&half, at(1)).unwrap();
        assert_eq!(names(path.parent().unwrap()), ["cloudflared.log"]);
        std::fs::write(path.with_file_name("cloudflared-kept.log"), "not ours").unwrap();
        // A process that starts goes on where the one before ended.
        let mut rolling = Rolling::open(&path).unwrap();
        rolling.write(b"next\n", at(5)).unwrap();
        assert_eq!(
            names(path.parent().unwrap()),
            [
                "cloudflared-2026-01-02T03-04-05.000.log",
                "cloudflared-kept.log",
                "cloudflared.log"
            ]
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"next\n");
        for second in 6..20 {
            rolling.write(&half, at(second)).unwrap();
            rolling.write(&half, at(second)).unwrap();
        }
        let names = names(path.parent().unwrap());
        assert_eq!(names.len(), ASIDE_MAX + 2, "{names:?}");
        assert!(!names.contains(&"cloudflared-2026-01-02T03-04-05.000.log".to_owned()));
        assert!(names.contains(&"cloudflared-kept.log".to_owned()));
    }

    #[test]
    fn a_line_is_written_also_where_nothing_can_be_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloudflared.log");
        let mut rolling = Rolling::open(&path).unwrap();
        let full = vec![b'x'; FILE_BYTES_MAX as usize];
        rolling.write(&full, at(0)).unwrap();
        // A directory of the name it would get is in the way.
        std::fs::create_dir_all(
            folder
                .path()
                .join("cloudflared-2026-01-02T03-04-01.000.log")
                .join("x"),
        )
        .unwrap();
        rolling.write(b"next\n", at(1)).unwrap();
        assert!(std::fs::read(&path).unwrap().ends_with(b"xnext\n"));
    }

    #[test]
    fn a_file_that_somebody_else_moved_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloudflared.log");
        let mut rolling = Rolling::open(&path).unwrap();
        rolling
            .write(&vec![b'x'; FILE_BYTES_MAX as usize], at(0))
            .unwrap();
        std::fs::rename(&path, folder.path().join("away")).unwrap();
        rolling.write(b"next\n", at(1)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"next\n");
    }
}
