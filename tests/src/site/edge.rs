//! A running edge.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use adit_driver::kernel::IoMode;
use serde_json::Value;

use crate::binary;
use crate::certificate::Certificate;
use crate::metrics::Metrics;
use crate::process::{Process, command};

/// How an edge is set up.
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// State and configuration.
    pub folder: PathBuf,
    /// Its name.
    pub name: String,
    /// I/O mode.
    pub io: IoMode,
    /// Number of cores.
    pub cores: u16,
    /// How it reaches control.
    pub control: ControlLink,
    /// Certificates of the HTTPS listener.
    pub certificates: Vec<Certificate>,
    /// The value of `listeners.tcp`; nothing when empty.
    pub tcp: String,
    /// Whether the listeners for HTTP take PROXY headers.
    pub accepts_proxy: bool,
    /// Lines added to `edge.yml`.
    pub lines: String,
}

/// How an edge reaches control.
#[derive(Debug, Clone)]
pub enum ControlLink {
    /// Through a socket on the same machine.
    Socket(PathBuf),
    /// Over TCP with the files of `adit control issue-edge` in a folder.
    Remote {
        /// Where control listens for edges.
        address: SocketAddr,
        /// Folder with `ca.pem`, `edge.pem` and `edge-key.pem`.
        files: PathBuf,
    },
}

/// Where an edge listens.
#[derive(Debug, Clone)]
pub struct EdgeAddresses {
    /// For connectors.
    pub tunnel: SocketAddr,
    /// For visitors, plain.
    pub http: Vec<SocketAddr>,
    /// For visitors, TLS.
    pub https: Vec<SocketAddr>,
    /// Raw ports.
    pub tcp: Vec<SocketAddr>,
    /// For operators.
    pub admin: SocketAddr,
}

/// An edge that runs, or has run.
#[derive(Debug)]
pub struct Edge {
    /// The process.
    pub process: Process,
    settings: EdgeSettings,
    /// Where it listens.
    pub addresses: EdgeAddresses,
}

impl Edge {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    /// When it ends or does not listen in time.
    #[track_caller]
    pub fn start(settings: EdgeSettings) -> Self {
        Self::launch(settings, &EdgeAddresses::any())
    }

    /// Starts it again, after it has ended, on the ports it had.
    #[track_caller]
    pub fn start_again(&mut self) {
        *self = Self::launch(self.settings.clone(), &self.addresses);
    }

    #[track_caller]
    fn launch(settings: EdgeSettings, listen: &EdgeAddresses) -> Self {
        let addresses = settings.folder.join("addresses.json");
        // Written anew by the process once it listens.
        std::fs::remove_file(&addresses).ok();
        let mut process = settings.spawn_at(listen);
        let found = super::control::wait_addresses(&mut process, &addresses);
        Self {
            process,
            settings,
            addresses: EdgeAddresses::read(&found),
        }
    }

    /// The first plain listener.
    pub fn http(&self) -> SocketAddr {
        self.addresses.http[0]
    }

    /// The first TLS listener.
    pub fn https(&self) -> SocketAddr {
        self.addresses.https[0]
    }

    /// Its counters.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.addresses.admin)
    }

    /// How it was set up.
    pub fn settings(&self) -> &EdgeSettings {
        &self.settings
    }

    /// Its state and configuration.
    pub fn folder(&self) -> &std::path::Path {
        &self.settings.folder
    }
}

impl EdgeSettings {
    /// Starts it without waiting for anything, for an edge that is not to get as far as listening.
    #[track_caller]
    pub fn spawn(&self) -> Process {
        self.spawn_at(&EdgeAddresses::any())
    }

    #[track_caller]
    fn spawn_at(&self, listen: &EdgeAddresses) -> Process {
        std::fs::create_dir_all(&self.folder).expect("a folder in the temp dir");
        let config = self.folder.join("edge.yml");
        std::fs::write(&config, self.render(listen)).expect("a file in the temp dir");
        let mut program = command(binary::adit());
        program.arg("edge").arg("--config").arg(&config);
        program.args(["--io", &self.io.to_string(), "--cores", &self.cores.to_string()]);
        Process::start(self.name.clone(), &mut program)
    }

    /// The text of `edge.yml`.
    pub fn render(&self, listen: &EdgeAddresses) -> String {
        let Self { name, folder, .. } = self;
        let list = |addresses: &[SocketAddr]| {
            addresses
                .iter()
                .map(|address| match self.accepts_proxy {
                    true => format!("{{listen: '{address}', accept-proxy: true}}"),
                    false => format!("'{address}'"),
                })
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut text = format!(
            "name: {name}\ncolo: tst01\nregion: test\nstate-dir: {folder}\nlisteners:\n  tunnel: '{tunnel}'\n  \
             http: [{http}]\n  https: [{https}]\n  admin: '{admin}'\n",
            folder = folder.display(),
            tunnel = listen.tunnel,
            http = list(&listen.http),
            https = list(&listen.https),
            admin = listen.admin,
        );
        if !self.tcp.is_empty() {
            writeln!(text, "  tcp: {}", self.tcp).expect("a string grows");
        }
        match &self.control {
            ControlLink::Socket(path) => writeln!(text, "control: {{socket: {}}}", path.display()),
            ControlLink::Remote { address, files } => {
                let files = files.display();
                writeln!(
                    text,
                    "control: {{address: '{address}', ca: {files}/ca.pem, cert: {files}/edge.pem, key: {files}/edge-key.pem}}"
                )
            }
        }
        .expect("a string grows");
        if !self.certificates.is_empty() {
            text.push_str("certificates:\n");
        }
        for Certificate { certificate, key } in &self.certificates {
            writeln!(
                text,
                "  - {{cert: {}, key: {}}}",
                certificate.display(),
                key.display()
            )
            .expect("a string grows");
        }
        text.push_str(&self.lines);
        text
    }
}

impl EdgeAddresses {
    /// Free ports of the loopback interface.
    fn any() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            tunnel: any,
            http: vec![any],
            https: vec![any],
            tcp: Vec::new(),
            admin: any,
        }
    }

    fn read(found: &Value) -> Self {
        let one = |value: &Value| -> SocketAddr {
            value
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("no address in {found}"))
        };
        let many = |value: &Value| {
            value
                .as_array()
                .map_or_else(Vec::new, |list| list.iter().map(one).collect())
        };
        Self {
            tunnel: one(&found["tunnel"]),
            http: many(&found["http"]),
            https: many(&found["https"]),
            tcp: many(&found["tcp"]),
            admin: one(&found["admin"]),
        }
    }
}
