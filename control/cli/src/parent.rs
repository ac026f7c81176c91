//! Ties a child of `adit up` to its parent: when the parent dies, by whatever means, so does the child.

use anyhow::{Context as _, anyhow};
use clap::ArgMatches;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use crate::failure::Failure;

/// The flag that names the parent.
pub(crate) const FLAG: &str = "parent-pid";

/// Asks the kernel to kill this process when the one named by [`FLAG`] dies.
pub(crate) fn die_together(matches: &ArgMatches) -> Result<(), Failure> {
    let Some(parent) = matches.get_one::<i32>(FLAG) else {
        return Ok(());
    };
    set_pdeathsig(Signal::SIGKILL).context("cannot ask to end with the parent process")?;
    // Between our start and the request the parent may have died: nobody would tell us any more.
    if getppid() == Pid::from_raw(*parent) {
        Ok(())
    } else {
        Err(anyhow!("the parent process has ended").into())
    }
}
