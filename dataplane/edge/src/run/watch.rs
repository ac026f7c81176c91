//! Notices changed certificate files. Polling: it works on every file system and follows renames and links.

use std::sync::Arc;
use std::time::Duration;

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
pub(super) fn reload(certificates: &Certificates) {
    match certificates.reload() {
        Ok(()) => tracing::info!("certificates loaded"),
        Err(error) => tracing::error!(%error, "new certificates not used; the old ones stay"),
    }
}
