//! The state directory: what lies where, and who may read it.
//!
//! ```text
//! DIR/control/    control.yml, the store, keys, cert.pem, ca.pem, edge.sock, addresses.json
//! DIR/edge/       edge.yml, certificate, snapshot, addresses.json
//! DIR/connector/  config.yml, token, addresses.json
//! ```

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

/// Longest path of a Unix socket that every kernel takes, its final zero apart.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The state directory of one `up`.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    socket: PathBuf,
    // Removed at the end: the whole state without --state-dir, or a short place for the socket.
    _temporary: Option<TempDir>,
}

impl Layout {
    /// Makes the directories; without `chosen`, in a temporary place.
    pub(super) fn prepare(chosen: Option<&Path>) -> anyhow::Result<Self> {
        let (root, mut temporary) = match chosen {
            Some(directory) => (std::path::absolute(directory)?, None),
            None => {
                let temporary = temporary()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        for name in ["control", "edge", "connector"] {
            let folder = root.join(name);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let mut socket = root.join("control/edge.sock");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let short = temporary.get_or_insert(self::temporary()?);
            socket = short.path().join("edge.sock");
        }
        let layout = Self {
            root,
            socket,
            _temporary: temporary,
        };
        for stale in [
            layout.control_addresses(),
            layout.edge_addresses(),
            layout.connector_addresses(),
        ] {
            // Written by an earlier run, whose ports are not ours; usually absent.
            let _absent = std::fs::remove_file(stale);
        }
        Ok(layout)
    }

    /// Writes a file that only we can read, replacing an older one.
    pub(super) fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let open = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path)
        };
        let written = open().and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn control_dir(&self) -> PathBuf {
        self.root.join("control")
    }

    pub(super) fn control_config(&self) -> PathBuf {
        self.root.join("control/control.yml")
    }

    pub(super) fn control_addresses(&self) -> PathBuf {
        self.root.join("control/addresses.json")
    }

    /// The API credential that control writes.
    pub(super) fn cert(&self) -> PathBuf {
        self.root.join("control/cert.pem")
    }

    /// The root of control's private CA.
    pub(super) fn ca(&self) -> PathBuf {
        self.root.join("control/ca.pem")
    }

    /// The socket on which control serves the edge.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn edge_dir(&self) -> PathBuf {
        self.root.join("edge")
    }

    pub(super) fn edge_config(&self) -> PathBuf {
        self.root.join("edge/edge.yml")
    }

    pub(super) fn edge_addresses(&self) -> PathBuf {
        self.root.join("edge/addresses.json")
    }

    /// The certificate visitors see over HTTPS.
    pub(super) fn certificate(&self) -> PathBuf {
        self.root.join("edge/certificate.pem")
    }

    pub(super) fn certificate_key(&self) -> PathBuf {
        self.root.join("edge/certificate-key.pem")
    }

    pub(super) fn connector_config(&self) -> PathBuf {
        self.root.join("connector/config.yml")
    }

    pub(super) fn connector_token(&self) -> PathBuf {
        self.root.join("connector/token")
    }

    pub(super) fn connector_addresses(&self) -> PathBuf {
        self.root.join("connector/addresses.json")
    }
}

fn temporary() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("adit-up-")
        .tempdir()
        .context("cannot create a temporary directory")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn without_a_directory_nothing_remains() {
        let layout = Layout::prepare(None).unwrap();
        let root = layout.root.clone();
        layout.write(&layout.connector_token(), "secret").unwrap();
        let mode = std::fs::metadata(layout.connector_token())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(layout);
        assert!(!root.exists());
    }

    #[test]
    fn a_chosen_directory_is_kept_but_old_addresses_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::prepare(Some(folder.path())).unwrap();
        layout.write(&layout.edge_addresses(), "{}").unwrap();
        layout.write(&layout.edge_config(), "a: 1").unwrap();
        let again = Layout::prepare(Some(folder.path())).unwrap();
        assert!(!again.edge_addresses().exists());
        assert!(again.edge_config().exists());
    }

    #[test]
    fn a_deep_directory_has_its_socket_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(100));
        let layout = Layout::prepare(Some(&deep)).unwrap();
        assert!(layout.socket().as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
        assert!(layout.socket().parent().unwrap().is_dir());
    }
}
