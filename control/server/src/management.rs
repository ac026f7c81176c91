//! The key that signs tokens for the management service of connectors: made at the first start, kept in
//! `management-key.pem` (0600).
//!
//! Deleting the file and starting again makes every token worthless that was issued before.

use std::io;
use std::path::{Path, PathBuf};

use adit_control_api::management::{ManagementKey, Signer};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::files::{self, Readable};

/// In the state directory.
const FILE_NAME: &str = "management-key.pem";

/// The key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ManagementKeyError {
    /// The file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The file holds something else, or there is no randomness for a new key.
    #[error("{} is no private key of ECDSA on P-256; without the file a new key is made", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
}

/// The key with its public half.
pub(crate) struct Keys {
    pub(crate) signer: Signer,
    pub(crate) public: ManagementKey,
}

/// Reads the key, or makes one.
pub(crate) fn open(state_dir: &Path) -> Result<Keys, ManagementKeyError> {
    let path = state_dir.join(FILE_NAME);
    let at = |source| ManagementKeyError::File {
        path: path.clone(),
        source,
    };
    let unusable = || ManagementKeyError::Key { path: path.clone() };
    let key = if let Some(pem) = files::read(&path).map_err(at)? {
        KeyPair::from_pem(&pem).map_err(|_| unusable())?
    } else {
        let fresh = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| unusable())?;
        files::write(&path, fresh.serialize_pem().as_bytes(), Readable::Owner).map_err(at)?;
        fresh
    };
    let signer = Signer::read(&key.serialize_der()).map_err(|_| unusable())?;
    let public = signer.public().ok_or_else(unusable)?;
    Ok(Keys { signer, public })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap().public;
        assert_eq!(open(dir.path()).unwrap().public, first);
        std::fs::write(dir.path().join(FILE_NAME), "something else").unwrap();
        assert!(matches!(open(dir.path()), Err(ManagementKeyError::Key { .. })));
    }
}
