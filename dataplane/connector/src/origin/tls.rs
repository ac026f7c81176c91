//! TLS towards origins: trusted roots, the name that is checked, and the rule's exceptions.
//!
//! A configuration is made once per core and rule options and then shared, so that session tickets are
//! used by all connections to the same origin. Files are read by a thread that may wait.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use adit_driver::pem;
use adit_driver::stream::Stream;
use adit_driver::time::{Instant, now, timeout};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::Mutex;
use tokio::task::{spawn_blocking, spawn_local};
use tokio_rustls::TlsConnector;

use super::OriginError;
use super::io_stream::OriginIo;

/// Distinct TLS configurations kept by one core; when there are more, the least key is made again later.
/// Rules rarely have more than one or two `caPool` files between them.
const CONFIGS_MAX: usize = 64;

/// A configuration that could not be made is not tried again for so long.
const FAILURE_KEPT: Duration = Duration::from_secs(10);

/// Roots of the operating system, read once per process, by a thread that may wait.
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
    known: Rc<RefCell<Known>>,
    /// Held while one is made. A file system that hangs keeps one thread per core, and no core.
    making: Arc<Mutex<()>>,
}

/// Those that were made, and what failed lately.
#[derive(Default)]
struct Known {
    made: BTreeMap<Key, Arc<ClientConfig>>,
    failed: BTreeMap<Key, (Instant, MakeError)>,
}

type Key = (TlsOptions, Alpn);

/// Why there is no configuration.
#[derive(Clone, Debug)]
struct MakeError {
    /// The `caPool` that is to blame, if one is.
    path: Option<PathBuf>,
    why: String,
}

impl From<MakeError> for OriginError {
    fn from(MakeError { path, why }: MakeError) -> Self {
        match path {
            Some(path) => Self::CaPool { path, why },
            None => Self::Tls {
                source: io::Error::other(why),
            },
        }
    }
}

impl Known {
    /// What is known by now. A failure is forgotten after [`FAILURE_KEPT`], as the file may have been mended.
    fn find(&mut self, key: &Key, now: Instant) -> Option<Result<Arc<ClientConfig>, MakeError>> {
        if let Some(config) = self.made.get(key) {
            return Some(Ok(config.clone()));
        }
        let (failed_at, error) = self.failed.get(key)?;
        if now.saturating_duration_since(*failed_at) < FAILURE_KEPT {
            return Some(Err(error.clone()));
        }
        self.failed.remove(key);
        None
    }

    fn keep(&mut self, key: Key, made: Result<Arc<ClientConfig>, MakeError>, now: Instant) {
        match made {
            Ok(config) => {
                if self.made.len() >= CONFIGS_MAX {
                    self.made.pop_first();
                }
                self.made.insert(key, config);
            }
            Err(error) => {
                if self.failed.len() >= CONFIGS_MAX {
                    self.failed.pop_first();
                }
                self.failed.insert(key, (now, error));
            }
        }
    }
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
        let config = self.config(options, alpn, limit).await?;
        let name = ServerName::try_from(name.to_owned()).map_err(|_| OriginError::ServerName {
            name: name.to_owned(),
        })?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        match timeout(limit, connecting).await {
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

    async fn config(
        &self,
        options: &TlsOptions,
        alpn: Alpn,
        limit: Duration,
    ) -> Result<Arc<ClientConfig>, OriginError> {
        let key = (options.clone(), alpn);
        if let Some(found) = self.known.borrow_mut().find(&key, now()) {
            return found.map_err(OriginError::from);
        }
        let late = || MakeError {
            path: options.ca_pool.clone(),
            why: format!("trusted certificates were not read within {limit:?}"),
        };
        match timeout(limit, self.make(key)).await {
            Ok(made) => made.map_err(OriginError::from),
            Err(_) => Err(late().into()),
        }
    }

    /// Makes one on a thread that may wait, as it reads files. Requests that want one meanwhile wait for it.
    async fn make(&self, key: Key) -> Result<Arc<ClientConfig>, MakeError> {
        let turn = Arc::clone(&self.making).lock_owned().await;
        if let Some(found) = self.known.borrow_mut().find(&key, now()) {
            return found;
        }
        let (options, alpn) = key.clone();
        let making = spawn_blocking(move || make(&options, alpn).map(Arc::new));
        let known = Rc::clone(&self.known);
        // Ends with the reading, also when whoever asked for it has given up.
        let kept = spawn_local(async move {
            let made = making.await.unwrap_or_else(|error| {
                Err(MakeError {
                    path: None,
                    why: error.to_string(),
                })
            });
            known.borrow_mut().keep(key, made.clone(), now());
            drop(turn);
            made
        });
        kept.await.unwrap_or_else(|error| {
            Err(MakeError {
                path: None,
                why: error.to_string(),
            })
        })
    }
}

fn make(options: &TlsOptions, alpn: Alpn) -> Result<ClientConfig, MakeError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|source| MakeError {
            path: None,
            why: source.to_string(),
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

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), MakeError> {
    let failed = |why: String| MakeError {
        path: Some(path.to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;

    fn options(ca_pool: &Path) -> TlsOptions {
        TlsOptions {
            no_verify: false,
            ca_pool: Some(ca_pool.to_owned()),
        }
    }

    #[test]
    fn a_failure_is_remembered_for_a_while_and_a_configuration_for_good() {
        let key = (options("ca.pem".as_ref()), Alpn::Http1);
        let (start, mut known) = (now(), Known::default());
        let error = MakeError {
            path: None,
            why: "unreadable".into(),
        };
        known.keep(key.clone(), Err(error), start);
        assert!(matches!(known.find(&key, start + FAILURE_KEPT / 2), Some(Err(_))));
        assert!(known.find(&key, start + FAILURE_KEPT).is_none());
        let made = make(
            &TlsOptions {
                no_verify: true,
                ca_pool: None,
            },
            Alpn::Http1,
        );
        known.keep(key.clone(), made.map(Arc::new), start);
        assert!(matches!(
            known.find(&key, start + 100 * FAILURE_KEPT),
            Some(Ok(_))
        ));
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_keeps_neither_the_core_nor_more_than_one_thread() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("ca.pem");
        // Opening it waits for a writer, as a file on a server that is away would.
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let asked = async {
            let configs = TlsConfigs::default();
            for _ in 0..3 {
                let limit = Duration::from_millis(20);
                let error = configs.config(&options(&pipe), Alpn::Http1, limit).await;
                let error = error.expect_err("nothing was read").to_string();
                assert!(error.contains("ca.pem") && error.contains("20ms"), "{error}");
            }
            // The thread goes on and finds no certificate.
            std::fs::write(&pipe, "").unwrap();
            let limit = Duration::from_secs(30);
            let error = configs.config(&options(&pipe), Alpn::Http1, limit).await;
            error.expect_err("there is no certificate").to_string()
        };
        let error = LocalSet::new().run_until(asked).await;
        assert!(!error.contains("not read within"), "{error}");
    }
}
