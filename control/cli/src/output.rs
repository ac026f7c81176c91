//! What commands print on standard output: tables, JSON, YAML and times, as cloudflared prints them.
//!
//! Scripts read these texts, so the spacing and the order of keys are part of the contract.

pub(crate) mod document;
pub(crate) mod table;
pub(crate) mod time;

use std::io::{self, Write};

use anyhow::Context as _;

use self::document::Node;
use crate::args::lookup::Lookup;
use crate::failure::Failure;

/// How a command renders what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// Indented JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Format {
    /// Reads `--output` among a command's own flags.
    pub(crate) fn from_flags(own: &Lookup<'_>) -> Result<Self, Failure> {
        match own.text("output").as_deref() {
            // `default` stands before the command, where it is about the log.
            None | Some("" | "default") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some("yaml") => Ok(Self::Yaml),
            Some(other) => {
                Err(anyhow::anyhow!("Unknown output format '{other}', choose json or yaml").into())
            }
        }
    }
}

/// Prints a document as JSON or YAML.
pub(crate) fn print_document(format: Format, document: &Node) -> Result<(), Failure> {
    match format {
        Format::Json => print(&format!("{}\n", document.to_json())),
        Format::Text | Format::Yaml => print(&document.to_yaml()),
    }
}

/// Writes `text` to standard output. A reader that went away ends the command, it is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error)
            .context("cannot write to standard output")
            .map_err(Failure::from),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a line to standard error, for results that are not output. A closed one is nobody's concern.
pub(crate) fn tell(line: &str) {
    let mut errors = io::stderr().lock();
    if errors.write_all(line.as_bytes()).is_ok() {
        let _nobody_listens = errors.write_all(b"\n");
    }
}
