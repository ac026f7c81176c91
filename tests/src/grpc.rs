//! gRPC at both ends, by its reference implementation: a service behind a tunnel, and a visitor who calls it.
//!
//! Both are Python programs that carry raw bytes, so nothing need be generated. Debian's own Python runs
//! them, for which `python3-grpcio` is a package.

use std::net::SocketAddr;

use crate::binary;
use crate::certificate::Certificate;
use crate::deadline;
use crate::process::{Process, command};
use crate::site::Site;

/// Debian's, whatever else is in the path: its packages are for this one.
const PYTHON: &str = "/usr/bin/python3";

/// Calls of every kind, that end well or badly.
pub const ALL_KINDS: [&str; 7] = ["unary", "failing", "unknown", "down", "up", "talk", "flood"];

/// A running service.
#[derive(Debug)]
pub struct Service {
    /// Its process, which says how calls of `Hang` begin and end.
    pub process: Process,
    plain: u16,
    tls: u16,
    _folder: tempfile::TempDir,
}

impl Service {
    /// Starts one on ports of its own, in clear and over TLS.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp dir");
        let certificate = Certificate::create(folder.path(), "service", &["origin.test"]);
        let mut service = command(PYTHON);
        service
            .args(["-c", include_str!("grpc/service.py")])
            .args([&certificate.certificate, &certificate.key]);
        let mut process = Process::start("grpc service", &mut service);
        let line = process.wait_line("listening ", deadline::STEP);
        let ports: Vec<u16> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [plain, tls] = ports[..] else {
            panic!("two ports in {line:?}");
        };
        Self {
            process,
            plain,
            tls,
            _folder: folder,
        }
    }

    /// Where it takes HTTP/2 in clear.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.plain)
    }

    /// Where it takes HTTP/2 over TLS.
    pub fn tls_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.tls)
    }
}

/// How a visitor reaches the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/2 in clear, with prior knowledge.
    Plain,
    /// Over TLS.
    Tls,
}

/// Makes these calls to `host` at a site, one after the other.
///
/// # Panics
/// When one does not go as it should.
#[track_caller]
pub fn call(site: &Site, host: &str, scheme: Scheme, calls: &[&str]) {
    let (address, root): (SocketAddr, String) = match scheme {
        Scheme::Plain => (site.edge.http(), "-".to_owned()),
        Scheme::Tls => (
            site.edge.https(),
            site.certificate.certificate.display().to_string(),
        ),
    };
    let mut visitor = command(PYTHON);
    visitor
        .args(["-c", include_str!("grpc/visitor.py")])
        .args([&address.to_string(), host, &root])
        .args(calls);
    let done = binary::output(&mut visitor);
    let said = [done.stdout, done.stderr].concat();
    assert!(
        done.status.success(),
        "{host} over {scheme:?}: {}",
        String::from_utf8_lossy(&said)
    );
}
