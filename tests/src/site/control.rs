//! A running control, and what its operator does with it by command line and REST.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use uuid::Uuid;

use crate::binary;
use crate::deadline;
use crate::metrics::Metrics;
use crate::process::{Process, command};
use crate::visitor::curl::{Curl, Response};

/// How a control is set up.
#[derive(Debug, Clone)]
pub struct ControlSettings {
    /// State and configuration.
    pub folder: PathBuf,
    /// Lines added to `control.yml`.
    pub lines: String,
}

/// A control that runs, or has run.
#[derive(Debug)]
pub struct Control {
    /// The process.
    pub process: Process,
    folder: PathBuf,
    lines: String,
    /// Base address of the REST API.
    pub api: String,
    /// Where remote edges attach, if configured.
    pub edge_listen: Option<SocketAddr>,
}

/// A tunnel that was created.
#[derive(Debug, Clone)]
pub struct Tunnel {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its credentials file.
    pub credentials: PathBuf,
}

impl Control {
    /// Starts one and waits until it listens.
    ///
    /// # Panics
    /// When it ends or does not listen in time.
    #[track_caller]
    pub fn start(settings: &ControlSettings) -> Self {
        std::fs::create_dir_all(&settings.folder).expect("a folder in the temp dir");
        Self::launch(
            settings.folder.clone(),
            settings.lines.clone(),
            "127.0.0.1:0",
            None,
        )
    }

    /// Starts it again, after it has ended, on the ports it had.
    #[track_caller]
    pub fn start_again(&mut self) {
        let listen = self.listen().to_string();
        let again = Self::launch(self.folder.clone(), self.lines.clone(), &listen, self.edge_listen);
        *self = again;
    }

    /// The same with other lines in `control.yml`.
    #[track_caller]
    pub fn start_again_with(&mut self, lines: &str) {
        lines.clone_into(&mut self.lines);
        self.start_again();
    }

    #[track_caller]
    fn launch(folder: PathBuf, lines: String, listen: &str, edge_listen: Option<SocketAddr>) -> Self {
        // Written anew by the process once it listens.
        let addresses = folder.join("addresses.json");
        std::fs::remove_file(&addresses).ok();
        let mut text = format!(
            "listen: {listen}\nstate-dir: {0}\nedge-socket: {0}/edge.sock\n",
            folder.display()
        );
        match edge_listen {
            Some(address) => text.push_str(&format!("edge-listen: {{address: '{address}'}}\n")),
            None => text.push_str(&lines),
        }
        let config = folder.join("control.yml");
        std::fs::write(&config, text).expect("a file in the temp dir");
        let mut program = command(binary::adit());
        program.arg("control").arg("--config").arg(&config);
        let mut process = Process::start("control", &mut program);
        let found = wait_addresses(&mut process, &addresses);
        let api = found["api"].as_str().expect("an API address").to_owned();
        let edge_listen = found["edge_listen"]
            .as_str()
            .and_then(|address| address.parse().ok());
        Self {
            process,
            folder,
            lines,
            api,
            edge_listen,
        }
    }

