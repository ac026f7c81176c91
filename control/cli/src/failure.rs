//! How a command ends badly: the text for the terminal and the exit status, decided in one place.
//!
//! Status 1: it was tried and failed. Status 2: the command line is wrong. Status 255: the command line
//! is wrong in a way that cloudflared's users know by that status. A failure says what failed, why, and
//! where it helps the next command to try; there is never a backtrace.

use std::process::ExitCode;

/// The end of a command that did not work.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    text: String,
}

impl Failure {
    /// Something was tried and failed; the causes of `error` are told in one line.
    pub(crate) fn failed(error: &anyhow::Error) -> Self {
        Self {
            status: 1,
            text: format!("{error:#}"),
        }
    }

    /// The command line of one of our own commands is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self {
            status: 2,
            text: text.into(),
        }
    }

    /// The arguments of a `tunnel` command are wrong in number or form.
    pub(crate) fn arguments(command: &str, text: impl std::fmt::Display) -> Self {
        Self {
            status: 255,
            text: format!("{text}\nSee 'adit {command} --help'."),
        }
    }

    /// Adds the next command to try.
    #[must_use]
    pub(crate) fn next(mut self, command: impl std::fmt::Display) -> Self {
        self.text.push_str(&format!("\nTry: {command}"));
        self
    }

    /// The text, without the status.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The status as the process reports it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(&error)
    }
}
