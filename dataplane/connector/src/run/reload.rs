//! Follows `config.yml` while the connector runs: on SIGHUP, and when the file has changed.
//!
//! ```text
//! SIGHUP or change ─► read and check the whole file ─► valid: its rules replace those in force, whole
//!                                                   └ broken, or without rules where there were some:
//!                                                     the rules in force stay, the log says why
//! ```
//! Exchanges under way keep the rules they began with. Rules pushed by an edge win over the file as long as
//! the process lives. Only keys about rules and origins take effect at once. Others take effect at the next
//! start, and the log names those that have changed.

use std::sync::Arc;

use adit_proto::error_chain::chain;
use tokio::signal::unix::Signal;

use super::watch::Watch;
use crate::config::{Config, ConfigError};
use crate::settings::Settings;

/// Why the file is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Signal,
    Change,
}

/// The file, and where its rules go.
pub(super) struct Reload {
    /// As at the start.
    config: Config,
    settings: Arc<Settings>,
    hangup: Signal,
    /// `None` without a file, or if nobody wants it watched.
    watch: Option<Watch>,
    /// Whether the last reading gave rules.
    had_rules: bool,
}

impl Reload {
    /// `hangup` is listened to from the start of the process on, so that an early one does not end it.
    pub(super) fn new(config: Config, settings: Arc<Settings>, hangup: Signal) -> Self {
        let watched = config.file().filter(|_| config.is_watched);
        Self {
            watch: watched.map(|path| Watch::new(path.to_owned())),
            hangup,
            had_rules: config.has_rules,
            config,
            settings,
        }
    }

    /// Waits for a reason to read the file again. Cancel safe.
    pub(super) async fn due(&mut self) -> Cause {
        let watch = self.watch.as_mut();
        let changed = async {
            match watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.hangup.recv() => {}
            () = changed => return Cause::Change,
        }
        if let Some(watch) = &mut self.watch {
            watch.forget();
        }
        Cause::Signal
    }

    /// Reads the file and puts its rules in force; whether that went well.
    pub(super) fn perform(&mut self, cause: Cause) -> bool {
        let file = self.config.file().map(|path| path.display().to_string());
        let Some(file) = file else {
            tracing::warn!("There is no configuration file to read again");
            return true;
        };
        let reread = match self.config.reread(self.had_rules) {
            Ok(reread) => reread,
            Err(error) => {
                let fix = if matches!(error, ConfigError::Read { .. }) {
                    "make the file readable"
                } else {
                    "correct the file; 'adit tunnel run --check' tells whether it is valid"
                };
                tracing::error!(
                    ?cause,
                    file,
                    error = chain(&error),
                    fix,
                    "The configuration was not reloaded; the rules in force stay"
                );
                return false;
            }
        };
        self.had_rules = reread.config.has_rules;
        for warning in reread.config.warnings() {
            tracing::warn!("{warning}");
        }
        if !reread.for_next_start.is_empty() {
            let keys = reread.for_next_start.join(", ");
            tracing::warn!(
                file,
                keys,
                "Keys have changed that need a new start of the connector"
            );
        }
        let rules = reread.config.ingress.rules().len();
        if self.settings.replace_local(reread.config.ingress) {
            tracing::info!(?cause, file, rules, "Reloaded the configuration");
        } else {
            tracing::warn!(
                file,
                "The edge's configuration is in force and stays; the file's rules are not used"
            );
        }
        true
    }
}
