//! Who may sign an edge's certificate: the system's roots and those of `--cacert`.

use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::ConfigError;

/// Reads them.
pub(crate) fn roots(cacert: Option<&Path>) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "A system certificate could not be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = cacert {
        add(&mut roots, path)?;
    }
    Ok(roots)
}

/// Adds certificates that came with a quick tunnel.
pub(crate) fn add_pem(roots: &mut RootCertStore, pem: &str) -> Result<(), ConfigError> {
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|why| ConfigError::Certificates {
            path: "the answer of the quick tunnel service".into(),
            why,
        })?;
    }
    Ok(())
}

/// Adds the certificates of a PEM file, which has at least one.
pub(crate) fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), ConfigError> {
    let unusable = |why: String| ConfigError::Certificates {
        path: path.to_owned(),
        why,
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
    let mut count = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(unusable("there is no certificate in it".to_owned()));
    }
    Ok(())
}
