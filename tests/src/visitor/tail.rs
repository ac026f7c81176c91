//! `tail`, ours or the stock one: the log of a running connector, through the edge.

use std::path::Path;
use std::process::Command;

use crate::process::command;
use crate::site::Site;

/// Where sites of these tests have the management service, if `edge.yml` has [`EDGE_LINES`].
pub const HOSTNAME: &str = "manage.example.test";

/// Switches the management service on.
pub const EDGE_LINES: &str = "management: {hostname: manage.example.test}\n";

/// The command line of `adit tail`, as far as it says where everything is.
pub fn adit(site: &Site, program: &Path) -> Command {
    let mut tail = command(program);
    tail.env("HOME", site.folder())
        .args(["--api-url", site.control.api(), "tail", "--origincert"])
        .arg(site.control.origin_cert())
        .args(["--management-hostname", HOSTNAME, "--connect-to"])
        .arg(site.edge.https().to_string())
        .arg("--cacert")
        .arg(&site.certificate.certificate);
    tail
}
