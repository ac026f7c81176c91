//! The private certificate authority: one root, and the certificates of tunnel listeners and control links.
//!
//! | certificate | key made by | name | usage | life |
//! |---|---|---|---|---|
//! | root `ca.pem` | control | `adit private CA `, 8 hex digits of its key | signs | 10 years |
//! | tunnel listener | edge, sends a request | the names stock connectors ask for | server | 90 days |
//! | link, edge side | control (`issue-edge`) | the edge's name | client | 1 year |
//! | link, control side | control, in memory | [`CONTROL_TLS_NAME`] | server | 1 year |
//!
//! The root's key is kept in `ca-key.pem` (0600). Control's side of the link gets a new certificate at each
//! start, and when a third of the old one's life is left.
//!
//! Usages keep the kinds apart: a tunnel certificate cannot attach as an edge, an edge's link certificate
//! cannot pose as control. Keys are ECDSA P-256, which every stock connector can verify. Each authority has a
//! name of its own. So a certificate of another authority fails as one of an unknown issuer, and not as badly
//! signed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use adit_control_api::edge_link::{CONTROL_TLS_NAME, IssuedCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};

use crate::config::Config;
use crate::files::{self, Readable};

/// Names in a tunnel certificate: stock connectors insist on them whatever address they dial
/// (cloudflared `connection/protocol.go`, `prechecks/probes.go`).
pub const TUNNEL_NAMES: [&str; 3] = ["quic.cftunnel.com", "h2.cftunnel.com", "probe.cftunnel.com"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const TUNNEL_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
const LINK_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Certificates are valid from this long ago, for peers whose clocks are behind.
const CLOCK_SKEW: Duration = DAY;

/// Bytes of the key's identifier in the root's name: enough to tell the authorities of one operator apart.
const NAME_KEY_BYTES: usize = 4;

/// Largest accepted certificate request: a P-256 one has about 200 bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// The root and its key, ready to sign.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
}

/// A certificate with its private key.
pub struct Identity {
    /// Certificate in PEM.
    pub certificate_pem: String,
    /// PKCS #8 in PEM.
    pub key_pem: String,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

/// The authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of it cannot be read or written.
    #[error("the CA file {} cannot be read or written", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// There is a root certificate without its key.
    #[error(
        "{} exists but {} does not; put the key back, or move the certificate away to start a new CA",
        certificate.display(),
        key.display()
    )]
    KeyMissing {
        /// The certificate.
        certificate: PathBuf,
        /// Where the key should be.
        key: PathBuf,
    },
    /// Certificate and key do not belong together.
    #[error("{} is not the certificate of the key in {}", certificate.display(), key.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The private key on disk is none.
    #[error(
        "{} holds no usable private key; restore it, or move it and {} away: control then makes a new authority, whose \
         ca.pem connectors and edges must be given",
        key.display(),
        certificate.display()
    )]
    Key {
        /// The key.
        key: PathBuf,
        /// Its certificate.
        certificate: PathBuf,
    },
    /// A key or certificate cannot be made or understood.
    #[error("a key or certificate cannot be used")]
    Certificate(#[from] rcgen::Error),
    /// A certificate request is not acceptable.
    #[error("the certificate request is refused: {reason}")]
    Request {
        /// Why.
        reason: &'static str,
    },
    /// An edge's name cannot be in a certificate.
    #[error("{name:?} cannot be an edge name; use up to 64 letters, digits, '-', '_' and '.'")]
    EdgeName {
        /// The name.
        name: String,
    },
}

impl Ca {
    /// Opens the authority in a state directory, and makes it when there is none.
    ///
    /// # Errors
    /// Any [`CaError`].
    pub fn open(state_dir: &Path) -> Result<Self, CaError> {
        let (certificate, key) = (state_dir.join("ca.pem"), state_dir.join("ca-key.pem"));
        let at = |path: &PathBuf| {
            let path = path.clone();
            move |source| CaError::File { path, source }
        };
        let root_pem = files::read(&certificate).map_err(at(&certificate))?;
        let key_pem = files::read(&key).map_err(at(&key))?;
        let signing_key = match (&root_pem, key_pem) {
            (Some(_), None) => return Err(CaError::KeyMissing { certificate, key }),
            (_, Some(pem)) => KeyPair::from_pem(&pem).map_err(|_| CaError::Key {
                key: key.clone(),
                certificate: certificate.clone(),
            })?,
            (None, None) => {
                let fresh = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                files::write(&key, fresh.serialize_pem().as_bytes(), Readable::Owner).map_err(at(&key))?;
                fresh
            }
        };
        let Some(root_pem) = root_pem else {
            // A kill between the two writes leaves a key without certificate. Nobody has seen a root yet.
            let params = root_params(&signing_key)?;
            let root_pem = params.self_signed(&signing_key)?.pem();
            files::write(&certificate, root_pem.as_bytes(), Readable::All).map_err(at(&certificate))?;
            return Ok(Self {
                issuer: Issuer::new(params, signing_key),
                root_pem,
            });
        };
        if !is_certificate_of(&root_pem, &signing_key) {
            return Err(CaError::Mismatch { certificate, key });
        }
        let issuer = Issuer::from_ca_cert_pem(&root_pem, signing_key)?;
        Ok(Self { issuer, root_pem })
    }

