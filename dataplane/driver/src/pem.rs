//! Certificates and keys in PEM files, and in words what is wrong with such a file.
//!
//! The files are an operator's: they are read at the start and when they change, never on a request.

use std::io;
use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Bytes of a line that are shown, enough to find it.
const SHOWN_BYTES_MAX: usize = 40;

/// A PEM file cannot be used. The text does not name the file.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The kernel does not give it to us.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// It ends within a section.
    #[error("it is cut off: a section lacks its line \"{0}\"")]
    Cut(String),
    /// A line that should begin a section does not.
    #[error("the line \"{0}\" does not begin a section")]
    Begin(String),
    /// A section is not base64.
    #[error("a section is not base64; is the file damaged?")]
    Base64,
    /// A section is far too large.
    #[error("a section is far too large; is it the right file?")]
    TooLarge,
    /// It has nothing of what was looked for.
    #[error("there is no {0} in it")]
    Missing(&'static str),
}

/// Reads all certificates, of which there is at least one.
///
/// # Errors
/// [`PemError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    some_certificates(found)
}

/// Reads all certificates of a text, as [`certificates`] does those of a file.
///
/// # Errors
/// [`PemError`].
pub fn certificates_in(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    some_certificates(CertificateDer::pem_slice_iter(text.as_bytes()).collect())
}

/// Reads the first private key.
///
/// # Errors
/// [`PemError`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| explain(error, "private key"))
}

fn some_certificates(
    found: Result<Vec<CertificateDer<'static>>, Error>,
) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = found.map_err(|error| explain(error, CERTIFICATE))?;
    if found.is_empty() {
        return Err(PemError::Missing(CERTIFICATE));
    }
    Ok(found)
}

const CERTIFICATE: &str = "certificate";

fn explain(error: Error, wanted: &'static str) -> PemError {
    match error {
        Error::Io(error) => PemError::Read(error),
        Error::MissingSectionEnd { end_marker } => PemError::Cut(end_line(&end_marker)),
        Error::IllegalSectionStart { line: begun } => PemError::Begin(line(&begun)),
        Error::Base64Decode(_) => PemError::Base64,
        Error::SectionTooLarge => PemError::TooLarge,
        // `NoItemsFound`, and what later versions add.
        Error::NoItemsFound | _ => PemError::Missing(wanted),
    }
}

/// The line that ends a section, of which the library names the label.
fn end_line(label: &[u8]) -> String {
    format!(
        "-----END {}-----",
        line(label).trim_matches('-').trim_start_matches("END ")
    )
}

/// A line for people, not more of it than finds it.
fn line(bytes: &[u8]) -> String {
    let shown = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(shown).trim().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_explained_in_words() {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let whole = made.cert.pem();
        let cut = whole.get(..whole.len() / 2).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.pem");
        let explained = |text: &str| {
            std::fs::write(&path, text).unwrap();
            certificates(&path).unwrap_err().to_string()
        };
        assert_eq!(
            explained(cut),
            "it is cut off: a section lacks its line \"-----END CERTIFICATE-----\""
        );
        assert_eq!(explained("nonsense"), "there is no certificate in it");
        assert_eq!(
            explained("-----BEGIN CERTIFICATE\nAA==\n"),
            "the line \"-----BEGIN CERTIFICATE\" does not begin a section"
        );
        let damaged = "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n";
        assert_eq!(
            explained(damaged),
            "a section is not base64; is the file damaged?"
        );
        assert_eq!(certificates_in(&whole).unwrap().len(), 1);
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(certificates(&path).unwrap().len(), 1);
        assert_eq!(
            private_key(&path).unwrap_err().to_string(),
            "there is no private key in it"
        );
        let absent = certificates(&folder.path().join("absent.pem")).unwrap_err();
        assert!(
            absent.to_string().starts_with("it cannot be read: No such file"),
            "{absent}"
        );
    }
}
