//! A running connector, ours or the stock one: both take the same configuration file.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use adit_driver::kernel::IoMode;
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::binary;
use crate::deadline;
use crate::metrics::Metrics;
use crate::process::{Process, command};
use crate::visitor::curl::Curl;

/// How long all connections of a connector may take, back-off after an outage included.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(60);

/// Which executable runs as the connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// The binary under test.
    Adit,
    /// A stock cloudflared.
    Stock(PathBuf),
}

/// How a connector proves that it may serve the tunnel.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// By a credentials file, named in the configuration.
    File(PathBuf),
    /// By a token on the command line, without tunnel and credentials in the configuration.
    Token(String),
    /// By a file with a token.
    TokenFile(PathBuf),
}

/// A connector in the making.
#[derive(Debug, Clone)]
pub struct ConnectorSettings {
    /// Which executable.
    pub program: Program,
    /// Its tunnel.
    pub tunnel: Uuid,
    /// Its proof.
    pub credentials: Credentials,
    /// `--edge` values.
    pub edges: Vec<SocketAddr>,
    /// Root of the tunnel certificate.
    pub cacert: PathBuf,
    /// I/O mode; ours only.
    pub io: IoMode,
    /// Number of cores; ours only.
    pub cores: u16,
    /// The `ingress:` list in YAML; none when empty.
    pub ingress: String,
    /// Lines added to `config.yml`.
    pub lines: String,
    /// Flags of `tunnel`.
    pub flags: Vec<String>,
    /// Flags and arguments of `run`.
    pub run_flags: Vec<String>,
    /// Where a service manager listens, if one does.
    pub notify_socket: Option<PathBuf>,
}

/// A connector that runs, or has run.
#[derive(Debug)]
pub struct Connector {
    /// The process.
    pub process: Process,
    settings: ConnectorSettings,
    metrics: SocketAddr,
    folder: TempDir,
}

impl ConnectorSettings {
    /// How often the address of the edge is given: the stock connector wants more values than connections.
    pub const EDGE_VALUES: usize = 5;

    /// Serves everything from one service.
    pub fn service(self, service: &str) -> Self {
        self.ingress(&format!("  - service: {service}\n"))
    }

    /// With these ingress rules in YAML, each line indented by two spaces.
    pub fn ingress(self, rules: &str) -> Self {
        Self {
            ingress: rules.to_owned(),
            ..self
        }
    }

    /// With these lines in `config.yml`.
    pub fn lines(self, lines: &str) -> Self {
        Self {
            lines: lines.to_owned(),
            ..self
        }
    }

    /// With this proof.
    pub fn credentials(self, credentials: Credentials) -> Self {
        Self { credentials, ..self }
    }

    /// Dials this address only, such as that of a relay.
    pub fn edge(self, address: SocketAddr) -> Self {
        Self {
            edges: vec![address; Self::EDGE_VALUES],
            ..self
        }
    }

    /// With these flags of `tunnel run`.
    pub fn run_flags<const N: usize>(mut self, flags: [&str; N]) -> Self {
        self.run_flags.extend(flags.map(str::to_owned));
        self
    }

    /// Starts it and waits until its metrics server listens (not until it is connected).
    ///
    /// # Panics
    /// When it ends before.
    #[track_caller]
    pub fn start(self) -> Connector {
        let folder = tempfile::tempdir().expect("a temp dir");
        let (process, metrics) = self.launch(folder.path());
        Connector {
            process,
            settings: self,
            metrics,
            folder,
        }
    }

