//! The commands below `tunnel`: words, arguments, their own flags, and how many arguments each wants.
//!
//! Argument counts are checked here and not by the parser, because cloudflared ends with status 255 and its
//! own text when they are wrong.

use clap::ArgMatches;

use super::flag::Flag;
use super::lookup::{Environment, Lookup};
use super::tunnel_flags::{
    CLEANUP_FLAGS, CREATE_FLAGS, DELETE_FLAGS, DIAG_FLAGS, INFO_FLAGS, INGRESS_FLAGS, LIST_FLAGS, RUN_FLAGS,
    TUNNEL_FLAGS,
};
use crate::failure::Failure;

/// The parser's name for the arguments that are not flags.
pub(crate) const ARGUMENTS: &str = "arguments";

/// What a command below `tunnel` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// `tunnel` without a command: a quick tunnel, or an ad hoc one that is created, routed and run.
    AdHoc,
    Run,
    Create,
    List,
    Info,
    Token,
    Delete,
    Cleanup,
    RouteDns,
    RouteBulk,
    IngressValidate,
    IngressRule,
    Ready,
    Diag,
}

/// One command below `tunnel`.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// `[]` for `tunnel` itself, `["create"]` or `["route", "dns"]`.
    pub(crate) words: &'static [&'static str],
    /// What it does.
    pub(crate) action: Action,
    /// Its line in the help text.
    pub(crate) about: &'static str,
    /// The help line of the first word, when there are two.
    pub(crate) group_about: &'static str,
    /// Its arguments in the help text, and what they mean.
    pub(crate) arguments: (&'static str, &'static str),
    /// How many arguments it wants.
    pub(crate) counts: Counts,
    /// Flags of its own.
    pub(crate) own: &'static [Flag],
    /// Tunnel flags that its help text shows.
    pub(crate) shows: &'static [&'static str],
}

/// Tunnel flags that say how the control API is reached.
const API: &[&str] = &["origincert", "api-url"];

const MANY: usize = usize::MAX;

/// Any number, of which the command looks at what it needs, as cloudflared's do.
const IGNORED: Counts = (0..=MANY, "takes any arguments.");

/// How many arguments a command wants, and how that is said when it is not so.
type Counts = (std::ops::RangeInclusive<usize>, &'static str);

/// Every command below `tunnel`.
pub(crate) const LEAVES: &[Leaf] = &[
    Leaf {
        words: &[],
        action: Action::AdHoc,
        about: "",
        group_about: "",
        arguments: ("", ""),
        counts: (0..=0, "does not accept arguments."),
        own: &[],
        shows: &[],
    },
    Leaf {
        words: &["run"],
        action: Action::Run,
        about: "Run a tunnel: connect to the edge and serve",
        group_about: "",
        arguments: ("TUNNEL", "Name or id of the tunnel; none with a token"),
        counts: (
            0..=1,
            "accepts only one argument, the ID or name of the tunnel to run.",
        ),
        own: RUN_FLAGS,
        shows: &[
            "config",
            "credentials-file",
            "url",
            "hello-world",
            "edge",
            "cacert",
            "protocol",
            "edge-proxy",
            "metrics",
            "grace-period",
            "idle-ping-interval",
            "config-watch",
            "io",
            "cores",
            "cpus",
        ],
    },
    Leaf {
        words: &["create"],
        action: Action::Create,
        about: "Create a tunnel and write its credentials file",
        group_about: "",
        arguments: ("NAME", "Name of the new tunnel"),
        counts: (
            1..=1,
            "requires exactly 1 argument, the name of tunnel to create.",
        ),
        own: CREATE_FLAGS,
        shows: &["origincert", "api-url", "credentials-file"],
    },
    Leaf {
        words: &["list"],
        action: Action::List,
        about: "List tunnels",
        group_about: "",
        arguments: ("", ""),
        counts: IGNORED,
        own: LIST_FLAGS,
        shows: API,
    },
    Leaf {
        words: &["info"],
        action: Action::Info,
        about: "Show a tunnel's connectors",
        group_about: "",
        arguments: ("TUNNEL", "Name or id of the tunnel"),
        counts: (
            1..=1,
            "accepts exactly one argument, the ID or name of the tunnel to get info about.",
        ),
        own: INFO_FLAGS,
        shows: API,
    },
    Leaf {
        words: &["token"],
        action: Action::Token,
        about: "Print a tunnel's token",
        group_about: "",
        arguments: ("TUNNEL", "Name or id of the tunnel"),
        counts: (
            1..=1,
            "requires exactly 1 argument, the name or UUID of tunnel to fetch the credentials token for.",
        ),
        own: &[],
        shows: &["origincert", "api-url", "credentials-file"],
    },
    Leaf {
        words: &["delete"],
        action: Action::Delete,
        about: "Delete tunnels",
        group_about: "",
        arguments: ("TUNNEL", "Names or ids of the tunnels"),
        counts: (
            1..=MANY,
            "requires at least 1 argument, the ID or name of the tunnel to delete.",
        ),
        own: DELETE_FLAGS,
        shows: &["origincert", "api-url", "credentials-file"],
    },
    Leaf {
        words: &["cleanup"],
        action: Action::Cleanup,
        about: "Disconnect a tunnel's connectors",
        group_about: "",
        arguments: ("TUNNEL", "Names or ids of the tunnels"),
        counts: (
            1..=MANY,
            "requires at least 1 argument, the IDs of the tunnels to cleanup connections.",
        ),
        own: CLEANUP_FLAGS,
        shows: API,
    },
    Leaf {
        words: &["route", "dns"],
        action: Action::RouteDns,
        about: "Route a hostname to a tunnel",
        group_about: "Choose which tunnel serves a hostname",
        arguments: (
            "TUNNEL HOSTNAME",
            "Name or id of the tunnel, and a hostname or *.example.com",
        ),
        counts: (
            2..=2,
            "expects the format \"adit tunnel route dns <tunnel name/id> <hostname>\"",
        ),
        own: &[],
        shows: &["origincert", "api-url", "overwrite-dns"],
    },
    Leaf {
        words: &["route", "bulk"],
        action: Action::RouteBulk,
        about: "Route the hostnames of a file to a tunnel",
        group_about: "Choose which tunnel serves a hostname",
        arguments: (
            "TUNNEL FILE",
            "Name or id of the tunnel, and a file with a hostname on each line; - for standard input",
        ),
        counts: (
            2..=2,
            "expects the format \"adit tunnel route bulk <tunnel name/id> <file>\"",
        ),
        own: &[],
        shows: &["origincert", "api-url", "overwrite-dns"],
    },
    Leaf {
        words: &["ingress", "validate"],
        action: Action::IngressValidate,
        about: "Check the ingress rules of the configuration file",
        group_about: "Check ingress rules",
        arguments: ("", ""),
        counts: IGNORED,
        own: INGRESS_FLAGS,
        shows: &["config"],
    },
    Leaf {
        words: &["ingress", "rule"],
        action: Action::IngressRule,
        about: "Show which ingress rule matches a URL",
        group_about: "Check ingress rules",
        arguments: ("URL", "What a visitor would ask for"),
        counts: IGNORED,
        own: INGRESS_FLAGS,
        shows: &["config"],
    },
    Leaf {
        words: &["ready"],
        action: Action::Ready,
        about: "Ask a running connector whether it is connected (needs --metrics)",
        group_about: "",
        arguments: ("", ""),
        counts: IGNORED,
        own: &[],
        shows: &["metrics"],
    },
    Leaf {
        words: &["diag"],
        action: Action::Diag,
        about: "Collect what a running connector of this machine tells of itself into a zip file",
        group_about: "",
        arguments: ("", ""),
        counts: IGNORED,
        own: DIAG_FLAGS,
        shows: &[],
    },
];

/// A chosen command with what the command line and the environment gave it.
pub(crate) struct Chosen<'a> {
    /// Which one.
    pub(crate) leaf: &'static Leaf,
    /// Its arguments, of a right number.
    pub(crate) arguments: Vec<String>,
    /// The tunnel's flags.
    pub(crate) tunnel: Lookup<'a>,
    /// The command's own flags.
    pub(crate) own: Lookup<'a>,
}

