//! Where a configuration came from, to read it again while the connector runs.

use std::fmt;
use std::path::Path;

use super::file::{self, File};
use super::{Config, ConfigError, Flags};

/// Keys of the file that have their effect as soon as it is read again; all others wait for the next start.
const RELOADED: &[&str] = &[
    "ingress",
    "originRequest",
    "url",
    "hello-world",
    "unix-socket",
    "bastion",
    "socks5",
    "proxy-connect-timeout",
    "proxy-tls-timeout",
    "proxy-tcp-keepalive",
    "proxy-keepalive-timeout",
    "proxy-keepalive-connections",
    "proxy-no-happy-eyeballs",
    "http-host-header",
    "origin-server-name",
    "origin-ca-pool",
    "no-tls-verify",
    "no-chunked-encoding",
    "http2-origin",
];

/// What the configuration was made of.
#[derive(Clone)]
pub(crate) struct Source {
    pub(super) flags: Flags,
    pub(super) file: File,
}

/// The configuration of a file that was read again.
pub(crate) struct Reread {
    /// All of it.
    pub(crate) config: Config,
    /// Keys that differ from the first reading and need a new start.
    pub(crate) for_next_start: Vec<String>,
}

impl Config {
    /// The file that was read, if there was one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.source.file.path.as_deref()
    }

    /// Reads the file again and checks all of it.
    ///
    /// # Errors
    /// As [`Config::resolve`], and [`ConfigError::Emptied`] for a file that says nothing.
    pub(crate) fn reread(&self) -> Result<Reread, ConfigError> {
        let Some(path) = self.file() else {
            return Err(ConfigError::NoFile);
        };
        let file = File::parse(path, &file::read(path)?)?;
        if file.is_empty() {
            return Err(ConfigError::Emptied {
                path: path.to_owned(),
            });
        }
        let mut for_next_start = file.differing(&self.source.file);
        for_next_start.retain(|key| !RELOADED.contains(&key.as_str()));
        Ok(Reread {
            config: Self::usable(&file, self.source.flags.clone())?,
            for_next_start,
        })
    }
}

/// Flags and file may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file.path)
            .finish_non_exhaustive()
    }
}
