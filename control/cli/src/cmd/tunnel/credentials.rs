//! Credentials files on disk: written once with mode 0400, found beside cert.pem or in the default places.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use adit_wire::TunnelId;
use adit_wire::credentials::Credentials;
use anyhow::{Context as _, bail};

use super::search;

/// The file's name: the tunnel's id.
pub(super) fn file_name(id: TunnelId) -> String {
    format!("{id}.json")
}

/// Writes a credentials file; one that exists is never replaced.
pub(super) fn write(path: &Path, credentials: &Credentials) -> anyhow::Result<()> {
    let options = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path);
    let mut file = match options {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("{} already exists", path.display()),
        other => other.with_context(|| format!("cannot create {}", path.display()))?,
    };
    file.write_all(credentials.to_json().as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| {
            // Half a file would be taken for a whole one later.
            let _already_gone = std::fs::remove_file(path);
            format!("cannot write {}", path.display())
        })
}

/// Reads a credentials file.
pub(super) fn read(path: &Path) -> anyhow::Result<Credentials> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Credentials::parse(&text).with_context(|| format!("{} is not a credentials file", path.display()))
}

/// The file of a tunnel: in `beside`, else in a default directory.
pub(super) fn find(beside: Option<&Path>, id: TunnelId) -> Option<PathBuf> {
    let name = file_name(id);
    let here = beside
        .map(|directory| directory.join(&name))
        .filter(|path| path.is_file());
    here.or_else(|| search::find(&[&name]))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn credentials() -> Credentials {
        let text =
            r#"{"AccountTag":"a","TunnelSecret":"AAEC","TunnelID":"11111111-2222-3333-4444-555555555555"}"#;
        Credentials::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_file_is_private_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let id = credentials().tunnel_id.unwrap();
        let path = folder.path().join(file_name(id));
        write(&path, &credentials()).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o400
        );
        assert_eq!(read(&path).unwrap(), credentials());
        let again = write(&path, &credentials()).unwrap_err();
        assert_eq!(again.to_string(), format!("{} already exists", path.display()));
        assert_eq!(find(Some(folder.path()), id), Some(path));
    }
}
