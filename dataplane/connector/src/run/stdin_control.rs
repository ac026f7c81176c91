//! `--stdin-control`: commands by lines on standard input, for tests of how exchanges fare when a connection
//! moves.
//!
//! | line | does |
//! |---|---|
//! | `reconnect [DELAY]` | one connection, any of them, leaves in order and is dialled anew `DELAY` later |
//! | `help`, and anything unknown | says so in the log |
//!
//! The end of standard input ends the reading and nothing else. Source: cloudflared
//! `cmd/cloudflared/tunnel/cmd.go`.

use std::io::BufRead as _;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::duration;

/// Commands that may wait; whoever writes more waits as well.
const COMMANDS_MAX: usize = 4;

/// Longest line that is read.
const LINE_BYTES_MAX: usize = 1 << 10;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Nothing,
    Reconnect(Duration),
    Help,
    Unknown,
    NoDuration,
}

impl Line {
    fn parse(text: &str) -> Self {
        let text = text.trim();
        match text.split_once(' ').unwrap_or((text, "")) {
            ("", _) => Self::Nothing,
            ("reconnect", "") => Self::Reconnect(Duration::ZERO),
            ("reconnect", delay) => match duration::parse(delay.trim()) {
                Some(delay) => Self::Reconnect(delay),
                None => Self::NoDuration,
            },
            ("help", _) => Self::Help,
            _ => Self::Unknown,
        }
    }
}

/// Reads commands for as long as somebody takes the delays that are received here.
pub(super) fn listen() -> std::io::Result<mpsc::Receiver<Duration>> {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    tracing::info!("Enabling control through stdin");
    // A read of standard input cannot be cancelled, so the thread ends with the input or the process.
    std::thread::Builder::new()
        .name("stdin-control".to_owned())
        .spawn(move || read(&sender))?;
    Ok(receiver)
}

fn read(sender: &mpsc::Sender<Duration>) {
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut input, LINE_BYTES_MAX as u64);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        match Line::parse(&text) {
            Line::Nothing => {}
            Line::Reconnect(delay) => {
                if sender.blocking_send(delay).is_err() {
                    return;
                }
            }
            Line::Help => help(),
            Line::Unknown => {
                tracing::info!(command = text.trim(), "Unknown command");
                help();
            }
            Line::NoDuration => {
                tracing::error!(
                    command = text.trim(),
                    "the delay must be a duration such as 5s or 1m30s"
                );
            }
        }
    }
}

fn help() {
    tracing::info!("Supported command: reconnect [delay], which restarts one connection");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_with_an_optional_delay() {
        for (text, expected) in [
            ("", Line::Nothing),
            ("  \r\n", Line::Nothing),
            ("reconnect\n", Line::Reconnect(Duration::ZERO)),
            ("reconnect 1m30s\r\n", Line::Reconnect(Duration::from_secs(90))),
            ("reconnect soon", Line::NoDuration),
            ("help me", Line::Help),
            ("restart", Line::Unknown),
        ] {
            assert_eq!(Line::parse(text), expected, "{text:?}");
        }
    }
}
