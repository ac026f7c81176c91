//! The visitors' certificates: read from files, chosen by SNI, read again when the files change.
//!
//! A replacement that cannot be used leaves the old certificates in place and says so. Without any file, a
//! throw-away certificate for `localhost` is made, so that a first try has HTTPS.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use adit_driver::pem;
use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::CertificateFiles;
use crate::validity::Validity;

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("{}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    #[error("{} does not fit its key {}", cert.display(), key.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("no throw-away certificate: {0}")]
    ThrowAway(#[from] rcgen::Error),
    #[error("no throw-away certificate: {0}")]
    Key(#[from] rustls::Error),
}

/// One certificate and the names it is for.
#[derive(Debug)]
pub(crate) struct Named {
    names: Vec<String>,
    /// The file, and how long what is in it is valid; nothing for a throw-away one.
    validity: Option<(PathBuf, Validity)>,
    key: Arc<CertifiedKey>,
}

/// All certificates at one moment.
#[derive(Debug)]
struct Table {
    /// By lower-case name; wildcards as `*.suffix`.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For visitors without a known name: the first of the configuration.
    first: Arc<CertifiedKey>,
    validities: Vec<(PathBuf, Validity)>,
}

/// The current certificates.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// Locked by the service thread alone, never on a handshake.
    files: Mutex<Vec<CertificateFiles>>,
    table: ArcSwap<Table>,
}

impl Named {
    /// The file that cannot be accepted at `now`, and why.
    pub(crate) fn complaint(&self, now: SystemTime) -> Option<(&Path, String)> {
        let (file, validity) = self.validity.as_ref()?;
        Some((file, validity.complaint(now)?))
    }
}

impl Certificates {
    /// Reads all files; with none, makes a throw-away certificate.
    ///
    /// # Errors
    /// The first certificate that cannot be used.
    pub(crate) fn open(files: &[CertificateFiles]) -> Result<Self, CertificateError> {
        let table = ArcSwap::from_pointee(read(files)?);
        Ok(Self {
            files: Mutex::new(files.to_vec()),
            table,
        })
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// The first certificate that cannot be used; the old ones stay.
    pub(crate) fn reload(&self) -> Result<(), CertificateError> {
        let files = self.files();
        if !files.is_empty() {
            self.table.store(Arc::new(read(&files)?));
        }
        Ok(())
    }

    /// Reads other files in their place.
    ///
    /// # Errors
    /// The first certificate that cannot be used; the old ones stay, and so do their files.
    pub(crate) fn replace(&self, files: &[CertificateFiles]) -> Result<(), CertificateError> {
        if !files.is_empty() || !self.files().is_empty() {
            self.table.store(Arc::new(read(files)?));
            *self.files() = files.to_vec();
        }
        Ok(())
    }

    fn files(&self) -> MutexGuard<'_, Vec<CertificateFiles>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long those in use are valid, by file.
    pub(crate) fn validities(&self) -> Vec<(PathBuf, Validity)> {
        self.table.load().validities.clone()
    }

    /// Tells one state of the files from another; a file that cannot be looked at counts as a state too.
    pub(crate) fn fingerprint(&self) -> Vec<Option<(u64, i64, i64, u64)>> {
        let of = |meta: Metadata| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size());
        let files = self.files();
        let paths = files.iter().flat_map(|files| [&files.cert, &files.key]);
        paths.map(|path| std::fs::metadata(path).ok().map(of)).collect()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let named = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let exact = table.by_name.get(&name);
            exact.or_else(|| table.by_name.get(&format!("*.{}", name.split_once('.')?.1)))
        });
        Some(named.unwrap_or(&table.first).clone())
    }
}

