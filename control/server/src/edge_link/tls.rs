//! Mutual TLS for remote edges: TLS 1.3, certificates of the private CA on both sides, one ALPN.

use std::sync::Arc;
use std::time::SystemTime;

use adit_control_api::edge_link::ALPN;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::ca::{Ca, CaError};

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

/// Accepts links of edges that hold a certificate of the CA.
pub(crate) fn acceptor(ca: &Ca) -> Result<TlsAcceptor, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.root_pem().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let identity = ca.issue_control_link(SystemTime::now())?;
    let certificate = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
