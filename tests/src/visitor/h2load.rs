//! Load by h2load, with its summary taken apart.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::process::command;

/// A load in the making.
#[derive(Debug)]
pub struct Load {
    arguments: Vec<String>,
    url: String,
}

/// A load that runs.
#[derive(Debug)]
pub struct RunningLoad {
    child: Child,
}

/// How the requests went.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests answered.
    pub done: u64,
    /// Of these, with a status of 2xx or 3xx.
    pub succeeded: u64,
    /// Failed, for whatever reason: other statuses, errors, timeouts.
    pub failed: u64,
    /// The whole text, for the message of a failing test.
    pub text: String,
}

impl Load {
    /// Requests for `url` over HTTP/1.1, sent to `address`.
    pub fn http1(url: &str, address: SocketAddr) -> Self {
        Self {
            arguments: vec!["--h1".to_owned(), format!("--connect-to={address}")],
            url: url.to_owned(),
        }
    }

    /// Requests for `url` over HTTP/2 and TLS (the certificate is not checked), sent to `address`.
    pub fn http2(url: &str, address: SocketAddr) -> Self {
        Self {
            arguments: vec![format!("--connect-to={address}")],
            url: url.to_owned(),
        }
    }

    /// How many connections, and how many requests at once on each.
    pub fn width(mut self, connections: u32, streams: u32) -> Self {
        self.arguments.extend([
            "-c".to_owned(),
            connections.to_string(),
            "-m".to_owned(),
            streams.to_string(),
        ]);
        self
    }

    /// As `POST` with the content of `file`.
    pub fn post(mut self, file: &Path) -> Self {
        self.arguments.push("-d".to_owned());
        self.arguments.push(file.display().to_string());
        self
    }

    /// So many requests, and the end.
    ///
    /// # Panics
    /// When h2load is missing.
    #[track_caller]
    pub fn requests(mut self, count: u32) -> Outcome {
        self.arguments.extend(["-n".to_owned(), count.to_string()]);
        self.start().finish()
    }

    /// Requests for so long; returns at once.
    ///
    /// # Panics
    /// When h2load is missing.
    #[track_caller]
    pub fn run_for(mut self, time: Duration) -> RunningLoad {
        self.arguments
            .extend(["-D".to_owned(), time.as_secs().max(1).to_string()]);
        self.start()
    }

    #[track_caller]
    fn start(self) -> RunningLoad {
        let mut h2load = command("h2load");
        h2load.args(self.arguments).arg(self.url);
        let child = h2load
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        RunningLoad {
            child: child.expect("h2load is installed"),
        }
    }
}

impl RunningLoad {
    /// Whether it has ended.
    pub fn is_done(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child we started can be waited for")
            .is_some()
    }

    /// Waits for the end and counts.
    ///
    /// # Panics
    /// When h2load's summary is not what this parser knows.
    #[track_caller]
    pub fn finish(self) -> Outcome {
        let output = self
            .child
            .wait_with_output()
            .expect("a child we started can be waited for");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Outcome::parse(&text).unwrap_or_else(|| {
            panic!(
                "no summary in h2load's output: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }
}

impl Outcome {
    /// Reads `requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout` and
    /// `status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx`.
    fn parse(text: &str) -> Option<Self> {
        let summary = text.lines().find_map(|line| line.strip_prefix("requests: "))?;
        let count = |name: &str| {
            summary
                .split(", ")
                .find_map(|item| item.strip_suffix(name)?.trim().parse::<u64>().ok())
        };
        Some(Self {
            done: count(" done")?,
            succeeded: count(" succeeded")?,
            failed: count(" failed")? + count(" timeout")?,
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read() {
        let text = "\nfinished in 1.0s\nrequests: 100 total, 100 started, 99 done, 98 succeeded, 2 failed, 1 errored, 0 timeout\n";
        let outcome = Outcome::parse(text).expect("a summary");
        assert_eq!((outcome.done, outcome.succeeded, outcome.failed), (99, 98, 2));
        assert_eq!(Outcome::parse("finished"), None);
    }
}
