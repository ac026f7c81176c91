//! A real sshd for the user who runs the tests, with keys of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::binary;
use crate::deadline;
use crate::process::{Process, command};

/// Debian's place for it; the program wants to be called by its whole path.
const SSHD: &str = "/usr/sbin/sshd";

/// A running sshd.
#[derive(Debug)]
pub struct Ssh {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
    folder: TempDir,
}

impl Ssh {
    /// Starts one on a port of its own and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp dir");
        for name in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            binary::succeed(keygen.arg(folder.path().join(name)));
        }
        let address = super::free_address();
        let shown = folder.path().display();
        let text = format!(
            "ListenAddress {address}\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/user.pub\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        );
        let config = folder.path().join("sshd_config");
        std::fs::write(&config, text).expect("a file in the temp dir");
        // Where it drops its privileges to, when it has any; the package's service makes it at boot.
        std::fs::create_dir_all("/run/sshd").ok();
        let mut process = Process::start("sshd", command(SSHD).args(["-D", "-e", "-f"]).arg(&config));
        process.wait_line("Server listening on", deadline::STEP);
        Self {
            address,
            _process: process,
            folder,
        }
    }

    /// A client that trusts this server and is trusted by it; `proxy` is how it gets there.
    ///
    /// # Panics
    /// When the server's key cannot be read.
    pub fn client(&self, host: &str, proxy: &str) -> Command {
        let mut ssh = self.trusting(host);
        ssh.arg("-o").arg(format!("ProxyCommand={proxy}")).arg(host);
        ssh
    }

    /// The same for a client that connects to `address` by itself.
    ///
    /// # Panics
    /// When the server's key cannot be read.
    pub fn direct_client(&self, address: SocketAddr) -> Command {
        let mut ssh = self.trusting("direct");
        ssh.args(["-o", "HostKeyAlias=direct", "-p", &address.port().to_string()]);
        ssh.arg(address.ip().to_string());
        ssh
    }

    fn trusting(&self, host: &str) -> Command {
        let key = std::fs::read_to_string(self.path("host.pub")).expect("a key");
        let known = self.path("known_hosts");
        std::fs::write(&known, format!("{host} {key}")).expect("a file in the temp dir");
        let mut ssh = command("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o"])
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .arg("-i")
            .arg(self.path("user"));
        ssh
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
