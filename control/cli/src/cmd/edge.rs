//! `adit edge`: runs an edge, or checks its configuration.

use std::path::PathBuf;

use adit_driver::core::CORES_MAX;
use adit_driver::cpus::Cpus;
use adit_driver::kernel::IoChoice;
use adit_edge::Config;
use anyhow::Context as _;

use crate::failure::Failure;
use crate::output;

/// Runs an edge: the gateway that visitors and connectors reach.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Path of edge.yml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and exit.
    #[arg(long)]
    check: bool,
    /// Cores to use; all by default, or one for each of --cpus.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=CORES_MAX as i64))]
    cores: Option<u16>,
    /// CPUs to pin them to, such as 0-3,8; the first ones by default.
    #[arg(long, value_name = "LIST")]
    cpus: Option<Cpus>,
    /// How the kernel is asked: auto, uring or portable.
    #[arg(long, value_name = "MODE")]
    io: Option<IoChoice>,
}

/// Runs an edge until a signal stops it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut config = Config::load(&arguments.config).context("cannot use the configuration of the edge")?;
    config.cores = arguments.cores.map(usize::from).or(config.cores);
    config.cpus = arguments.cpus.clone().or(config.cpus);
    config.io = arguments.io.unwrap_or(config.io);
    if arguments.check {
        config
            .check()
            .context("cannot use the configuration of the edge")?;
        return output::print("OK\n");
    }
    Ok(adit_edge::run(config).context("the edge stopped")?)
}
