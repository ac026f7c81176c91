//! TLS towards origins: trusted roots, the name that is checked, and the rule's exceptions.
//!
//! A configuration is made once per core and rule options and then shared, so that session tickets are
//! used by all connections to the same origin.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use adit_driver::pem;
use adit_driver::stream::Stream;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::OriginError;
use super::io_stream::OriginIo;

/// Distinct TLS configurations kept by one core; when there are more, the least key is made again later.
/// Rules rarely have more than one or two `caPool` files between them.
const CONFIGS_MAX: usize = 64;

/// Roots of the operating system, read once per process.
static SYSTEM_ROOTS: LazyLock<RootCertStore> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::debug!(%error, "a system certificate could not be read");
    }
    roots.add_parsable_certificates(loaded.certs);
    roots
});

/// What a rule says about the origin's certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TlsOptions {
    /// Accept any certificate.
    pub(crate) no_verify: bool,
    /// PEM file with roots trusted beside those of the system.
    pub(crate) ca_pool: Option<PathBuf>,
}

/// What the origin may choose to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alpn {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, or else HTTP/1.1.
    Http2,
}

/// One core's TLS configurations.
#[derive(Default)]
pub(crate) struct TlsConfigs {
    made: RefCell<BTreeMap<(TlsOptions, Alpn), Arc<ClientConfig>>>,
}

impl TlsConfigs {
    /// Shakes hands over `stream`, expecting a certificate for `name`.
    pub(crate) async fn connect(
        &self,
        stream: Stream,
        (options, alpn): (&TlsOptions, Alpn),
        name: &str,
        limit: Duration,
    ) -> Result<OriginIo, OriginError> {
        let config = self.config(options, alpn)?;
        let name = ServerName::try_from(name.to_owned()).map_err(|_| OriginError::ServerName {
            name: name.to_owned(),
        })?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        match adit_driver::time::timeout(limit, connecting).await {
            Ok(Ok(stream)) => Ok(OriginIo::Tls(Box::new(stream))),
            Ok(Err(source)) => Err(OriginError::Tls { source }),
            Err(_) => Err(OriginError::Tls {
                source: io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no TLS handshake within {limit:?}"),
                ),
            }),
        }
    }

    fn config(&self, options: &TlsOptions, alpn: Alpn) -> Result<Arc<ClientConfig>, OriginError> {
        let key = (options.clone(), alpn);
        if let Some(config) = self.made.borrow().get(&key) {
            return Ok(config.clone());
        }
        let config = Arc::new(make(options, alpn)?);
        let mut made = self.made.borrow_mut();
        if made.len() >= CONFIGS_MAX {
            made.pop_first();
        }
        made.insert(key, config.clone());
        Ok(config)
    }
}

fn make(options: &TlsOptions, alpn: Alpn) -> Result<ClientConfig, OriginError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| OriginError::Tls {
            source: io::Error::other(source),
        })?;
    let mut config = if options.no_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAll(provider)))
            .with_no_client_auth()
    } else {
        let mut roots = SYSTEM_ROOTS.clone();
        if let Some(path) = &options.ca_pool {
            add_roots(&mut roots, path)?;
        }
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    config.alpn_protocols = match alpn {
        Alpn::Http1 => vec![b"http/1.1".to_vec()],
        Alpn::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), OriginError> {
    let failed = |why: String| OriginError::CaPool {
        path: path.to_owned(),
        why,
    };
    for certificate in pem::certificates(path).map_err(|error| failed(error.to_string()))? {
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// Believes any certificate, for rules with `noTLSVerify`; the handshake's signature is still checked.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
