//! A real redis-server that keeps nothing on the disk.

use std::net::SocketAddr;
use std::process::Command;

use crate::deadline;
use crate::process::{Process, command};

/// A running redis-server.
#[derive(Debug)]
pub struct Redis {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
}

impl Redis {
    /// Starts one on a port of its own and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn start() -> Self {
        let address = super::free_address();
        let mut server = command("redis-server");
        server.args(["--bind", &address.ip().to_string()]);
        server.args(["--port", &address.port().to_string()]);
        server.args(["--save", "", "--appendonly", "no", "--logfile", ""]);
        let mut process = Process::start("redis-server", &mut server);
        process.wait_line("Ready to accept connections", deadline::STEP);
        Self {
            address,
            _process: process,
        }
    }
}

/// A client that asks the server behind `address`.
pub fn client(address: SocketAddr) -> Command {
    let mut client = command("redis-cli");
    client.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    client
}
