//! The tunnel listener's certificate: asked of control once, kept on disk, renewed in time.
//!
//! The key is made here and never leaves this machine; control signs its public half for the names that
//! connectors insist on (docs/protocol/transport-quic.md §3). With a certificate on disk an edge starts, and
//! connectors reconnect, while control is away.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::service::Service;
use crate::state::{StateError, write_atomically};
use crate::validity::Validity;

/// Names every connector may ask for.
const NAMES: [&str; 3] = ["quic.cftunnel.com", "h2.cftunnel.com", "probe.cftunnel.com"];

/// How often the remaining life is looked at at least, and a failed renewal repeated.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Pause before the first certificate is asked for again.
const REQUEST_PAUSE: Duration = Duration::from_secs(1);

/// A certificate cannot be used or obtained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("tunnel certificate: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("tunnel certificate: {0}")]
    Tls(#[from] rustls::Error),
    #[error("tunnel certificate request: {0}")]
    Request(#[from] rcgen::Error),
    #[error("control did not issue the tunnel certificate: {0}")]
    Control(#[from] adit_control_api::edge_link::LinkError),
    #[error(transparent)]
    State(#[from] StateError),
}

/// The current certificate, shared with the TLS stack of every core.
#[derive(Debug)]
pub(crate) struct TunnelCertificate {
    current: ArcSwap<CertifiedKey>,
}

impl TunnelCertificate {
    /// How long the current one is valid.
    pub(crate) fn validity(&self) -> Option<Validity> {
        Validity::of(self.current.load().cert.first()?).ok()
    }

    #[cfg(test)]
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.current.load().cert.clone()
    }
}

impl ResolvesServerCert for TunnelCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// What is kept on disk, all in one file so that key and certificate always belong together.
#[derive(Serialize, Deserialize)]
struct Stored {
    chain_pem: String,
    key_pem: String,
    issued_at_ms: u64,
    not_after_ms: u64,
}

impl Stored {
    /// The stored one if it can be used; control issues another otherwise.
    fn load(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let unusable = |error: &dyn std::error::Error| {
            tracing::warn!(path = %path.display(), %error, "stored certificate unusable");
        };
        let stored: Self = serde_json::from_slice(&bytes)
            .inspect_err(|error| unusable(error))
            .ok()?;
        stored.certified().inspect_err(|error| unusable(error)).ok()?;
        (stored.not_after_ms > now_ms()).then_some(stored)
    }

    /// Key and chain, which must belong together.
    fn certified(&self) -> Result<CertifiedKey, CertificateError> {
        let chain =
            CertificateDer::pem_slice_iter(self.chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Ok(CertifiedKey::from_der(chain, key, &provider)?)
    }

    /// How long until a third of its life is left.
    fn time_to_renewal(&self) -> Duration {
        let life = self.not_after_ms.saturating_sub(self.issued_at_ms);
        let due_ms = self.not_after_ms.saturating_sub(life / 3);
        Duration::from_millis(due_ms.saturating_sub(now_ms()))
    }
}

/// Takes the certificate from disk or waits for control to issue one, and keeps it fresh from then on.
///
/// # Errors
/// [`CertificateError`] if a certificate cannot be used or asked for at all. A control that is away, or
/// refuses, is asked again.
pub(crate) async fn obtain(
    service: &Rc<Service>,
    state_dir: &Path,
) -> Result<Arc<TunnelCertificate>, CertificateError> {
    let path = state_dir.join("tunnel-certificate.json");
    let (stored, is_new) = match Stored::load(&path) {
        Some(stored) => (stored, false),
        None => (request_until_issued(service, &path).await?, true),
    };
    let certificate = Arc::new(TunnelCertificate {
        current: ArcSwap::from_pointee(stored.certified()?),
    });
    // Ends with the process, like the service thread it runs on.
    tokio::task::spawn_local(renew(service.clone(), path, stored, is_new, certificate.clone()));
    Ok(certificate)
}

async fn request_until_issued(service: &Rc<Service>, path: &Path) -> Result<Stored, CertificateError> {
    if !service.is_attached() {
        tracing::info!("waiting for control to issue the tunnel certificate");
    }
    loop {
        match request(service, path).await {
            Err(CertificateError::Control(error)) => {
                tracing::warn!(%error, "control did not issue the tunnel certificate; asking again");
                sleep(REQUEST_PAUSE).await;
            }
            Err(
                error @ (CertificateError::Pem(_)
                | CertificateError::Tls(_)
                | CertificateError::Request(_)
                | CertificateError::State(_)),
            ) => return Err(error),
            Ok(stored) => return Ok(stored),
        }
    }
}

async fn request(service: &Rc<Service>, path: &Path) -> Result<Stored, CertificateError> {
    let key = rcgen::KeyPair::generate()?;
    let params = rcgen::CertificateParams::new(NAMES.map(String::from).to_vec())?;
    let request = params.serialize_request(&key)?;
    let session = service.attached().await;
    let issued = session.issue_tunnel_certificate(request.der()).await?;
    let stored = Stored {
        chain_pem: issued.chain_pem,
        key_pem: key.serialize_pem(),
        issued_at_ms: now_ms(),
        not_after_ms: millis(issued.not_after),
    };
    let json = serde_json::to_vec(&stored).expect("plain strings and numbers");
    if let Err(error) = write_atomically(path, &json, 0o600) {
        // It serves from memory; only a restart without control would miss it.
        tracing::warn!(%error, "tunnel certificate not saved");
    }
    Ok(stored)
}

/// Replaces the certificate before it ends, and once after a start from disk: control may have been set up
/// anew since, and connectors then trust another root.
async fn renew(
    service: Rc<Service>,
    path: PathBuf,
    mut stored: Stored,
    mut is_new: bool,
    certificate: Arc<TunnelCertificate>,
) {
    loop {
        let wait = stored.time_to_renewal();
        if is_new && !wait.is_zero() {
            // The wall clock may be set meanwhile.
            sleep(wait.min(LOOK_INTERVAL)).await;
            continue;
        }
        let renewed = request(&service, &path)
            .await
            .and_then(|stored| Ok((stored.certified()?, stored)));
        match renewed {
            Ok((certified, newer)) => {
                certificate.current.store(Arc::new(certified));
                (stored, is_new) = (newer, true);
                tracing::info!("tunnel certificate renewed");
                if stored.time_to_renewal().is_zero() {
                    tracing::warn!(
                        "the new tunnel certificate ends at once; are the clocks of edge and control right?"
                    );
                    sleep(LOOK_INTERVAL).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "tunnel certificate not renewed");
                sleep(LOOK_INTERVAL).await;
            }
        }
    }
}

fn now_ms() -> u64 {
    millis(SystemTime::now())
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
