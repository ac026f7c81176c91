//! What the counts depend on beside the code.

use std::fmt;
use std::process::Command;

use anyhow::Context as _;

/// Where counts were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) rustc: String,
    pub(crate) arch: String,
    /// For the reader: it decides which CPU the program sees.
    pub(crate) valgrind: String,
}

impl Platform {
    /// This machine.
    pub(crate) fn here() -> anyhow::Result<Self> {
        Ok(Self {
            rustc: first_line("rustc")?,
            arch: std::env::consts::ARCH.to_owned(),
            valgrind: first_line("valgrind")?,
        })
    }

    /// Whether counts taken there say nothing about here.
    pub(crate) fn is_other(&self, here: &Self) -> bool {
        (&self.rustc, &self.arch) != (&here.rustc, &here.arch)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.rustc, self.arch)
    }
}

fn first_line(program: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("asking {program} for its version"))?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
