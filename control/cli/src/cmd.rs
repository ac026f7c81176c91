//! The commands: sets up logging, then hands over to the one that was chosen.

pub(crate) mod access;
pub(crate) mod control;
pub(crate) mod edge;
pub(crate) mod manual;
pub(crate) mod tail;
pub(crate) mod tunnel;

use std::future::Future;

use anyhow::Context as _;
use clap::{ArgMatches, FromArgMatches as _};

use crate::args;
use crate::args::lookup::Lookup;
use crate::args::tunnel_flags::VERSION_FLAGS;
use crate::failure::Failure;
use crate::log;
use crate::{output, up};

/// Runs what the command line chose, until it has ended.
pub(crate) fn run(root: &ArgMatches) -> Result<(), Failure> {
    let environment = |variable: &str| std::env::var(variable).ok();
    let (name, matches) = root
        .subcommand()
        .ok_or_else(|| Failure::usage("no command was given"))?;
    if name == "tunnel" {
        return tunnel::run(root, matches, &environment);
    }
    if matches!(name, "tail" | "management") {
        let log = args::log_view(&[root, matches], &environment);
        log::Options::from_flags(&log)?.install()?;
        return match name {
            "tail" => tail::run(root, matches, &environment),
            _ => tail::management(root, matches, &environment),
        };
    }
    if let Some(flag) = args::misplaced_flag(root) {
        return Err(Failure::usage(format!("--{flag} before '{name}' has no meaning"))
            .next(format!("adit {name} --help")));
    }
    match name {
        "version" => return version(matches, &environment),
        "completions" => return manual::completions(matches),
        "man" => return manual::man(matches),
        _ => {}
    }
    let innermost = matches.subcommand().map_or(matches, |(_, inner)| inner);
    let log = log::Options::from_flags(&args::log_view(&[root, matches, innermost], &environment))?;
    match name {
        "up" | "edge" | "control" => log.install_for_service()?,
        _ => log.install()?,
    }
    let unreadable = |error: clap::Error| Failure::usage(error.to_string());
    match name {
        "up" => up::run(&up::Arguments::from_arg_matches(matches).map_err(unreadable)?),
        "edge" => edge::run(&edge::Arguments::from_arg_matches(matches).map_err(unreadable)?),
        "control" => control::run(matches),
        "access" => access::run(matches, &environment),
        other => Err(Failure::usage(format!("unknown command '{other}'"))),
    }
}

/// Runs a future of a command that needs no more than one thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(future)
}

fn version(matches: &ArgMatches, environment: &dyn Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let mut flags = Lookup::new(vec![VERSION_FLAGS], environment);
    flags.add_level(matches, &[]);
    if flags.switch("short")?.unwrap_or(false) {
        output::print(concat!(env!("CARGO_PKG_VERSION"), "\n"))
    } else {
        output::print(&args::version_line())
    }
}
