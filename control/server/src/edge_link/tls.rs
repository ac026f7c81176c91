//! Mutual TLS for remote edges: TLS 1.3, certificates of the private CA on both sides, one ALPN.
//!
//! Control's own certificate is in memory only and is issued anew while control runs. That happens at the
//! first link that is opened when a third of the old one's life is left, or when the clock was set to before
//! its issue. Nothing has to happen between two links, so there is no timer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use adit_control_api::edge_link::ALPN;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::ca::{Ca, CaError};
use crate::state::Chain;

/// The TLS listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA does not issue control's certificate.
    #[error("control's own link certificate cannot be issued")]
    Issue(#[from] CaError),
    /// The CA's certificate or key cannot be read back.
    #[error("the CA's certificates cannot be used for TLS: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// rustls does not take them.
    #[error("TLS cannot be set up")]
    Rustls(#[from] rustls::Error),
    /// rustls does not take the root as a verifier of edges.
    #[error("edges' certificates cannot be verified")]
    Verifier(#[from] VerifierBuilderError),
}

/// Control's end of the handshake.
pub(crate) struct LinkTls {
    ca: Rc<Ca>,
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    current: RefCell<Current>,
}

/// The certificate that is shown, and for how long.
struct Current {
    acceptor: TlsAcceptor,
    issued_at: SystemTime,
    due: SystemTime,
}

impl LinkTls {
    /// Verifies edges by the root of `ca`, with a certificate of its own issued at `now`.
    pub(crate) fn open(ca: Rc<Ca>, now: SystemTime) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.root_pem().as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        let current = RefCell::new(issue(&ca, &provider, &verifier, now)?);
        Ok(Self {
            ca,
            provider,
            verifier,
            current,
        })
    }

    /// What accepts a link that is opened at `now`.
    ///
    /// A certificate that cannot be renewed is shown to its end; every link is another try.
    pub(crate) fn acceptor(&self, now: SystemTime) -> TlsAcceptor {
        let mut current = self.current.borrow_mut();
        if !(current.issued_at..current.due).contains(&now) {
            match issue(&self.ca, &self.provider, &self.verifier, now) {
                Ok(renewed) => {
                    *current = renewed;
                    tracing::info!("control's link certificate is renewed");
                }
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "control's link certificate cannot be renewed");
                }
            }
        }
        current.acceptor.clone()
    }
}

fn issue(
    ca: &Ca,
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<dyn ClientCertVerifier>,
    now: SystemTime,
) -> Result<Current, TlsError> {
    let identity = ca.issue_control_link(now)?;
    let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    let life = identity.not_after.duration_since(now).unwrap_or_default();
    Ok(Current {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        issued_at: now,
        due: now + life / 3 * 2,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use adit_control_api::edge_link::CONTROL_TLS_NAME;
    use rustls::time_provider::TimeProvider;
    use rustls_pki_types::{ServerName, UnixTime};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::ca::Identity;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// An edge's clock.
    #[derive(Debug)]
    struct At(SystemTime);

    impl TimeProvider for At {
        fn current_time(&self) -> Option<UnixTime> {
            let since = self.0.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(UnixTime::since_unix_epoch(since))
        }
    }

    /// An edge with good papers dials at `now`: the certificate that control shows, if the edge takes it.
    fn dial(tls: &LinkTls, edge: &Identity, now: SystemTime) -> Result<CertificateDer<'static>, String> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(tls.ca.root_pem().as_bytes()).unwrap())
            .unwrap();
        let chain = vec![CertificateDer::from_pem_slice(edge.certificate_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(edge.key_pem.as_bytes()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_details(tls.provider.clone(), Arc::new(At(now)))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(16 * 1024);
            let name = ServerName::try_from(CONTROL_TLS_NAME).unwrap();
            let dialling = TlsConnector::from(Arc::new(config)).connect(name, near);
            let (dialled, accepted) = tokio::join!(dialling, tls.acceptor(now).accept(far));
            let dialled = dialled.map_err(|error| error.to_string())?;
            accepted.map_err(|error| error.to_string())?;
            let shown = dialled.get_ref().1.peer_certificates().unwrap();
            Ok(shown[0].clone().into_owned())
        })
    }

    #[test]
    fn the_certificate_is_renewed_while_control_runs() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Rc::new(Ca::open(dir.path()).unwrap());
        let start = SystemTime::now();
        let edge = ca.issue_edge_link("edge-1", start).unwrap();
        let tls = LinkTls::open(ca, start).unwrap();
        let first = dial(&tls, &edge, start).unwrap();
        assert_eq!(dial(&tls, &edge, start + DAY * 200).unwrap(), first);
        // A third of the year is left: a new one, which lasts for another year.
        let second = dial(&tls, &edge, start + DAY * 250).unwrap();
        assert_ne!(second, first);
        assert_eq!(dial(&tls, &edge, start + DAY * 400).unwrap(), second);
        // Nobody dialled for years.
        let third = dial(&tls, &edge, start + DAY * 1_500).unwrap();
        assert_ne!(third, second);
    }

    #[test]
    fn a_clock_that_was_ahead_at_the_start_needs_no_restart() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Rc::new(Ca::open(dir.path()).unwrap());
        let now = SystemTime::now();
        let edge = ca.issue_edge_link("edge-1", now).unwrap();
        let tls = LinkTls::open(ca, now + DAY * 900).unwrap();
        assert!(dial(&tls, &edge, now).is_ok());
    }
}
