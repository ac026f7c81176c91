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

    /// Reads the file again and checks all of it. `had_rules` says whether anybody has set the rules that it
    /// replaces.
    ///
    /// # Errors
    /// As [`Config::resolve`], [`ConfigError::Emptied`] for a file that says nothing, and
    /// [`ConfigError::RulesGone`] for one without rules after one with rules.
    pub(crate) fn reread(&self, had_rules: bool) -> Result<Reread, ConfigError> {
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
        let config = Self::usable(&file, self.source.flags.clone())?;
        if had_rules && !config.has_rules {
            return Err(ConfigError::RulesGone {
                path: path.to_owned(),
                hint: config.rules_gone_hint(),
            });
        }
        Ok(Reread {
            config,
            for_next_start,
        })
    }

    fn rules_gone_hint(&self) -> String {
        if self.slips.is_empty() {
            return "; to serve nothing, say 'ingress: [{service: http_status:503}]'".to_owned();
        }
        format!("; unknown keys: {}", self.slips.join(", "))
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
