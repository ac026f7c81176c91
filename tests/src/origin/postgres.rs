//! A real PostgreSQL in a temp dir, and its own clients.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binary;
use crate::deadline;
use crate::process::{Process, command};

/// Where Debian puts the programs of every version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The database's administrator.
const USER: &str = "lab";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    /// Where it listens.
    pub address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl Postgres {
    /// Makes an empty database and starts a server on a port of its own.
    ///
    /// # Panics
    /// When PostgreSQL is missing or does not start.
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp dir");
        let data = folder.path().join("data");
        own(folder.path());
        let mut made = program("initdb");
        made.args([
            "--auth",
            "trust",
            "--no-sync",
            "--no-instructions",
            "--username",
            USER,
            "--pgdata",
        ]);
        let made = binary::output(made.arg(&data));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let address = super::free_address();
        let mut server = program("postgres");
        server
            .arg("-D")
            .arg(&data)
            .args(["-p", &address.port().to_string()]);
        server.args(["-h", &address.ip().to_string(), "-k", "", "-F"]);
        let mut process = Process::start("postgres", &mut server);
        process.wait_line("ready to accept connections", deadline::STEP);
        Self {
            address,
            process,
            _folder: folder,
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its children end in order only on a signal that says so.
        self.process.signal(nix::sys::signal::Signal::SIGINT);
        self.process.wait_exit(deadline::STEP);
    }
}

/// `psql` or `pgbench` for the server that is reached at `address`.
pub fn client(name: &str, address: SocketAddr) -> Command {
    let mut client = command(folder().join(name));
    client.args([
        "-h",
        &address.ip().to_string(),
        "-p",
        &address.port().to_string(),
        "-U",
        USER,
    ]);
    client
}

/// The newest version's programs.
fn folder() -> PathBuf {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path().join("bin")).max();
    newest.unwrap_or_else(|| panic!("{VERSIONS} has no PostgreSQL; is it installed?"))
}

/// A program of the server, which refuses to run as root.
fn program(name: &str) -> Command {
    let path = folder().join(name);
    if !nix::unistd::geteuid().is_root() {
        return command(path);
    }
    let mut program = command("setpriv");
    program.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
    program.arg(path);
    program
}

/// Gives a folder to the user the server runs as.
fn own(folder: &Path) {
    if nix::unistd::geteuid().is_root() {
        let nobody = nix::unistd::User::from_name("nobody")
            .ok()
            .flatten()
            .expect("a user");
        nix::unistd::chown(folder, Some(nobody.uid), Some(nobody.gid)).expect("root may do so");
    }
}
