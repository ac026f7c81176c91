//! A whole connector against an edge of a few lines, in both I/O modes: it registers, serves what its rules
//! say, takes a pushed configuration, and leaves without losing anything when it is told to.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![expect(clippy::print_stdout, reason = "a skipped mode is named")]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use adit_connector::{Config, LiveLog};
use adit_driver::core::Cores;
use nix::sys::signal::{Signal, raise};

#[path = "tunnel/edge.rs"]
mod edge;
#[path = "tunnel/origin.rs"]
mod origin;
#[path = "tunnel/registrar.rs"]
mod registrar;
#[path = "tunnel/setup.rs"]
mod setup;

const DEADLINE: Duration = Duration::from_secs(60);

/// One test, because the connector is stopped by a signal to the process.
#[test]
fn a_connector_serves_its_rules_until_it_is_told_to_stop() {
    for (choice, mode) in setup::modes() {
        let dir = tempfile::tempdir().unwrap();
        let edge = edge::Certificate::new();
        std::fs::write(dir.path().join("ca.pem"), &edge.pem).unwrap();
        setup::write_config(dir.path());
        let (told, steps) = mpsc::channel();
        let server = edge.server.clone();
        let cores = Cores::spawn(1, mode, "edge", move |context| {
            let (server, told) = (server.clone(), told.clone());
            async move {
                let served = edge::serve(context, server, told);
                tokio::time::timeout(DEADLINE, served).await.expect("in time");
            }
        })
        .unwrap();
        let Ok(edge::Step::Listening(address)) = steps.recv_timeout(DEADLINE) else {
            panic!("the edge does not listen");
        };
        let config = Config::resolve(setup::flags(dir.path(), address, choice)).unwrap();
        let connector = thread::spawn(move || adit_connector::run(config, LiveLog::default()));
        match steps.recv_timeout(DEADLINE) {
            Ok(edge::Step::Served) => raise(Signal::SIGTERM).unwrap(),
            other => panic!("{mode}: the connector did not serve: {other:?}"),
        }
        connector.join().unwrap().unwrap();
        cores.wait().unwrap();
    }
}
