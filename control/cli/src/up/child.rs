//! One child process: started from our own executable, its lines shown with a prefix, its last words kept.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child as Process, Command};
use tokio::task::JoinHandle;

use crate::args::tunnel_flags::{RUN_FLAGS, TUNNEL_FLAGS};
use crate::output;

/// Lines kept to explain an end.
const LAST_LINES: usize = 20;

/// How long the pipes may stay open after the process ended.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(1);

/// A running child.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    last_lines: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Child {
    /// Starts `adit ARGUMENTS`. It dies with us, and a Ctrl-C in our terminal does not reach it, so that
    /// we can stop the children in order.
    pub(super) fn start(prefix: &'static str, arguments: &[String]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find our own executable")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["--parent-pid", &std::process::id().to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        // The generated files say everything; the user's own tunnel settings are for other tunnels.
        for variable in TUNNEL_FLAGS.iter().chain(RUN_FLAGS).flat_map(|flag| flag.env) {
            command.env_remove(variable);
        }
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start the {prefix}"))?;
        let last_lines = Arc::new(Mutex::new(VecDeque::with_capacity(LAST_LINES)));
        let mut readers = Vec::new();
        if let Some(output) = process.stdout.take() {
            readers.push(tokio::spawn(show(prefix, output, Arc::clone(&last_lines))));
        }
        if let Some(errors) = process.stderr.take() {
            readers.push(tokio::spawn(show(prefix, errors, Arc::clone(&last_lines))));
        }
        Ok(Self {
            process,
            last_lines,
            readers,
        })
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        if let Some(pid) = self.pid() {
            // It may have ended by itself in the meantime.
            let _already_gone = kill(pid, Signal::SIGTERM);
        }
    }

    /// Its number while it is not known to have ended.
    pub(super) fn pid(&self) -> Option<Pid> {
        let pid = self.process.id().and_then(|pid| i32::try_from(pid).ok());
        pid.map(Pid::from_raw)
    }

    /// Ends it at once.
    pub(super) async fn kill(&mut self) {
        let _already_gone = self.process.kill().await;
    }

    /// What an ended child said last: its error text, or its last error line.
    pub(super) async fn last_words(&mut self) -> Option<String> {
        for reader in self.readers.drain(..) {
            // A grandchild could keep a pipe open; there is none, but we would wait for ever.
            let _late = tokio::time::timeout(LAST_WORDS_TIME_MAX, reader).await;
        }
        let lines = self.last_lines.lock().ok()?;
        last_words(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Shows every line as `PREFIX| line` and keeps the last ones.
async fn show(prefix: &'static str, output: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        output::tell(&format!("{prefix}| {line}"));
        let Ok(mut kept) = kept.lock() else { return };
        if kept.len() == LAST_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// The text behind the last log line, which is how a failing command ends; else the last error line.
fn last_words(lines: &[&str]) -> Option<String> {
    let after_log = lines
        .iter()
        .rposition(|line| is_log_line(line))
        .map_or(0, |index| index + 1);
    let words: Vec<&str> = lines
        .iter()
        .skip(after_log)
        .copied()
        .filter(|line| !line.is_empty())
        .collect();
    if !words.is_empty() {
        return Some(words.join("\n"));
    }
    let error = lines.iter().rev().find(|line| line.contains(" ERR "))?;
    Some(
        error
            .split_once(" ERR ")
            .map_or(*error, |(_, text)| text)
            .to_owned(),
    )
}

/// Whether a line begins with a time, as those of our logger do.
fn is_log_line(line: &str) -> bool {
    let begins_with_digits = line
        .get(..4)
        .is_some_and(|year| year.bytes().all(|byte| byte.is_ascii_digit()));
    begins_with_digits && line.get(10..11) == Some("T") && line.contains("Z ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: Option<&str>) {
        assert_eq!(last_words(lines).as_deref(), expected);
    }

    #[test]
    fn the_error_text_behind_the_log_is_the_reason() {
        check(
            &[
                "2026-01-02T03:04:05Z INF starting",
                "cannot listen on 127.0.0.1:80",
                "Try: another port",
            ],
            Some("cannot listen on 127.0.0.1:80\nTry: another port"),
        );
    }

    #[test]
    fn without_an_error_text_the_last_error_line_is_the_reason() {
        check(
            &[
                "2026-01-02T03:04:05Z ERR it broke error=x",
                "2026-01-02T03:04:06Z INF stopping",
            ],
            Some("it broke error=x"),
        );
        check(&["2026-01-02T03:04:06Z INF stopping"], None);
        check(&[], None);
    }
}
