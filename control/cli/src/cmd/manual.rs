//! `completions` and `man`: what a shell and `man` want to know of the command line, made from its grammar.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::args;
use crate::failure::Failure;
use crate::output;

const SHELL: &str = "shell";
const DIRECTORY: &str = "directory";

/// The grammar of `completions`.
pub(crate) fn completions_command() -> Command {
    Command::new("completions")
        .about("Print completions for a shell")
        .arg(
            Arg::new(SHELL)
                .required(true)
                .value_name("SHELL")
                .value_parser(value_parser!(Shell)),
        )
}

/// The grammar of `man`.
pub(crate) fn man_command() -> Command {
    Command::new("man")
        .about("Write a manual page for every command")
        .arg(
            Arg::new(DIRECTORY)
                .required(true)
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Where to; made if it is not there"),
        )
}

/// Prints completions.
pub(super) fn completions(matches: &ArgMatches) -> Result<(), Failure> {
    let shell = *matches
        .get_one::<Shell>(SHELL)
        .ok_or_else(|| Failure::usage("no shell was named"))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "adit", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Writes `adit.1`, `adit-tunnel.1`, `adit-tunnel-run.1` and so on.
pub(super) fn man(matches: &ArgMatches) -> Result<(), Failure> {
    let directory = matches
        .get_one::<PathBuf>(DIRECTORY)
        .ok_or_else(|| Failure::usage("no directory was named"))?;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(args::command(), directory))
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
    Ok(())
}
