//! The grammar of `adit tail` and `adit management`, compatible with cloudflared's.

use clap::{Arg, ArgMatches, Command};

use super::flag::Flag;
use super::lookup::{Environment, Lookup};
use super::tunnel_flags::TUNNEL_FLAGS;

/// The parser's name for the arguments that are not flags.
pub(crate) const ARGUMENTS: &str = "arguments";

/// What `tail` takes of its own.
pub(crate) const TAIL_FLAGS: &[Flag] = &[
    Flag::text("connector-id", "Only this replica, for tunnels with several")
        .env(&["TUNNEL_MANAGEMENT_CONNECTOR"]),
    Flag::list(
        "event",
        "Only these events: cloudflared, http, tcp, udp; all by default",
    )
    .env(&["TUNNEL_MANAGEMENT_FILTER_EVENTS"]),
    Flag::text(
        "level",
        "Only lines of this level or a more severe one: debug (default), info, warn or error",
    )
    .env(&["TUNNEL_MANAGEMENT_FILTER_LEVEL"]),
    Flag::text("sample", "Part of the lines, from 0.0 to 1.0; 1.0 by default")
        .env(&["TUNNEL_MANAGEMENT_FILTER_SAMPLE"]),
    Flag::text("token", "Access token, made by 'tail token'").env(&["TUNNEL_MANAGEMENT_TOKEN"]),
    Flag::text(
        "management-hostname",
        "Hostname of the management service at the edge",
    )
    .env(&["TUNNEL_MANAGEMENT_HOSTNAME"]),
    Flag::text("connect-to", "Connect to this HOST[:PORT] instead (Adit only)"),
    Flag::text("trace", "Accepted for compatibility").hide(),
    Flag::text("output", "Form of the lines: default or json")
        .env(&["TUNNEL_MANAGEMENT_OUTPUT", "TUNNEL_LOG_OUTPUT"]),
];

/// What `management token` takes of its own.
const TOKEN_FLAGS: &[Flag] = &[Flag::text(
    "resource",
    "What the token opens: logs, admin or host_details",
)];

/// Flags of `tunnel` that these commands know as well.
const SHARED: &[&str] = &[
    "origincert",
    "api-url",
    "cacert",
    "config",
    "loglevel",
    "transport-loglevel",
    "logfile",
    "log-directory",
];

/// `adit tail`.
pub(crate) fn tail_command() -> Command {
    let token = with_flags(
        Command::new("token").about("Print a token for the logs of a tunnel"),
        &[],
    )
    .arg(
        Arg::new(ARGUMENTS)
            .num_args(0..)
            .value_name("TUNNEL")
            .help("Name or id of the tunnel"),
    );
    with_flags(
        Command::new("tail").about("Stream the log of a running connector (compatible with cloudflared)"),
        TAIL_FLAGS,
    )
    .args_conflicts_with_subcommands(false)
    .arg(
        Arg::new(ARGUMENTS)
            .num_args(0..)
            .value_name("TUNNEL")
            .help("Name or id of the tunnel"),
    )
    .subcommand(token)
}

/// `adit management`.
pub(crate) fn management_command() -> Command {
    let token = with_flags(
        Command::new("token").about("Print a token for the management service of a tunnel"),
        TOKEN_FLAGS,
    )
    .arg(
        Arg::new(ARGUMENTS)
            .num_args(0..)
            .value_name("TUNNEL")
            .help("Name or id of the tunnel"),
    );
    Command::new("management")
        .about("Reach the management service of connectors")
        .hide(true)
        .subcommand_required(true)
        .subcommand(token)
}

/// The flags as they were given, the innermost command last.
pub(crate) fn view<'a>(levels: &[&'a ArgMatches], environment: Environment<'a>) -> Lookup<'a> {
    let mut view = Lookup::new(vec![TAIL_FLAGS, TOKEN_FLAGS, TUNNEL_FLAGS], environment);
    for level in levels {
        view.add_level(level, &[]);
    }
    view
}

fn with_flags(command: Command, own: &[Flag]) -> Command {
    let shared = TUNNEL_FLAGS.iter().filter(|flag| SHARED.contains(&flag.name));
    command
        .args(own.iter().map(|flag| flag.arg(true, true)))
        .args(shared.map(|flag| flag.arg(true, true)))
}
