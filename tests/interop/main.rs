//! A stock cloudflared, unmodified, against our edge and our control.
//!
//! Runs when `CLOUDFLARED_BIN` names the executable; each test says that it was skipped otherwise.
//! `ADIT_BULK_MIB` sets the size of the big bodies.

mod requests;
mod streams;
mod slow;
mod grpc;
mod tcp;
mod restarts;
mod replicas;
mod tool;
mod invocations;
mod quick;
mod tail;
mod shared_port;
mod upgrades;
mod interim;

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

/// How the stock connector reaches the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Quic,
    Http2,
}

impl Over {
    /// The flags of `tunnel run` for it.
    fn flags(self) -> [&'static str; 2] {
        match self {
            Self::Quic => ["--protocol", "quic"],
            Self::Http2 => ["--protocol", "http2"],
        }
    }
}

/// Makes tests that run each story over both transports and in both I/O modes.
macro_rules! over_both {
    ($($story:ident),+ $(,)?) => {$(
        mod $story {
            pub(super) mod over_quic {
                pub(super) fn story(io: adit_tests::binary::IoMode) {
                    super::super::$story(io, crate::Over::Quic);
                }
                adit_tests::in_both_modes!(story);
            }
            pub(super) mod over_http2 {
                pub(super) fn story(io: adit_tests::binary::IoMode) {
                    super::super::$story(io, crate::Over::Http2);
                }
                adit_tests::in_both_modes!(story);
            }
        }
    )+};
}
use over_both;

/// Starts the stock connector for `tunnel` and waits until it serves everything from `service`.
fn serve(stock: PathBuf, site: &Site, tunnel: &Tunnel, service: &str, over: Over) -> Connector {
    let connector = site
        .connector_of(Program::Stock(stock), tunnel)
        .run_flags(over.flags())
        .service(service)
        .start();
    connector.wait_connections(4);
    site.wait_served();
    connector
}
