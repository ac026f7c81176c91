//! One request by curl: what a user would type, with the answer taken apart.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::command;

/// A request in the making.
#[derive(Debug)]
pub struct Curl {
    url: String,
    arguments: Vec<OsString>,
    body: Option<Vec<u8>>,
    target: Option<PathBuf>,
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// The status, 0 when none came.
    pub status: u16,
    /// `1.1`, `2`.
    pub version: String,
    /// Names in lower case, in order; of the final response only.
    pub headers: Vec<(String, String)>,
    /// The body; empty when it went to a file.
    pub body: Vec<u8>,
    /// 0, or the failure as curl(1) numbers it: 7 refused, 18 partial, 28 timeout, 52 empty reply, 92 stream
    /// error.
    pub exit: i32,
    /// curl's own words on a failure.
    pub error: String,
    /// Time from start to the first response byte.
    pub first_byte: Duration,
    /// Connections it had to open.
    pub connects: u64,
}

/// A curl that still runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    folder: TempDir,
}

impl Curl {
    /// GET `url`.
    pub fn get(url: &str) -> Self {
        // Proxies in the environment of the machine are not part of the test.
        let arguments = ["-sS", "--noproxy", "*", "--max-time", "120"]
            .map(OsString::from)
            .to_vec();
        Self {
            url: url.to_owned(),
            arguments,
            body: None,
            target: None,
        }
    }

    /// Another method.
    pub fn method(self, method: &str) -> Self {
        if method == "HEAD" {
            self.arg("--head")
        } else {
            self.arg("-X").arg(method)
        }
    }

    /// A header line, such as `Accept: text/html`; replaces curl's own of that name.
    pub fn header(self, line: &str) -> Self {
        self.arg("-H").arg(line)
    }

    /// Asks for this hostname whatever the URL says.
    pub fn host(self, name: &str) -> Self {
        let line = format!("Host: {name}");
        self.header(&line)
    }

    /// Connects to `address` for whatever the URL names: the name stays in Host and in SNI.
    pub fn connect_to(self, address: SocketAddr) -> Self {
        self.arg("--connect-to").arg(format!("::{address}"))
    }

    /// Trusts only this root.
    pub fn trust(self, root: &Path) -> Self {
        self.arg("--cacert").arg(root)
    }

    /// Writes the body into a file instead of keeping it.
    pub fn into_file(mut self, file: &Path) -> Self {
        self.target = Some(file.to_owned());
        self
    }

    /// Any further argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// POSTs `body` with its length known.
    pub fn post(self, body: impl Into<Vec<u8>>) -> Self {
        self.body(body)
            .header("Content-Type: application/octet-stream")
            .arg("--data-binary")
            .arg("@-")
    }

    /// POSTs `body` with its length unknown: chunked in HTTP/1.1, without Content-Length in HTTP/2.
    pub fn post_unsized(self, body: impl Into<Vec<u8>>) -> Self {
        self.body(body).method("POST").arg("-T").arg("-")
    }

    /// Uploads a file by `method` with its length known.
    pub fn upload(self, method: &str, file: &Path) -> Self {
        self.method(method).arg("-T").arg(file)
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When curl is missing.
    #[track_caller]
    pub fn run(self) -> Response {
        self.start().finish()
    }

    /// Starts it and lets it run.
    ///
    /// # Panics
    /// When curl is missing.
    #[track_caller]
    pub fn start(self) -> Running {
        let folder = tempfile::tempdir().expect("a temp dir");
        let target = self.target.clone().unwrap_or_else(|| folder.path().join("body"));
        let mut curl: Command = command("curl");
        curl.arg("-o")
            .arg(&target)
            .arg("-D")
            .arg(folder.path().join("headers"));
        curl.arg("-w").arg(FACTS).args(&self.arguments);
        match &self.body {
            Some(body) => {
                let file = folder.path().join("stdin");
                std::fs::write(&file, body).expect("a fresh file");
                curl.stdin(std::fs::File::open(file).expect("a file just written"));
            }
            None => {
                curl.stdin(Stdio::null());
            }
        }
        curl.arg(&self.url).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = curl.spawn().expect("curl is installed");
        Running { child, folder }
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// What curl reports after the transfer, one value a line.
const FACTS: &str = "%{http_code}\n%{http_version}\n%{time_starttransfer}\n%{num_connects}\n";

impl Running {
    /// Whether it has ended.
    pub fn is_done(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child we started can be waited for")
            .is_some()
    }

    /// Goes away in the middle, as a visitor who closes the page.
    pub fn abort(mut self) {
        self.child.kill().expect("a child we started can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// Bytes of body received so far.
    pub fn received(&self) -> u64 {
        std::fs::metadata(self.folder.path().join("body")).map_or(0, |file| file.len())
    }

    /// Waits for the end, which `--max-time` bounds.
    #[track_caller]
    pub fn finish(mut self) -> Response {
        let mut facts = String::new();
        let mut error = String::new();
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        out.expect("captured")
            .read_to_string(&mut facts)
            .expect("curl writes text");
        err.expect("captured")
            .read_to_string(&mut error)
            .expect("curl writes text");
        let exit = self
            .child
            .wait()
            .expect("a child we started can be waited for")
            .code()
            .unwrap_or(-1);
        let mut facts = facts.lines();
        let headers = std::fs::read(self.folder.path().join("headers")).unwrap_or_default();
        Response {
            status: facts.next().and_then(|n| n.parse().ok()).unwrap_or(0),
            version: facts.next().unwrap_or_default().to_owned(),
            headers: last_head(&String::from_utf8_lossy(&headers)),
            body: std::fs::read(self.folder.path().join("body")).unwrap_or_default(),
            exit,
            error,
            first_byte: Duration::from_secs_f64(
                facts.next().and_then(|n| n.parse().ok()).unwrap_or_default(),
            ),
            connects: facts.next().and_then(|n| n.parse().ok()).unwrap_or_default(),
        }
    }
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header of that name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All headers of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The value after `name=` in a body of `name=value` words.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn word(&self, name: &str) -> String {
        let text = self.text();
        let value = text
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .find(|(key, _)| *key == name);
        value
            .map(|(_, value)| value.to_owned())
            .unwrap_or_else(|| panic!("no {name}= in {text:?} ({self:?})"))
    }

    /// The value of a `name: value` line of the body.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn line(&self, name: &str) -> String {
        let text = self.text();
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        let found = lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned());
        found.unwrap_or_else(|| panic!("no {name}: in {text:?}"))
    }
}

/// The last of the response heads in a dump: interim responses come before it.
fn last_head(dump: &str) -> Vec<(String, String)> {
    let head = dump.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default();
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect()
}
