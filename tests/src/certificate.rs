//! Throw-away certificates for the public listeners and for https origins, self-signed.

use std::path::{Path, PathBuf};

/// A certificate and its key as PEM files; the certificate is also its own root.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes a certificate that is valid for `names`, in `folder`, as `<stem>.pem` and `<stem>.key`. Older
    /// files of that name are replaced by a rename each, the key first, as an operator's renewal script does.
    ///
    /// # Panics
    /// When a name is not a DNS name or a file cannot be written.
    pub fn create(folder: &Path, stem: &str, names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("names of tests are DNS names");
        Self::write(folder, stem, &made.signing_key, &made.cert)
    }

    /// Makes one for `name` that ended with January 30, 2020.
    ///
    /// # Panics
    /// As [`Certificate::create`].
    pub fn expired(folder: &Path, stem: &str, name: &str) -> Self {
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]);
        let mut params = params.expect("names of tests are DNS names");
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 31);
        let key = rcgen::KeyPair::generate().expect("randomness");
        let made = params.self_signed(&key).expect("parameters that can be signed");
        Self::write(folder, stem, &key, &made)
    }

    fn write(folder: &Path, stem: &str, key: &rcgen::KeyPair, made: &rcgen::Certificate) -> Self {
        let files = Self {
            certificate: folder.join(format!("{stem}.pem")),
            key: folder.join(format!("{stem}.key")),
        };
        replace(&files.key, &key.serialize_pem());
        replace(&files.certificate, &made.pem());
        files
    }
}

fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, text).unwrap_or_else(|error| panic!("{}: {error}", fresh.display()));
    std::fs::rename(&fresh, path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