    /// Starts it in a folder without waiting for anything.
    #[track_caller]
    pub fn spawn(&self, folder: &std::path::Path) -> Process {
        let config = folder.join("config.yml");
        std::fs::write(&config, self.render()).expect("a file in the temp dir");
        let (path, is_ours) = match &self.program {
            Program::Adit => (binary::adit(), true),
            Program::Stock(path) => (path.as_path(), false),
        };
        let mut program = command(path);
        program
            .env("HOME", folder)
            .current_dir(folder)
            .args(["tunnel", "--config"])
            .arg(&config);
        if is_ours {
            program.args([
                "--io",
                &self.io.to_string(),
                "--cores",
                &self.cores.to_string(),
                "--addresses-file",
            ]);
            program.arg(folder.join("addresses.json"));
        }
        program.args(&self.flags).arg("run");
        match &self.credentials {
            Credentials::File(_) => {}
            Credentials::Token(token) => {
                program.args(["--token", token]);
            }
            Credentials::TokenFile(file) => {
                program.arg("--token-file").arg(file);
            }
        }
        program.args(&self.run_flags);
        if let Some(socket) = &self.notify_socket {
            program.env("NOTIFY_SOCKET", socket);
        }
        Process::start(if is_ours { "connector" } else { "cloudflared" }, &mut program)
    }

    #[track_caller]
    fn launch(&self, folder: &std::path::Path) -> (Process, SocketAddr) {
        let addresses = folder.join("addresses.json");
        std::fs::remove_file(&addresses).ok();
        let mut process = self.spawn(folder);
        let metrics = match self.program {
            Program::Adit => {
                let found = super::control::wait_addresses(&mut process, &addresses);
                found["metrics"].as_str().and_then(|text| text.parse().ok())
            }
            Program::Stock(_) => {
                let line = process.wait_line("Starting metrics server on ", deadline::STEP);
                line.split("server on ")
                    .nth(1)
                    .and_then(|rest| rest.trim_end_matches("/metrics").parse().ok())
            }
        };
        (process, metrics.expect("the address of the metrics server"))
    }

    /// The text of `config.yml`.
    fn render(&self) -> String {
        let edges: Vec<String> = self.edges.iter().map(|edge| format!("'{edge}'")).collect();
        let mut text = format!(
            "edge: [{}]\ncacert: {}\nprotocol: quic\nno-autoupdate: true\nno-prechecks: true\nmetrics: 127.0.0.1:0\n",
            edges.join(", "),
            self.cacert.display()
        );
        if let Credentials::File(file) = &self.credentials {
            writeln!(
                text,
                "tunnel: {}\ncredentials-file: {}",
                self.tunnel,
                file.display()
            )
            .expect("a string grows");
        }
        text.push_str(&self.lines);
        if !self.ingress.is_empty() {
            write!(text, "ingress:\n{}", self.ingress).expect("a string grows");
        }
        text
    }
}

impl Connector {
    /// Its `config.yml`.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    /// Replaces the rules in its `config.yml`, as an editor does.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn rewrite(&mut self, rules: &str) {
        self.settings = self.settings.clone().ingress(rules);
        let unfinished = self.folder.path().join("config.yml.new");
        std::fs::write(&unfinished, self.settings.render()).expect("a file in the temp dir");
        std::fs::rename(&unfinished, self.config()).expect("a file in the temp dir");
    }

    /// Starts it again, after it has ended, as a new replica with the same settings.
    #[track_caller]
    pub fn start_again(&mut self) {
        (self.process, self.metrics) = self.settings.launch(self.folder.path());
    }

    /// `/ready`: how many connections are registered, and the connector's id.
    pub fn ready(&self) -> Option<(u64, String)> {
        let response = Curl::get(&format!("http://{}/ready", self.metrics)).run();
        let body: Value = serde_json::from_slice(&response.body).ok()?;
        Some((
            body["readyConnections"].as_u64()?,
            body["connectorId"].as_str()?.to_owned(),
        ))
    }

    /// Waits until exactly `count` connections are registered.
    ///
    /// # Panics
    /// When they are not within [`CONNECT_LIMIT`].
    #[track_caller]
    pub fn wait_connections(&self, count: u64) {
        deadline::until_true(&format!("{count} registered connections"), CONNECT_LIMIT, || {
            self.ready().is_some_and(|(ready, _)| ready == count)
        });
    }

    /// Its counters.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.metrics)
    }

    /// Where its metrics server listens.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }
}
