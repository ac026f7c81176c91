//! TLS towards origins: trusted roots, the name that is checked, and the rule's exceptions.
//!
//! A configuration is made once per core and rule options and then shared, so that session tickets are
//! used by all connections to the same origin. Files are read by a thread that may wait.
//!
//! A `caPool` is looked at again now and then while connections are made with it. What has been taken out of
//! the file is trusted no more by those that come after. One that cannot be read any more changes nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
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

/// A `caPool` is looked at again when the last look is so old.
const LOOK_EVERY: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 10 });

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
    made: BTreeMap<Key, Made>,
    failed: BTreeMap<Key, (Instant, MakeError)>,
}

type Key = (TlsOptions, Alpn);

/// A configuration, and the `caPool` that it is made of.
struct Made {
    config: Arc<ClientConfig>,
    version: Option<Version>,
    /// Seen to be of the file as it is.
    looked_at: Instant,
}

/// Tells one content of a file from another: when it was written, how long it is, and which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    written: (i64, i64),
    bytes: u64,
    file: (u64, u64),
}

impl Version {
    /// Of the file's present content; `None` where there is no file. Waits for the file system.
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            written: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
            file: (metadata.dev(), metadata.ino()),
        })
    }
}

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
        if let Some(made) = self.made.get(key) {
            return Some(Ok(made.config.clone()));
        }
        let (failed_at, error) = self.failed.get(key)?;
        if now.saturating_duration_since(*failed_at) < FAILURE_KEPT {
            return Some(Err(error.clone()));
        }
        self.failed.remove(key);
        None
    }

    /// Whether the file behind a configuration is to be looked at again, which the caller then does.
    fn is_old(&mut self, key: &Key, now: Instant) -> bool {
        let Some(made) = self.made.get_mut(key).filter(|_| key.0.ca_pool.is_some()) else {
            return false;
        };
        let is_old = now.saturating_duration_since(made.looked_at) >= LOOK_EVERY;
        if is_old {
            made.looked_at = now;
        }
        is_old
    }

    fn version(&self, key: &Key) -> Option<Version> {
        self.made.get(key).and_then(|made| made.version)
    }

    fn keep(
        &mut self,
        key: Key,
        made: Result<(Arc<ClientConfig>, Option<Version>), MakeError>,
        now: Instant,
    ) {
        match made {
            Ok((config, version)) => {
                if self.made.len() >= CONFIGS_MAX && !self.made.contains_key(&key) {
                    self.made.pop_first();
                }
                let looked_at = now;
                self.made.insert(
                    key,
                    Made {
                        config,
                        version,
                        looked_at,
                    },
                );
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
        let found = self.known.borrow_mut().find(&key, now());
        if let Some(found) = found {
            if self.known.borrow_mut().is_old(&key, now()) {
                self.look_again(key);
            }
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
        let making = spawn_blocking(move || make_version(&options, alpn));
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
            made.map(|(config, _)| config)
        });
        kept.await.unwrap_or_else(|error| {
            Err(MakeError {
                path: None,
                why: error.to_string(),
            })
        })
    }
}

impl TlsConfigs {
    /// Makes a configuration anew if its `caPool` has changed. Who connects meanwhile has the old one.
    fn look_again(&self, key: Key) {
        let (known, making) = (Rc::clone(&self.known), Arc::clone(&self.making));
        // Ends with the reading; one at a time, as it holds what makers hold.
        spawn_local(async move {
            let Ok(turn) = making.try_lock_owned() else { return };
            let ((options, alpn), before) = (key.clone(), known.borrow().version(&key));
            let looking = spawn_blocking(move || {
                let path = options.ca_pool.as_deref()?;
                let version = Version::of(path);
                (version != before).then(|| (version, make_version(&options, alpn)))
            });
            match looking.await {
                Ok(Some((_, Ok(made)))) => {
                    tracing::info!(ca_pool = ?key.0.ca_pool, "Trusted certificates have changed");
                    known.borrow_mut().keep(key, Ok(made), now());
                }
                Ok(Some((version, Err(error)))) => {
                    let fix = "mend the file; what it held before stays trusted until then";
                    tracing::warn!(ca_pool = ?key.0.ca_pool, error = error.why, fix,
                        "Changed trusted certificates cannot be read");
                    if let Some(made) = known.borrow_mut().made.get_mut(&key) {
                        // Said once per change.
                        made.version = version;
                    }
                }
                Ok(None) | Err(_) => {}
            }
            drop(turn);
        });
    }
}

/// The configuration with the version of the file that it is made of, which may be older than what was read.
fn make_version(options: &TlsOptions, alpn: Alpn) -> Result<(Arc<ClientConfig>, Option<Version>), MakeError> {
    let version = options.ca_pool.as_deref().and_then(Version::of);
    make(options, alpn).map(|config| (Arc::new(config), version))
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
        known.keep(key.clone(), made.map(|config| (Arc::new(config), None)), start);
        assert!(matches!(
            known.find(&key, start + 100 * FAILURE_KEPT),
            Some(Ok(_))
        ));
    }

    #[tokio::test]
    async fn what_is_taken_out_of_a_file_is_trusted_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let pool = dir.path().join("ca.pem");
        let root = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
            params.self_signed(&key).unwrap().pem()
        };
        std::fs::write(&pool, root("a.test") + &root("b.test")).unwrap();
        let asked = async {
            let configs = TlsConfigs::default();
            let limit = Duration::from_secs(30);
            let options = options(&pool);
            let first = configs.config(&options, Alpn::Http1, limit).await.unwrap();
            let until_new = async |old: &Arc<ClientConfig>| loop {
                let config = configs.config(&options, Alpn::Http1, limit).await.unwrap();
                if !Arc::ptr_eq(&config, old) {
                    return config;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            };
            std::fs::write(&pool, root("b.test")).unwrap();
            let second = timeout(limit, until_new(&first)).await.expect("the file is seen");
            // A broken file takes nothing away; the next good one counts.
            std::fs::write(&pool, "broken").unwrap();
            let is_seen =
                || configs.known.borrow().version(&(options.clone(), Alpn::Http1)) == Version::of(&pool);
            while !is_seen() {
                let config = configs.config(&options, Alpn::Http1, limit).await.unwrap();
                assert!(Arc::ptr_eq(&config, &second));
                tokio::task::yield_now().await;
            }
            std::fs::write(&pool, root("c.test")).unwrap();
            timeout(limit, until_new(&second))
                .await
                .expect("the file is seen");
        };
        LocalSet::new().run_until(asked).await;
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
