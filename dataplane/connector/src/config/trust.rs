//! Who may sign an edge's certificate: the system's roots and those of `--cacert`.

use std::path::Path;

use adit_driver::pem::{self, PemError};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::ConfigError;

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
pub(crate) fn add_pem(roots: &mut RootCertStore, text: &str) -> Result<(), ConfigError> {
    let path = Path::new("the answer of the quick tunnel service");
    add_all(roots, path, pem::certificates_in(text))
}

/// Adds the certificates of a PEM file, which has at least one.
pub(crate) fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), ConfigError> {
    add_all(roots, path, pem::certificates(path))
}

/// What to do about a failure to connect whose text is `error`, if the edge is not trusted. QUIC tells of it
/// by a text only.
pub(crate) fn hint(error: &str, cacert: Option<&Path>) -> Option<String> {
    // A chain that ends in a certificate which says of itself that it is no authority is as unknown.
    let is_unknown = ["UnknownIssuer", "CaUsedAsEndEntity"]
        .iter()
        .any(|cause| error.contains(cause));
    if !is_unknown {
        return None;
    }
    Some(match cacert {
        None => "none of the system's roots has signed the edge's certificate: give --cacert with the ca.pem of the \
                 edge's control"
            .to_owned(),
        Some(path) => format!(
            "neither the system's roots nor those of {} have signed the edge's certificate: give --cacert with the \
             ca.pem of the edge's control",
            path.display()
        ),
    })
}

fn add_all(
    roots: &mut RootCertStore,
    path: &Path,
    certificates: Result<Vec<CertificateDer<'static>>, PemError>,
) -> Result<(), ConfigError> {
    let unusable = |why: String| ConfigError::Certificates {
        path: path.to_owned(),
        why,
    };
    for certificate in certificates.map_err(|error| unusable(error.to_string()))? {
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    Ok(())
}
