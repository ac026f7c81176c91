//! The throw-away certificate with which `up` answers HTTPS: self-signed, new at every start.

use adit_wire::HostPattern;
use anyhow::Context as _;

use super::layout::Layout;

/// Writes certificate and key for the hostname and for `localhost`.
pub(super) fn write(layout: &Layout, hostname: &HostPattern) -> anyhow::Result<()> {
    let names = vec![hostname.to_string(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
    layout.write(&layout.certificate(), &made.cert.pem())?;
    layout.write(&layout.certificate_key(), &made.signing_key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;

    #[test]
    fn certificate_and_key_can_be_read_again() {
        let layout = Layout::prepare(None).unwrap();
        write(&layout, &"*.localhost".parse().unwrap()).unwrap();
        assert!(CertificateDer::from_pem_file(layout.certificate()).is_ok());
        assert!(PrivateKeyDer::from_pem_file(layout.certificate_key()).is_ok());
    }
}
