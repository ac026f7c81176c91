//! A whole connector against an edge of a few lines over HTTP/2, in both I/O modes. The edge is the client on
//! the connection that the connector has dialled.
//!
//! A process of its own, because the connector is stopped by a signal to the process.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![expect(clippy::print_stdout, reason = "a skipped mode is named")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use adit_connector::{Config, Flags, LiveLog};
use nix::sys::signal::{Signal, raise};
use tokio::task::LocalSet;

#[path = "tunnel/edge_http2.rs"]
mod edge;
#[path = "tunnel/origin.rs"]
mod origin;
#[path = "tunnel/registrar.rs"]
mod registrar;
#[path = "tunnel/setup.rs"]
mod setup;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_connector_serves_its_rules_over_http2_until_it_is_told_to_stop() {
    for (choice, mode) in setup::modes() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = edge::Certificate::new();
        std::fs::write(dir.path().join("ca.pem"), &certificate.pem).unwrap();
        setup::write_config(dir.path());
        let (told, steps) = mpsc::channel();
        let edge = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let serving = async { tokio::time::timeout(DEADLINE, edge::serve(certificate, told)).await };
            LocalSet::new().block_on(&runtime, serving).expect("in time");
        });
        let Ok(edge::Step::Listening(address)) = steps.recv_timeout(DEADLINE) else {
            panic!("the edge does not listen");
        };
        let flags = Flags {
            protocol: Some("http2".to_owned()),
            post_quantum: Some(true),
            edge_bind_address: Some(edge::BIND.into()),
            ..setup::flags(dir.path(), address, choice)
        };
        let config = Config::resolve(flags).unwrap();
        let connector = thread::spawn(move || adit_connector::run(config, LiveLog::default()));
        match steps.recv_timeout(DEADLINE) {
            Ok(edge::Step::Served) => raise(Signal::SIGTERM).unwrap(),
            other => panic!("{mode}: the connector did not serve: {other:?}"),
        }
        connector.join().unwrap().unwrap();
        edge.join().unwrap();
    }
}
