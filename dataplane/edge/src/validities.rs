//! The certificates that an edge uses, and when each ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::{Config, ControlAddress};
use crate::control_link::certificate::TunnelCertificate;
use crate::public::tls::Certificates;
use crate::validity::of_file;

/// The certificates of a running edge.
pub(crate) struct Validities {
    pub(crate) public: Arc<Certificates>,
    pub(crate) tunnel: Arc<TunnelCertificate>,
    /// The file of the one for the link to control.
    control: Option<PathBuf>,
}

impl Validities {
    pub(crate) fn new(config: &Config, public: Arc<Certificates>, tunnel: Arc<TunnelCertificate>) -> Self {
        let control = match &config.control {
            ControlAddress::Socket(_) => None,
            ControlAddress::Remote { cert, .. } => Some(cert.clone()),
        };
        Self {
            public,
            tunnel,
            control,
        }
    }

    /// What each is for, its file, and when it ends as Unix time. Reads the file for the link to control,
    /// which each attachment reads anew as well.
    pub(crate) fn ends(&self) -> Vec<(&'static str, String, i64)> {
        let mut ends: Vec<_> = self
            .public
            .validities()
            .into_iter()
            .map(|(file, validity)| ("public", file.display().to_string(), validity.not_after_unix()))
            .collect();
        if let Some(validity) = self.tunnel.validity() {
            ends.push(("tunnel", String::new(), validity.not_after_unix()));
        }
        if let Some(file) = &self.control
            && let Ok(validity) = of_file(file)
        {
            ends.push(("control", file.display().to_string(), validity.not_after_unix()));
        }
        ends
    }

    /// Tells the log of those that are not accepted any more, or soon will not be.
    pub(crate) fn tell(&self, now: SystemTime) {
        for (file, validity) in self.public.validities() {
            validity.tell(&file.display().to_string(), "visitors", now);
        }
        if let Some(file) = &self.control
            && let Ok(validity) = of_file(file)
        {
            validity.tell(&file.display().to_string(), "control", now);
        }
    }
}
