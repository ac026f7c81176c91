//! The grammar of the command line: commands, their flags and arguments, and what was chosen.
//!
//! `control`, `edge`, `up` and `version` are ours. Everything below `tunnel` and `access` follows
//! cloudflared's grammar, but more leniently: a flag may stand before or after the command, with one dash or
//! two. Does not read values (see [`lookup`]) and runs nothing (see `cmd`).

pub(crate) mod access_flags;
pub(crate) mod flag;
pub(crate) mod leaf;
pub(crate) mod lookup;
mod spelling;
pub(crate) mod tail_flags;
pub(crate) mod tunnel_flags;
pub(crate) mod values;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, value_parser};

use self::flag::Flag;
use self::leaf::{LEAVES, Leaf};
use self::lookup::{Environment, Lookup};
use self::tunnel_flags::{RUN_FLAGS, TUNNEL_FLAGS, VERSION_FLAGS};
use crate::cmd::{control, edge, manual};
use crate::{output, parent, up};

/// Flags of [`TUNNEL_FLAGS`] that every command takes: they say how it logs.
pub(crate) const LOG_FLAGS: &[&str] = &[
    "loglevel",
    "transport-loglevel",
    "logfile",
    "log-directory",
    "output",
];

/// The whole grammar.
pub(crate) fn command() -> Command {
    Command::new("adit")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .about("A tunnel gateway: edge, connector and control in one executable")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(TUNNEL_FLAGS.iter().map(|flag| flag.arg(false, true)))
        .arg(
            Arg::new("version")
                .long("version")
                .short('v')
                .short_alias('V')
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .arg(
            Arg::new(parent::FLAG)
                .long(parent::FLAG)
                .global(true)
                .hide(true)
                .value_parser(value_parser!(i32))
                .help("End when this process, the one that started this one, ends"),
        )
        .subcommand(with_log_flags(up::Arguments::augment_args(Command::new("up"))))
        .subcommand(with_log_flags(control::command()))
        .subcommand(with_log_flags(edge::Arguments::augment_args(Command::new(
            "edge",
        ))))
        .subcommand(tunnel_command())
        .subcommand(access_flags::command(LOG_FLAGS))
        .subcommand(tail_flags::tail_command())
        .subcommand(tail_flags::management_command())
        .subcommand(manual::completions_command())
        .subcommand(manual::man_command())
        .subcommand(
            Command::new("version")
                .about("Print the version")
                .args(VERSION_FLAGS.iter().map(|flag| flag.arg(true, true))),
        )
}

/// Parses the process's arguments. On a wrong command line it says so and exits with status 2. A group of
/// commands without one of them shows its help. That is no mistake: cloudflared's users look around like
/// this.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> ArgMatches {
    try_parse(arguments).unwrap_or_else(|error| {
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            // Nobody is left to tell if standard output is closed.
            let _unseen = output::print(&error.render().to_string());
            std::process::exit(0);
        }
        if error.kind() == ErrorKind::DisplayVersion {
            let _unseen = output::print(&version_line());
            std::process::exit(0);
        }
        error.exit()
    })
}

/// What `version`, `--version` and `-v` print.
pub(crate) fn version_line() -> String {
    format!("adit version {}\n", env!("CARGO_PKG_VERSION"))
}

fn try_parse(arguments: impl IntoIterator<Item = OsString>) -> Result<ArgMatches, clap::Error> {
    let tables = [
        TUNNEL_FLAGS,
        RUN_FLAGS,
        access_flags::TCP_FLAGS,
        tail_flags::TAIL_FLAGS,
    ]
    .into_iter()
    .chain(LEAVES.iter().map(|leaf| leaf.own));
    let flags: Vec<&Flag> = tables.flatten().collect();
    let is_flag = |name: &str| flags.iter().any(|flag| flag.is_called(name));
    command().try_get_matches_from(spelling::double_dashes(arguments, is_flag))
}

/// A view of the log flags, for commands of our own.
pub(crate) fn log_view<'a>(levels: &[&'a ArgMatches], environment: Environment<'a>) -> Lookup<'a> {
    let mut view = Lookup::new(vec![TUNNEL_FLAGS], environment);
    for matches in levels {
        view.add_level(matches, &[]);
    }
    view
}

/// The name of a flag that stands before one of our own commands but means nothing to it.
pub(crate) fn misplaced_flag(root: &ArgMatches) -> Option<&'static str> {
    let given = |flag: &&Flag| root.try_get_raw(flag.name).ok().flatten().is_some();
    let meaningless = |flag: &&Flag| !LOG_FLAGS.contains(&flag.name);
    TUNNEL_FLAGS
        .iter()
        .filter(meaningless)
        .find(given)
        .map(|flag| flag.name)
}

fn with_log_flags(command: Command) -> Command {
    let flags = TUNNEL_FLAGS.iter().filter(|flag| LOG_FLAGS.contains(&flag.name));
    let command = command.args(flags.clone().map(|flag| flag.arg(true, true)));
    let names: Vec<String> = command
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |inner| {
            inner.args(flags.clone().map(|flag| flag.arg(false, true)))
        })
    })
}

fn tunnel_command() -> Command {
    let tunnel = Command::new("tunnel")
        .about("Create, run and look after tunnels (compatible with cloudflared)")
        .args(TUNNEL_FLAGS.iter().map(|flag| flag.arg(true, true)))
        .args(RUN_FLAGS.iter().map(|flag| flag.arg(false, true)));
    LEAVES.iter().fold(tunnel, |tunnel, leaf| match leaf.words {
        [group, name] => {
            let missing = tunnel.find_subcommand(group).is_none();
            let group_command = || {
                Command::new(*group)
                    .subcommand_required(true)
                    .arg_required_else_help(true)
            };
            let tunnel = if missing {
                tunnel.subcommand(group_command())
            } else {
                tunnel
            };
            tunnel.mut_subcommand(group, |inner| {
                inner.about(leaf.group_about).subcommand(leaf_command(name, leaf))
            })
        }
        [name] => tunnel.subcommand(leaf_command(name, leaf)),
        _ => tunnel,
    })
}

fn leaf_command(name: &'static str, leaf: &Leaf) -> Command {
    let is_taken = |flag: &Flag| leaf.own.iter().any(|own| own.is_called(flag.name));
    let short_is_taken = |flag: &Flag| leaf.own.iter().any(|own| own.short == flag.short);
    let inherited = TUNNEL_FLAGS
        .iter()
        .filter(|flag| !is_taken(flag))
        .map(|flag| flag.arg(leaf.shows.contains(&flag.name), !short_is_taken(flag)));
    let (names, meaning) = leaf.arguments;
    let arguments = Arg::new(leaf::ARGUMENTS)
        .num_args(0..)
        .value_name(names)
        .help(meaning)
        .hide(names.is_empty());
    Command::new(name)
        .about(leaf.about)
        .args(leaf.own.iter().map(|flag| flag.arg(true, true)))
        .args(inherited)
        .arg(arguments)
        .after_help("Every flag of `adit tunnel` may stand here as well; `adit tunnel --help` lists them.")
}

#[cfg(test)]
mod tests;
