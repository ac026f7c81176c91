//! `adit tunnel …`: chooses among the commands below it.
//!
//! All but `run`, `ingress`, `ready` and `diag` speak the control API. Only `run`, and `tunnel` without a
//! command, keep running.

mod ad_hoc;
pub(super) mod config_file;
pub(crate) mod create;
mod credentials;
mod delete;
mod diag;
mod info;
mod ingress;
mod list;
mod quick;
mod ready;
pub(super) mod resolve;
mod route;
mod bulk;
mod run;
mod search;
pub(super) mod api_access;
mod token;
mod view;

use clap::ArgMatches;

use super::block_on;
use crate::args::leaf::{Action, Chosen};
use crate::args::lookup::Environment;
use crate::failure::Failure;
use crate::log;

use self::api_access::ApiAccess;
use self::config_file::ConfigFile;

/// Runs the chosen command.
pub(crate) fn run(
    root: &ArgMatches,
    tunnel: &ArgMatches,
    environment: Environment<'_>,
) -> Result<(), Failure> {
    let Some(chosen) = Chosen::find(root, tunnel, environment)? else {
        let text =
            "\"adit tunnel\" needs a command: create, route dns and run make a tunnel serve a hostname.";
        return Err(Failure::arguments("tunnel", text));
    };
    let file = match chosen.leaf.action {
        // These must work beside a broken file: the one asks a running process, the others explain the file.
        Action::Ready | Action::Diag | Action::IngressValidate | Action::IngressRule => ConfigFile::default(),
        Action::AdHoc
        | Action::Run
        | Action::Create
        | Action::List
        | Action::Info
        | Action::Token
        | Action::Delete
        | Action::Cleanup
        | Action::RouteDns
        | Action::RouteBulk => ConfigFile::find(&chosen.tunnel)?,
    };
    let log = log::Options::read(|name| match chosen.tunnel.text(name) {
        Some(text) => Ok(Some(text)),
        None => file.text(name),
    })?;
    if matches!(chosen.leaf.action, Action::Run | Action::AdHoc) {
        log.install_for_connector()?;
    } else {
        log.install()?;
    }
    let access = || ApiAccess::open(&chosen.tunnel, &file);
    match chosen.leaf.action {
        Action::AdHoc => ad_hoc::make_and_run(&chosen, &file),
        Action::Run => run::run(&chosen, &file),
        Action::IngressValidate => ingress::validate(&chosen),
        Action::IngressRule => ingress::rule(&chosen),
        Action::Ready => block_on(ready::run(&chosen)),
        Action::Diag => block_on(diag::run(&chosen)),
        Action::Create => block_on(create::run(&chosen, &access()?)),
        Action::List => block_on(list::run(&chosen, &access()?)),
        Action::Info => block_on(info::run(&chosen, &access()?)),
        Action::Token => block_on(token::run(&chosen, &access()?)),
        Action::Delete => block_on(delete::delete(&chosen, &access()?)),
        Action::Cleanup => block_on(delete::cleanup(&chosen, &access()?)),
        Action::RouteDns => block_on(route::dns(&chosen, &access()?)),
        Action::RouteBulk => block_on(bulk::run(&chosen, &access()?)),
    }
}