    /// The socket on which edges attach.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("edge.sock")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("control.yml")
    }

    /// The root of its private CA.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The credential for its API.
    pub fn origin_cert(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// Where its REST API listens.
    pub fn listen(&self) -> SocketAddr {
        let authority = self
            .api
            .trim_start_matches("http://")
            .split('/')
            .next()
            .unwrap_or_default();
        authority.parse().expect("control reports an address")
    }

    /// A management command of `program` (ours or stock) in the making: `tunnel …` with address and
    /// credential.
    pub fn tool(&self, program: &Path) -> Command {
        let mut tool = command(program);
        // The credentials come from the flags alone, whatever the home directory holds.
        tool.env("HOME", &self.folder).current_dir(&self.folder);
        tool.args(["tunnel", "--api-url", &self.api, "--origincert"])
            .arg(self.origin_cert());
        tool
    }

    /// Where its API is, with the path that all requests begin with.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Its counters.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.listen())
    }

    /// Runs `adit tunnel …` and returns its standard output.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run<const N: usize>(&self, arguments: [&str; N]) -> String {
        binary::succeed(self.tool(binary::adit()).args(arguments))
    }

    /// Runs `adit tunnel …` whatever comes.
    #[track_caller]
    pub fn try_run<const N: usize>(&self, arguments: [&str; N]) -> Output {
        binary::output(self.tool(binary::adit()).args(arguments))
    }

    /// Creates a tunnel with its credentials at `file`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn create(&self, name: &str, file: &Path) -> Tunnel {
        let file = file.to_owned();
        let text = self.run(["create", "--credentials-file", &file.display().to_string(), name]);
        let id = text.split_whitespace().find_map(|word| word.parse::<Uuid>().ok());
        let id = id.unwrap_or_else(|| panic!("no tunnel id in {text:?}"));
        Tunnel {
            id,
            name: name.to_owned(),
            credentials: file,
        }
    }

    /// Routes `hostname` to `tunnel`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn route(&self, tunnel: &Tunnel, hostname: &str) {
        self.run(["route", "dns", &tunnel.id.to_string(), hostname]);
    }

    /// The token of `tunnel`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn token(&self, tunnel: &Tunnel) -> String {
        self.run(["token", &tunnel.id.to_string()]).trim().to_owned()
    }

    /// Runs `adit control issue-edge`: writes into `out` what a remote edge of this name needs.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn issue_edge(&self, name: &str, out: &Path) {
        let mut tool = command(binary::adit());
        tool.args(["control", "issue-edge", "--name", name, "--config"]);
        binary::succeed(tool.arg(self.config()).arg("--out").arg(out));
    }

    /// Calls the REST API at `path`, where `{account}` and `{zone}` stand for those of `cert.pem`.
    pub fn rest(&self, method: &str, path: &str) -> Curl {
        let token = self.credential()["apiToken"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.rest_as(&token, method, path)
    }

    /// The same with another bearer token.
    pub fn rest_as(&self, token: &str, method: &str, path: &str) -> Curl {
        let credential = self.credential();
        let field = |name: &str| credential[name].as_str().unwrap_or_default();
        let path = path
            .replace("{account}", field("accountID"))
            .replace("{zone}", field("zoneID"));
        let authorization = format!("Authorization: Bearer {token}");
        Curl::get(&format!("{}{path}", self.api))
            .method(method)
            .header(&authorization)
    }

    /// The tunnel as the REST API shows it.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn tunnel_object(&self, tunnel: &Tunnel) -> Value {
        let path = format!("/accounts/{{account}}/cfd_tunnel/{}", tunnel.id);
        result(&self.rest("GET", &path).run())
    }

    /// How many connections control has on record for `tunnel`.
    #[track_caller]
    pub fn connection_count(&self, tunnel: &Tunnel) -> usize {
        self.tunnel_object(tunnel)["connections"]
            .as_array()
            .map_or(0, Vec::len)
    }

    /// What is in `cert.pem`.
    pub fn credential(&self) -> Value {
        let text = std::fs::read_to_string(self.origin_cert()).expect("control wrote cert.pem");
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let json = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).expect("base64");
        serde_json::from_slice(&json).expect("JSON")
    }
}

/// The `result` of a successful API answer.
///
/// # Panics
/// When it is not one.
#[track_caller]
pub fn result(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    let body: Value = serde_json::from_slice(&response.body).expect("the API answers JSON");
    assert_eq!(body["success"], Value::Bool(true), "{body}");
    body["result"].clone()
}

/// Waits for a process to write its `addresses.json`.
#[track_caller]
pub(super) fn wait_addresses(process: &mut Process, file: &Path) -> Value {
    let name = process.name().to_owned();
    let found = deadline::until(
        &format!("{name} to write {}", file.display()),
        deadline::STEP,
        || {
            let written = std::fs::read(file)
                .ok()
                .and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            written.map(Some).or_else(|| process.exited().map(|_| None))
        },
    );
    found.unwrap_or_else(|| panic!("{name} ended before it listened"))
}
