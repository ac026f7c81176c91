//! Starts control in a temporary directory, and speaks plain HTTP with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use adit_control::Config;
use adit_wire::origin_cert::OriginCert;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const DIR: &str = "ADIT_CONTROL_TEST_DIR";

/// What a started process runs; as a test of its own it does nothing.
#[test]
fn control_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    adit_control::run(config(Path::new(&dir)), None).unwrap();
}

pub(crate) fn config(dir: &Path) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        edge_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        replicas_max: 2,
        ..Config::in_dir(dir.join("state"))
    }
}

/// A running control.
pub(crate) struct Control {
    child: Child,
    pub(crate) dir: PathBuf,
    pub(crate) addresses: Value,
    pub(crate) cert: OriginCert,
}

impl Control {
    /// Starts it and waits until it listens.
    pub(crate) fn start(dir: &Path) -> Self {
        let path = config(dir).state_dir.join("addresses.json");
        // What a killed process left behind must not be taken for the new one's word.
        let _ = std::fs::remove_file(&path);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lab::control_process", "--nocapture"])
            .env(DIR, dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let text = wait("control listens", || std::fs::read_to_string(&path).ok());
        let cert = std::fs::read_to_string(config(dir).state_dir.join("cert.pem")).unwrap();
        Self {
            child,
            dir: dir.into(),
            addresses: serde_json::from_str(&text).unwrap(),
            cert: OriginCert::parse(&cert).unwrap(),
        }
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop.
    pub(crate) fn stop(mut self) -> ExitStatus {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        wait("control stops", || self.child.try_wait().unwrap())
    }

    pub(crate) fn api_address(&self) -> &str {
        let api = self.addresses["api"].as_str().unwrap();
        api.strip_prefix("http://").unwrap().split('/').next().unwrap()
    }

    pub(crate) fn account_path(&self, rest: &str) -> String {
        format!("/client/v4/accounts/{}{rest}", self.cert.account_id)
    }

    pub(crate) fn zone_path(&self, rest: &str) -> String {
        format!("/client/v4/zones/{}{rest}", self.cert.zone_id)
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.try_call(method, path, &self.cert.api_token, &body).unwrap()
    }

    /// One request on one connection; fails as the socket does.
    pub(crate) fn try_call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &str,
    ) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(self.api_address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: control\r\nauthorization: Bearer {token}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Answer::parse(text).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Already gone in the tests that stop or kill it themselves.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Answer {
    fn parse(whole: String) -> Option<Self> {
        let (head, text) = whole.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self {
            status,
            head: head.to_lowercase(),
            text: text.into(),
        })
    }

    /// The result of a successful envelope.
    pub(crate) fn result(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        let envelope: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(envelope["success"], true, "{self:?}");
        envelope["result"].clone()
    }

    /// Status and code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, u64) {
        assert!(
            self.head.contains("content-type: application/json\r\n"),
            "{self:?}"
        );
        let envelope: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(envelope["success"], false, "{self:?}");
        (self.status, envelope["errors"][0]["code"].as_u64().unwrap())
    }
}

/// Waits for a condition; fails after [`PATIENCE`].
pub(crate) fn wait<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited too long until {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// The body that creates a tunnel.
pub(crate) fn tunnel_body(name: &str) -> Value {
    serde_json::json!({"name": name, "tunnel_secret": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="})
}
