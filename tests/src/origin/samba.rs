//! A real Samba server with one share that anybody may write to, in a temp dir.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::deadline;
use crate::process::{Process, command};

/// The name of the share.
pub const SHARE: &str = "lab";

/// A running server.
#[derive(Debug)]
pub struct Samba {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    folder: TempDir,
}

impl Samba {
    /// Starts one on a port of its own.
    ///
    /// # Panics
    /// When Samba is missing or does not start.
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp dir");
        let address = super::free_address();
        let file = folder.path().join("smb.conf");
        std::fs::write(&file, configuration(folder.path(), address)).expect("a fresh file");
        // Guests are somebody else when the server runs as root.
        for open in [folder.path(), &folder.path().join("share")] {
            let mode = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(open, mode).expect("a folder of ours");
        }
        // In a process group of its own, all of which it ends with itself.
        let mut server = command("smbd");
        server.args(["--foreground", "--debug-stdout", "-d", "1"]);
        server.arg(format!("--configfile={}", file.display()));
        let mut process = Process::start("smbd", &mut server);
        deadline::until_true("smbd to listen", deadline::STEP, || {
            assert!(process.exited().is_none(), "smbd has ended");
            std::net::TcpStream::connect(address).is_ok()
        });
        Self {
            address,
            process,
            folder,
        }
    }

    /// Where the files of the share are.
    pub fn share(&self) -> std::path::PathBuf {
        self.folder.path().join("share")
    }
}

impl Drop for Samba {
    fn drop(&mut self) {
        // A process of its own for each client ends in order only with it.
        self.process.terminate(deadline::STEP);
    }
}

/// `smbclient` that runs `orders` on the share behind `address`.
pub fn client(address: SocketAddr, orders: &str) -> Command {
    let mut client = command("smbclient");
    client.arg(format!("//{}/{SHARE}", address.ip()));
    client.args([
        "-p",
        &address.port().to_string(),
        "-N",
        "--configfile=/dev/null",
        "-c",
        orders,
    ]);
    client
}

/// Everything it writes stays in `folder`.
fn configuration(folder: &Path, address: SocketAddr) -> String {
    let user = nix::unistd::geteuid();
    let guest = match nix::unistd::User::from_uid(user) {
        Ok(Some(own)) if !user.is_root() => own.name,
        Ok(_) | Err(_) => "nobody".to_owned(),
    };
    let mut text = format!(
        "[global]\nserver role = standalone server\ninterfaces = {}\nbind interfaces only = yes\nsmb ports = {}\n\
         map to guest = Bad User\nguest account = {guest}\ndisable netbios = yes\ndisable spoolss = yes\nload printers = no\n",
        address.ip(),
        address.port(),
    );
    for (key, name) in [
        ("private dir", "private"),
        ("lock directory", "lock"),
        ("state directory", "state"),
        ("cache directory", "cache"),
        ("pid directory", "pid"),
        ("ncalrpc dir", "rpc"),
        ("# the share's", "share"),
    ] {
        let path = folder.join(name);
        std::fs::create_dir(&path).expect("a fresh folder");
        writeln!(text, "{key} = {}", path.display()).expect("a string grows");
    }
    let share = folder.join("share");
    writeln!(
        text,
        "[{SHARE}]\npath = {}\nguest ok = yes\nread only = no",
        share.display()
    )
    .expect("a string grows");
    text
}
