//! A stock cloudflared, unmodified, against our edge and our control.
//!
//! Runs when `CLOUDFLARED_BIN` names the executable; each test says that it was skipped otherwise.
//! `ADIT_BULK_MIB` sets the size of the big bodies.

mod requests;
mod streams;
mod tcp;
mod restarts;
mod tool;

use std::path::PathBuf;

use adit_tests::binary;
use adit_tests::site::Site;
use adit_tests::site::connector::{Connector, Program};
use adit_tests::site::control::Tunnel;

/// The stock executable, or a line that says why `test` is skipped.
fn stock(test: &str) -> Option<PathBuf> {
    let found = binary::cloudflared();
    if found.is_none() {
        binary::skipped(test, "CLOUDFLARED_BIN names no cloudflared");
    }
    found
}

/// Starts the stock connector for `tunnel` and waits until it serves everything from `service`.
fn serve(stock: PathBuf, site: &Site, tunnel: &Tunnel, service: &str) -> Connector {
    let connector = site
        .connector_of(Program::Stock(stock), tunnel)
        .service(service)
        .start();
    connector.wait_connections(4);
    site.wait_served();
    connector
}
