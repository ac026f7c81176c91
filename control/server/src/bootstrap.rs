//! The first start: the account, and the file with which the command line reaches it.
//!
//! The store keeps only the digest of an API token. The token itself is in `cert.pem` alone. When that file
//! is gone, the next start makes a new token and the old one ends.

use std::io;
use std::path::{Path, PathBuf};

use adit_control_api::digest::SecretDigest;
use adit_wire::origin_cert::{OriginCert, OriginCertError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use time::OffsetDateTime;

use crate::facts::{Account, Change, Facts, ZoneId};
use crate::files::{self, Readable};
use crate::store::{Store, StoreError};

/// Random bytes of an API token: 240 bits, 40 characters.
const TOKEN_BYTES: usize = 30;

/// The account cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The file is no credential.
    #[error("{} is not a credential; move it away and start again for a new one", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: OriginCertError,
    },
    /// The file is of another installation.
    #[error("{} is of another account or an older token; move it away and start again for a new one", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The kernel gives no random bytes.
    #[error("no random bytes are available")]
    Random,
}

/// Makes sure that the named account exists and that `cert.pem` in the state directory opens it.
pub(crate) fn ensure_account(store: &dyn Store, name: &str, state_dir: &Path) -> Result<(), BootstrapError> {
    let path = state_dir.join("cert.pem");
    let (facts, revision) = store.load()?;
    let account = facts.accounts.values().find(|account| account.name == name);
    let held = files::read(&path).map_err(|source| BootstrapError::File {
        path: path.clone(),
        source,
    })?;
    if let Some(text) = held {
        return check(&facts, account, &text, path);
    }
    let token = URL_SAFE_NO_PAD.encode(random::<TOKEN_BYTES>()?);
    let account = match account {
        Some(account) => Account {
            token: SecretDigest::of(token.as_bytes()),
            ..account.clone()
        },
        None => fresh_account(name, &token)?,
    };
    let cert = OriginCert {
        zone_id: account.zone.0.clone(),
        account_id: account.tag.to_string(),
        api_token: token,
        endpoint: String::new(),
    };
    // The store first: a kill in between leaves no file, and the next start makes another token.
    store.commit(revision, &[Change::PutAccount(account)])?;
    files::write(&path, cert.to_pem().as_bytes(), Readable::Owner)
        .map_err(|source| BootstrapError::File { path, source })
}

fn check(facts: &Facts, account: Option<&Account>, text: &str, path: PathBuf) -> Result<(), BootstrapError> {
    let cert = match OriginCert::parse(text) {
        Ok(cert) => cert,
        Err(source) => return Err(BootstrapError::Malformed { path, source }),
    };
    let owner = facts.account_by_token(&SecretDigest::of(cert.api_token.as_bytes()));
    match (owner, account) {
        (Some(owner), Some(account)) if owner.tag == account.tag => Ok(()),
        (Some(_) | None, _) => Err(BootstrapError::Foreign { path }),
    }
}

fn fresh_account(name: &str, token: &str) -> Result<Account, BootstrapError> {
    Ok(Account {
        tag: hex(&random::<16>()?)
            .parse()
            .map_err(|_| BootstrapError::Random)?,
        name: name.into(),
        zone: ZoneId(hex(&random::<16>()?)),
        token: SecretDigest::of(token.as_bytes()),
        created_at: OffsetDateTime::now_utc(),
    })
}

fn random<const N: usize>() -> Result<[u8; N], BootstrapError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| BootstrapError::Random)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::store::RedbStore;

    fn token(dir: &Path) -> String {
        OriginCert::parse(&std::fs::read_to_string(dir.join("cert.pem")).unwrap())
            .unwrap()
            .api_token
    }

    fn opens(store: &RedbStore, token: &str) -> bool {
        store
            .load()
            .unwrap()
            .0
            .account_by_token(&SecretDigest::of(token.as_bytes()))
            .is_some()
    }

    #[test]
    fn the_first_start_makes_an_account_and_later_ones_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
        ensure_account(&store, "local", dir.path()).unwrap();
        let first = token(dir.path());
        assert!(opens(&store, &first));
        assert_eq!(
            dir.path()
                .join("cert.pem")
                .metadata()
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        ensure_account(&store, "local", dir.path()).unwrap();
        assert_eq!(token(dir.path()), first);
        assert_eq!(store.load().unwrap().0.accounts.size(), 1);
    }

    #[test]
    fn a_lost_file_means_a_new_token_of_the_same_account() {
        let dir = tempfile::tempdir().unwrap();
        let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
        ensure_account(&store, "local", dir.path()).unwrap();
        let first = token(dir.path());
        std::fs::remove_file(dir.path().join("cert.pem")).unwrap();
        ensure_account(&store, "local", dir.path()).unwrap();
        assert!(!opens(&store, &first) && opens(&store, &token(dir.path())));
        assert_eq!(store.load().unwrap().0.accounts.size(), 1);
    }

    #[test]
    fn a_file_of_another_installation_is_not_touched() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
        ensure_account(&store, "local", dir.path()).unwrap();
        let fresh = RedbStore::open(other.path().join("store.redb")).unwrap();
        let answer = ensure_account(&fresh, "local", dir.path());
        assert!(matches!(answer, Err(BootstrapError::Foreign { .. })));
        assert!(opens(&store, &token(dir.path())));
    }
}
