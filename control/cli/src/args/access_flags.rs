//! The grammar of `adit access`, compatible with cloudflared's.

use clap::{Arg, ArgMatches, Command};

use super::flag::Flag;
use super::lookup::{Environment, Lookup};
use super::tunnel_flags::TUNNEL_FLAGS;

/// The parser's name for the arguments that are not flags.
pub(crate) const ARGUMENTS: &str = "arguments";

/// The command that prints a configuration of ssh.
pub(crate) const SSH_CONFIG: &str = "ssh-config";

/// What `access tcp` takes besides the log flags.
pub(crate) const TCP_FLAGS: &[Flag] = &[
    Flag::text(
        "hostname",
        "Hostname of the service, with a port unless it is 443",
    )
    .alias(&["tunnel-host"])
    .short('T')
    .env(&["TUNNEL_SERVICE_HOSTNAME"]),
    Flag::text(
        "url",
        "Address HOST:PORT to listen on; standard input and output without it",
    )
    .alias(&["listener"])
    .short('L')
    .env(&["TUNNEL_SERVICE_URL"]),
    Flag::text("destination", "Where a bastion shall go, HOST:PORT").env(&["TUNNEL_SERVICE_DESTINATION"]),
    Flag::list("header", "Header sent with the request, 'Name: value'").short('H'),
    Flag::text("service-token-id", "Sent as Cf-Access-Client-Id")
        .alias(&["id"])
        .env(&["TUNNEL_SERVICE_TOKEN_ID"]),
    Flag::text("service-token-secret", "Sent as Cf-Access-Client-Secret")
        .alias(&["secret"])
        .env(&["TUNNEL_SERVICE_TOKEN_SECRET"]),
    Flag::text("cacert", "Certificates to trust besides the system's (Adit only)"),
    Flag::text("connect-to", "Connect to this HOST[:PORT] instead").hide(),
];

/// What `access ssh-config` takes.
pub(crate) const SSH_CONFIG_FLAGS: &[Flag] = &[
    Flag::text("hostname", "Hostname of the service"),
    Flag::switch("short-lived-cert", "Not here: nobody issues such certificates").hide(),
];

/// `adit access tcp` and its aliases, and `ssh-config`; `log_flags` are added to them.
pub(crate) fn command(log_flags: &[&str]) -> Command {
    let log = TUNNEL_FLAGS.iter().filter(|flag| log_flags.contains(&flag.name));
    let tcp = Command::new("tcp")
        .aliases(["ssh", "rdp", "smb"])
        .about("Reach a TCP service behind a tunnel (also as ssh, rdp, smb)")
        .args(TCP_FLAGS.iter().map(|flag| flag.arg(true, true)))
        .args(log.map(|flag| flag.arg(true, true)))
        .arg(
            Arg::new(ARGUMENTS)
                .num_args(0..=1)
                .value_name("URL")
                .help("Address to listen on, in place of --url"),
        );
    Command::new("access")
        .alias("forward")
        .about("Reach what tunnels serve (compatible with cloudflared)")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(tcp)
        .subcommand(
            Command::new(SSH_CONFIG)
                .about("Print what ~/.ssh/config needs to reach a host through `access ssh`")
                .args(SSH_CONFIG_FLAGS.iter().map(|flag| flag.arg(true, true))),
        )
}

/// The flags of `access tcp` as they were given.
pub(crate) fn view<'a>(tcp: &'a ArgMatches, environment: Environment<'a>) -> Lookup<'a> {
    let mut view = Lookup::new(vec![TCP_FLAGS], environment);
    view.add_level(tcp, &[]);
    view
}
