//! Reads `control.yml` again on SIGHUP, and puts in force what can change while control runs.
//!
//! ```text
//! SIGHUP ─► read and check the whole file ─► valid: replicas-max and quick-tunnels are in force at once,
//!                                         │         other changed keys are named for the next start
//!                                         └ broken: everything stays, the log says why
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::Signal;

use crate::config::Config;
use crate::quick::Desk;
use crate::state::{Chain, State};

/// The file, and where its settings go.
pub(super) struct Reload {
    /// `None` for a configuration without a file.
    pub(super) file: Option<PathBuf>,
    /// As at the start, with what has been reloaded since.
    pub(super) config: Config,
    pub(super) state: Arc<State>,
    /// Present if quick tunnels were offered at the start.
    pub(super) desk: Option<Arc<Desk>>,
    pub(super) hangup: Signal,
}

impl Reload {
    /// Obeys every signal; runs as long as control.
    pub(super) async fn follow(mut self) {
        while self.hangup.recv().await.is_some() {
            let is_applied = self.perform().await;
            self.state.metrics.reloaded(is_applied);
        }
    }

    /// Whether everything that was read is in force or waits for the next start.
    async fn perform(&mut self) -> bool {
        let Some(path) = &self.file else {
            tracing::warn!("there is no configuration file to read again");
            return true;
        };
        let file = path.display().to_string();
        let new = match Config::load(path) {
            Ok(new) => new,
            Err(error) => {
                let fix = "correct the file; 'adit control --check' tells whether it is valid";
                tracing::error!(
                    file, error = %Chain(&error), fix,
                    "the configuration was not reloaded; what is in force stays"
                );
                return false;
            }
        };
        let waiting = self.for_next_start(&new);
        if !waiting.is_empty() {
            let keys = waiting.join(", ");
            tracing::warn!(file, keys, "keys have changed that need a new start of control");
        }
        if new.replicas_max != self.config.replicas_max {
            if let Err(error) = self.state.replan(new.replicas_max).await {
                tracing::error!(error = %Chain(&error), "the limit of replicas could not be changed");
                return false;
            }
            self.config.replicas_max = new.replicas_max;
        }
        if let (Some(desk), Some(settings)) = (&self.desk, &new.quick_tunnels) {
            desk.change(settings.clone());
        }
        tracing::info!(file, "reloaded the configuration");
        true
    }

    /// Keys whose values are not those that control runs with, and will not be before it starts anew.
    fn for_next_start(&self, new: &Config) -> Vec<&'static str> {
        let now = &self.config;
        [
            ("listen", now.listen != new.listen),
            ("edge-socket", now.edge_socket != new.edge_socket),
            ("edge-listen.address", now.edge_listen != new.edge_listen),
            ("state-dir", now.state_dir != new.state_dir),
            ("account", now.account != new.account),
            (
                "quick-tunnels",
                now.quick_tunnels.is_some() != new.quick_tunnels.is_some(),
            ),
        ]
        .into_iter()
        .filter_map(|(key, has_changed)| has_changed.then_some(key))
        .collect()
    }
}
