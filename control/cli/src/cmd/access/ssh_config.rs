//! `adit access ssh-config`: the lines of `~/.ssh/config` with which `ssh HOST` goes through `access ssh`.
//!
//! Source: cloudflared `cmd/cloudflared/access/cmd.go`.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::ArgMatches;

use crate::args::access_flags::SSH_CONFIG_FLAGS;
use crate::args::lookup::{Environment, Lookup};
use crate::failure::Failure;
use crate::output;

/// Stands for the hostname where none is given.
const PLACEHOLDER: &str = "[your hostname]";

/// Prints the lines.
pub(super) fn print(matches: &ArgMatches, environment: Environment<'_>) -> Result<(), Failure> {
    let mut flags = Lookup::new(vec![SSH_CONFIG_FLAGS], environment);
    flags.add_level(matches, &[]);
    if flags.switch("short-lived-cert")? == Some(true) {
        let text = "--short-lived-cert needs somebody who issues such certificates, and there is nobody here";
        return Err(Failure::from(anyhow!(text)).next("adit access ssh-config, with keys of your own"));
    }
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let home = environment("HOME").unwrap_or_default();
    let host = flags.text("hostname").filter(|host| !host.is_empty());
    output::print(&lines(&home, host.as_deref().unwrap_or(PLACEHOLDER), &program))
}

fn lines(home: &str, host: &str, program: &Path) -> String {
    format!(
        "\nAdd to your {home}/.ssh/config:\nHost {host}\n  ProxyCommand {} access ssh --hostname %h\n\n",
        program.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_call_this_program_for_each_host() {
        assert_eq!(
            lines("/home/me", "a.test", Path::new("/usr/bin/adit")),
            "\nAdd to your /home/me/.ssh/config:\nHost a.test\n  ProxyCommand /usr/bin/adit access ssh --hostname %h\n\n"
        );
    }
}