impl<'a> Chosen<'a> {
    /// Finds what was chosen below `tunnel`; `Ok(None)` for a group of commands without one of them.
    pub(crate) fn find(
        root: &'a ArgMatches,
        tunnel: &'a ArgMatches,
        environment: Environment<'a>,
    ) -> Result<Option<Self>, Failure> {
        let mut words = Vec::new();
        let mut innermost = tunnel;
        while let Some((name, matches)) = innermost.subcommand() {
            words.push(name);
            innermost = matches;
        }
        let Some(leaf) = LEAVES.iter().find(|leaf| leaf.words == words) else {
            return Ok(None);
        };
        // `tunnel` itself knows no arguments.
        let arguments = innermost.try_get_many::<String>(ARGUMENTS).ok().flatten();
        let arguments: Vec<String> = arguments.into_iter().flatten().cloned().collect();
        let (counts, complaint) = &leaf.counts;
        if !counts.contains(&arguments.len()) {
            let command = leaf.command();
            let subject = if matches!(leaf.action, Action::RouteDns | Action::RouteBulk) {
                "This command".to_owned()
            } else {
                format!("\"adit {command}\"")
            };
            return Err(Failure::arguments(&command, format!("{subject} {complaint}")));
        }
        let hiding = if leaf.action == Action::Run { &[] } else { leaf.own };
        let mut view = Lookup::new(vec![TUNNEL_FLAGS, RUN_FLAGS], environment);
        view.add_level(root, &[]);
        view.add_level(tunnel, &[]);
        view.add_level(innermost, hiding);
        // A flag before the command counts as the command's own where the names are the same:
        // `tunnel --output json list` lists JSON, as with cloudflared.
        let mut own = Lookup::new(vec![leaf.own], environment);
        own.add_level(root, &[]);
        own.add_level(tunnel, &[]);
        own.add_level(innermost, &[]);
        Ok(Some(Self {
            leaf,
            arguments,
            tunnel: view,
            own,
        }))
    }

    /// The argument at `index`; the count was checked, so a missing one reads as empty.
    pub(crate) fn argument(&self, index: usize) -> &str {
        self.arguments.get(index).map_or("", String::as_str)
    }
}

impl Leaf {
    /// `tunnel route dns`.
    pub(crate) fn command(&self) -> String {
        ["tunnel"]
            .iter()
            .chain(self.words)
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
    }
}
