//! One flag as cloudflared's users know it: spelling, aliases, environment variables and what it takes.
//!
//! Flags are data, so that the same flag can be offered on several levels of the command line and its
//! value looked up over all of them (see `lookup`). Does not parse values: a value stays text until the
//! command that needs it asks for it.

use clap::{Arg, ArgAction};

/// What follows the flag's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true` / `=false`.
    Switch,
    /// One value; the last one given counts.
    Text,
    /// Any number of values, by repetition or separated by commas.
    List,
}

/// A flag with everything needed to offer it and to find its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    /// Long name, without dashes.
    pub(crate) name: &'static str,
    /// Other long names.
    pub(crate) aliases: &'static [&'static str],
    /// One-letter name.
    pub(crate) short: Option<char>,
    /// Environment variables, first one set counts.
    pub(crate) env: &'static [&'static str],
    /// What it takes.
    pub(crate) kind: Kind,
    /// Left out of the help text.
    pub(crate) hidden: bool,
    /// What it stands under in the help text.
    pub(crate) heading: Option<&'static str>,
    /// One line for the help text.
    pub(crate) help: &'static str,
}

impl Flag {
    /// A flag that is on or off.
    pub(crate) const fn switch(name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            aliases: &[],
            short: None,
            env: &[],
            kind: Kind::Switch,
            hidden: false,
            heading: None,
            help,
        }
    }

    /// A flag with one value.
    pub(crate) const fn text(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Text,
            ..Self::switch(name, help)
        }
    }

    /// A flag with any number of values.
    pub(crate) const fn list(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::List,
            ..Self::switch(name, help)
        }
    }

    /// Adds the environment variables it may come from.
    pub(crate) const fn env(self, env: &'static [&'static str]) -> Self {
        Self { env, ..self }
    }

    /// Adds other long names.
    pub(crate) const fn alias(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// Adds a one-letter name.
    pub(crate) const fn short(self, short: char) -> Self {
        Self {
            short: Some(short),
            ..self
        }
    }

    /// Keeps it out of the help text.
    pub(crate) const fn hide(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// Puts it under a heading of the help text.
    pub(crate) const fn under(self, heading: &'static str) -> Self {
        Self {
            heading: Some(heading),
            ..self
        }
    }

    /// Whether `name` is one of its long names.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// The flag as an argument of one command; `shown` is false on levels that accept it only for leniency.
    pub(crate) fn arg(&self, shown: bool, with_short: bool) -> Arg {
        let mut help = self.help.to_owned();
        if let Some(variable) = self.env.first() {
            help.push_str(&format!(" [${variable}]"));
        }
        let arg = Arg::new(self.name)
            .long(self.name)
            .aliases(self.aliases.iter().copied())
            .help(help)
            .help_heading(self.heading)
            .hide(self.hidden || !shown);
        let arg = match self.short {
            Some(short) if with_short => arg.short(short),
            Some(_) | None => arg,
        };
        match self.kind {
            Kind::Switch => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_name("BOOL")
                .hide_possible_values(true)
                .overrides_with(self.name),
            Kind::Text => arg
                .action(ArgAction::Set)
                .allow_hyphen_values(true)
                .value_name("VALUE")
                .overrides_with(self.name),
            Kind::List => arg
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .value_name("VALUE"),
        }
    }
}
