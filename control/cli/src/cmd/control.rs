//! `adit control`: runs control, checks its configuration, or issues the files of a remote edge.

use std::path::PathBuf;

use adit_control::Config;
use anyhow::Context as _;
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};

use crate::failure::Failure;
use crate::output;

/// Name of the subcommand that issues an edge's files.
const ISSUE_EDGE: &str = "issue-edge";

/// Runs control: accounts, tunnels, routes, and the REST API.
#[derive(Debug, clap::Args)]
struct Arguments {
    /// Path of control.yml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and exit.
    #[arg(long)]
    check: bool,
}

/// Issues the key and certificate with which an edge reaches this control over TCP.
#[derive(Debug, clap::Args)]
struct IssueArguments {
    /// Path of control.yml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Name of the edge, as in its edge.yml.
    #[arg(long)]
    name: String,
    /// Directory for ca.pem, the certificate and its key.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The grammar.
pub(crate) fn command() -> Command {
    Arguments::augment_args(Command::new("control"))
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(false)
        .subcommand(IssueArguments::augment_args(Command::new(ISSUE_EDGE)))
}

/// Runs what was chosen.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let unreadable = |error: clap::Error| Failure::usage(error.to_string());
    if let Some((ISSUE_EDGE, inner)) = matches.subcommand() {
        return issue_edge(&IssueArguments::from_arg_matches(inner).map_err(unreadable)?);
    }
    let arguments = Arguments::from_arg_matches(matches).map_err(unreadable)?;
    let config = Config::load(&arguments.config).context("cannot use the configuration of control")?;
    if arguments.check {
        return output::print("OK\n");
    }
    Ok(adit_control::run(config, Some(arguments.config)).context("control stopped")?)
}

fn issue_edge(arguments: &IssueArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config).context("cannot use the configuration of control")?;
    let issued = adit_control::issue_edge_files(&config, &arguments.name, &arguments.out);
    issued.with_context(|| format!("cannot issue the files of the edge {}", arguments.name))?;
    output::print(&format!(
        "Wrote the key, the certificate and the CA of the edge {} to {}. Keep the key secret.\n",
        arguments.name,
        arguments.out.display()
    ))
}
