//! `access tcp`, ours or the stock one: a client that brings a TCP service to this machine.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::deadline;
use crate::process::{Process, command};
use crate::site::Site;

/// The command line of a client of `program` for `host`, over the site's TLS listener.
pub fn client(site: &Site, program: &Path, host: &str) -> Command {
    client_of(site, program, "tcp", host)
}

/// The same by the name of what is carried: `tcp`, `ssh`, `rdp` or `smb`.
pub fn client_of(site: &Site, program: &Path, kind: &str, host: &str) -> Command {
    let mut client = command(program);
    client
        .env("SSL_CERT_FILE", &site.certificate.certificate)
        .args(["access", kind, "--hostname", host, "--connect-to"])
        .arg(site.edge.https().to_string());
    client
}

/// Starts a client that listens, and waits until it does.
///
/// # Panics
/// When it ends before.
#[track_caller]
pub fn listen(client: &mut Command) -> (Process, SocketAddr) {
    // The stock client does not say which port the kernel chose.
    let address = crate::origin::free_address();
    let mut process = Process::start("access", client.arg("--url").arg(address.to_string()));
    process.wait_line("Start Websocket listener", deadline::STEP);
    (process, address)
}

/// Runs a client over its standard input and output to its end.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn pipe(client: &mut Command, input: &[u8]) -> Output {
    client
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = client.spawn().expect("the client starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A client that fails does not read everything.
    stdin.write_all(input).ok();
    drop(stdin);
    child.wait_with_output().expect("the client ends")
}
