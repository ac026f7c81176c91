//! Reads `edge.yml` again on SIGHUP, and puts in force what can change while the edge runs.
//!
//! ```text
//! SIGHUP ─► read and check the file and its certificates
//!             ├► valid: in force at once, for new connections and requests;
//!             │         changed keys that cannot be are named
//!             └► broken: everything stays, the log says why
//! ```
//! The access log is opened anew in either case.

use std::sync::Arc;

use adit_proto::error_chain::chain;

use super::watch;
use crate::access_log::AccessLog;
use crate::config::{Config, LiveConfig};
use crate::control_link::{Service, ServiceMetrics};
use crate::public::tls::Certificates;

/// The file, and where its settings go.
pub(super) struct Reload {
    live: LiveConfig,
    certificates: Arc<Certificates>,
    log: AccessLog,
    metrics: Arc<ServiceMetrics>,
}

impl Reload {
    pub(super) fn new(
        live: LiveConfig,
        certificates: &Arc<Certificates>,
        log: &AccessLog,
        service: &Service,
    ) -> Self {
        Self {
            live,
            certificates: certificates.clone(),
            log: log.clone(),
            metrics: service.metrics.clone(),
        }
    }

    /// The settings that follow.
    pub(super) fn live(&self) -> LiveConfig {
        self.live.clone()
    }

    /// Obeys one signal.
    pub(super) fn perform(&self) {
        let path = &self.live.start().file;
        let file = path.display().to_string();
        let read = Config::load(path).map_err(|error| chain(&error)).and_then(|new| {
            let replaced = self.certificates.replace(&new.certificates);
            replaced.map(|()| new).map_err(|error| error.to_string())
        });
        let new = match read {
            Ok(new) => new,
            Err(error) => {
                let fix = "correct the file; 'adit edge --check' tells whether it is valid";
                tracing::error!(
                    file,
                    error,
                    fix,
                    "the configuration was not reloaded; what is in force stays"
                );
                self.metrics.reloads_refused.add(1);
                self.log.reopen(None);
                return;
            }
        };
        watch::tell(&self.certificates);
        self.log.reopen(new.access_log.as_deref());
        self.live.replace(&new);
        let waiting = self.live.for_next_start(&new);
        if !waiting.is_empty() {
            let keys = waiting.join(", ");
            tracing::warn!(file, keys, "keys have changed that need a new start of the edge");
        }
        tracing::info!(file, "reloaded the configuration");
        self.metrics.reloads_applied.add(1);
    }
}