fn read(files: &[CertificateFiles]) -> Result<Table, CertificateError> {
    let all = match files {
        [] => vec![throw_away()?],
        files => files.iter().map(load).collect::<Result<_, _>>()?,
    };
    let mut by_name = HashMap::new();
    let mut first = None;
    let mut validities = Vec::new();
    for named in all {
        validities.extend(named.validity);
        first.get_or_insert_with(|| named.key.clone());
        for name in named.names {
            // The first in the configuration wins.
            by_name.entry(name).or_insert_with(|| named.key.clone());
        }
    }
    let first = first.expect("there is at least the throw-away certificate");
    Ok(Table {
        by_name,
        first,
        validities,
    })
}

/// Reads one certificate with its key.
pub(crate) fn load(files: &CertificateFiles) -> Result<Named, CertificateError> {
    let fail = |file: &PathBuf, reason: String| CertificateError::File {
        file: file.clone(),
        reason,
    };
    let chain = pem::certificates(&files.cert).map_err(|error| fail(&files.cert, error.to_string()))?;
    let leaf = chain.first().expect("there is at least one certificate");
    let names = names(leaf).map_err(|reason| fail(&files.cert, reason))?;
    let validity = Validity::of(leaf).map_err(|reason| fail(&files.cert, reason))?;
    let key = pem::private_key(&files.key).map_err(|error| fail(&files.key, error.to_string()))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| fail(&files.key, error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    if certified.keys_match().is_err() {
        return Err(CertificateError::Mismatch {
            cert: files.cert.clone(),
            key: files.key.clone(),
        });
    }
    Ok(Named {
        names,
        validity: Some((files.cert.clone(), validity)),
        key: Arc::new(certified),
    })
}

fn names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let alternatives = parsed
        .subject_alternative_name()
        .map_err(|error| error.to_string())?;
    let names = alternatives.map(|alternatives| alternatives.value.general_names.as_slice());
    let mut dns = Vec::new();
    for name in names.unwrap_or_default() {
        // Other kinds of name are never asked for by SNI.
        if let GeneralName::DNSName(name) = name {
            dns.push(name.to_ascii_lowercase());
        }
    }
    Ok(dns)
}

fn throw_away() -> Result<Named, CertificateError> {
    let names = vec!["localhost".to_owned(), "*.localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names.clone())?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(Named {
        names,
        validity: None,
        key: Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, hosts: &[&str]) -> CertificateFiles {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(hosts).unwrap();
        let files = CertificateFiles {
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        };
        std::fs::write(&files.cert, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    fn known(certificates: &Certificates) -> Vec<String> {
        let mut names: Vec<_> = certificates.table.load().by_name.keys().cloned().collect();
        names.sort();
        names
    }

    #[test]
    fn certificates_are_filed_by_name_and_read_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            write(dir.path(), "a", &["A.example", "*.a.example"]),
            write(dir.path(), "b", &["b.example"]),
        ];
        let certificates = Certificates::open(&files).unwrap();
        assert_eq!(known(&certificates), ["*.a.example", "a.example", "b.example"]);
        let before = certificates.fingerprint();
        write(dir.path(), "b", &["c.example"]);
        assert_ne!(certificates.fingerprint(), before);
        certificates.reload().unwrap();
        assert_eq!(known(&certificates), ["*.a.example", "a.example", "c.example"]);
    }

    #[test]
    fn a_bad_replacement_keeps_the_old_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let files = [write(dir.path(), "a", &["a.example"])];
        let certificates = Certificates::open(&files).unwrap();
        let other = write(dir.path(), "other", &["x.example"]);
        std::fs::copy(&other.cert, &files[0].cert).unwrap();
        assert!(matches!(
            certificates.reload(),
            Err(CertificateError::Mismatch { .. })
        ));
        std::fs::write(&files[0].cert, "nonsense").unwrap();
        assert!(matches!(
            certificates.reload(),
            Err(CertificateError::File { .. })
        ));
        assert_eq!(known(&certificates), ["a.example"]);
    }

    #[test]
    fn without_files_there_is_a_throw_away_certificate() {
        assert_eq!(
            known(&Certificates::open(&[]).unwrap()),
            ["*.localhost", "localhost"]
        );
    }
}
