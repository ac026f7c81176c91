//! Notices changed certificate files. Polling: it works on every file system and follows renames and links.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::public::tls::Certificates;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Reloads whenever the files have changed and then stayed the same for one look: a pair is being written.
pub(super) async fn certificates(certificates: Arc<Certificates>) {
    let mut used = certificates.fingerprint();
    let mut seen = used.clone();
    loop {
        sleep(LOOK_INTERVAL).await;
        let now = certificates.fingerprint();
        let has_settled = now == seen;
        seen = now;
        if has_settled && seen != used {
            used.clone_from(&seen);
            reload(&certificates);
        }
    }
}

/// Reads the certificates again; bad ones leave the old in place.
fn reload(certificates: &Certificates) {
    match certificates.reload() {
        Ok(()) => tell(certificates),
        Err(error) => tracing::error!(%error, "new certificates not used; the old ones stay"),
    }
}

/// Tells that certificates were read, and which of them will not be accepted.
pub(super) fn tell(certificates: &Certificates) {
    tracing::info!("certificates loaded");
    for (file, validity) in certificates.validities() {
        validity.tell(&file.display().to_string(), "visitors", SystemTime::now());
    }
}