    /// The root certificate in PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// When the root ends, in seconds of Unix time.
    pub(crate) fn root_not_after(&self) -> u64 {
        let root = CertificateDer::from_pem_slice(self.root_pem.as_bytes());
        root.ok().and_then(|root| not_after(&root)).unwrap_or_default()
    }

    /// Makes a tunnel listener's certificate for the key in a PKCS #10 request. Nothing else of it is used.
    ///
    /// # Errors
    /// [`CaError::Request`] unless it is a well-signed request with an ECDSA P-256 key.
    pub fn issue_tunnel(&self, request_der: &[u8], now: SystemTime) -> Result<IssuedCertificate, CaError> {
        if request_der.len() > REQUEST_BYTES_MAX {
            return Err(CaError::Request {
                reason: "it is too large",
            });
        }
        let mut request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request_der))
                .map_err(|_| CaError::Request {
                    reason: "it is not a signed PKCS #10 request in DER",
                })?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(CaError::Request {
                reason: "its key is not ECDSA P-256",
            });
        }
        let not_after = now + TUNNEL_LIFE;
        request.params = leaf_params(
            "adit edge",
            &TUNNEL_NAMES,
            ExtendedKeyUsagePurpose::ServerAuth,
            now,
            not_after,
        )?;
        let chain_pem = request.signed_by(&self.issuer)?.pem();
        Ok(IssuedCertificate {
            chain_pem,
            root_pem: self.root_pem.clone(),
            not_after,
        })
    }

    /// Makes key and certificate with which an edge attaches over TCP.
    ///
    /// # Errors
    /// [`CaError::EdgeName`] for a name that does not fit a certificate.
    pub fn issue_edge_link(&self, name: &str, now: SystemTime) -> Result<Identity, CaError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
            return Err(CaError::EdgeName { name: name.into() });
        }
        self.issue_link(name, &[], ExtendedKeyUsagePurpose::ClientAuth, now)
    }

    /// Makes control's own key and certificate for the link.
    ///
    /// # Errors
    /// [`CaError::Certificate`] when the crypto library refuses.
    pub fn issue_control_link(&self, now: SystemTime) -> Result<Identity, CaError> {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        self.issue_link("adit control", &[CONTROL_TLS_NAME], usage, now)
    }

    fn issue_link(
        &self,
        name: &str,
        dns_names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        now: SystemTime,
    ) -> Result<Identity, CaError> {
        let not_after = now + LINK_LIFE;
        let params = leaf_params(name, dns_names, usage, now, not_after)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity {
            certificate_pem,
            key_pem: key.serialize_pem(),
            not_after,
        })
    }
}

/// Writes `edge.pem`, `edge-key.pem` (0600) and `ca.pem` into `out_dir`: all that a remote edge needs to
/// attach over TCP. Works while control runs.
///
/// # Errors
/// Any [`CaError`].
pub fn issue_edge_files(config: &Config, name: &str, out_dir: &Path) -> Result<(), CaError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| CaError::File { path, source }
    };
    files::make_private_dir(&config.state_dir).map_err(at(&config.state_dir))?;
    let ca = Ca::open(&config.state_dir)?;
    let identity = ca.issue_edge_link(name, SystemTime::now())?;
    files::make_private_dir(out_dir).map_err(at(out_dir))?;
    for (file, text, readable) in [
        ("edge-key.pem", identity.key_pem.as_str(), Readable::Owner),
        ("edge.pem", identity.certificate_pem.as_str(), Readable::All),
        ("ca.pem", ca.root_pem(), Readable::All),
    ] {
        let path = out_dir.join(file);
        files::write(&path, text.as_bytes(), readable).map_err(at(&path))?;
    }
    Ok(())
}

/// The common name of a certificate: the edge's name in a link certificate.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// When a certificate ends, in seconds of Unix time.
fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}

fn is_certificate_of(pem: &str, key: &KeyPair) -> bool {
    let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    x509_parser::parse_x509_certificate(&certificate)
        .is_ok_and(|(_, parsed)| parsed.public_key().raw == key.subject_public_key_info())
}

fn root_params(key: &KeyPair) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    let own: String = params
        .key_identifier(key)
        .iter()
        .take(NAME_KEY_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("adit private CA {own}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + ROOT_LIFE).into();
    Ok(params)
}

fn leaf_params(
    name: &str,
    dns_names: &[&str],
    usage: ExtendedKeyUsagePurpose,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = dns_names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = not_after.into();
    Ok(params)
}

#[cfg(test)]
mod tests;
