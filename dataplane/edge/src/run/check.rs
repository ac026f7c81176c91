//! Whether what a configuration names can be used, without running anything.

use std::time::SystemTime;

use crate::config::{Config, ConfigError};
use crate::public::tls::load_certificate;

impl Config {
    /// Checks that what the configuration names can be used: CPUs exist; certificates are readable, fit their
    /// keys and have not expired.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for the first CPU or certificate that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_cpus()?;
        let refuse = |key, reason| ConfigError::Value {
            file: self.file.clone(),
            key,
            reason,
        };
        let now = SystemTime::now();
        for files in &self.certificates {
            let named = load_certificate(files).map_err(|error| refuse("certificates", error.to_string()))?;
            if let Some((file, complaint)) = named.complaint(now) {
                return Err(refuse("certificates", format!("{}: {complaint}", file.display())));
            }
        }
        self.control
            .check(now)
            .map_err(|reason| refuse("control", reason))
    }
}
