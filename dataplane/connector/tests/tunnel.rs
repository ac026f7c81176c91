//! A whole connector against an edge of a few lines, in both I/O modes: it registers, serves what its rules
//! say, takes a pushed configuration, and leaves without losing anything when it is told to.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![expect(clippy::print_stdout, reason = "a skipped mode is named")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use adit_connector::{Config, Flags};
use adit_driver::core::Cores;
use adit_driver::kernel::{IoChoice, IoMode, probe};
use adit_wire::TunnelSecret;
use adit_wire::credentials::Credentials;
use nix::sys::signal::{Signal, raise};

#[path = "tunnel/edge.rs"]
mod edge;
#[path = "tunnel/origin.rs"]
mod origin;

const DEADLINE: Duration = Duration::from_secs(60);

/// One test, because the connector is stopped by a signal to the process.
#[test]
fn a_connector_serves_its_rules_until_it_is_told_to_stop() {
    for (choice, mode) in modes() {
        let dir = tempfile::tempdir().unwrap();
        let edge = edge::Certificate::new();
        std::fs::write(dir.path().join("ca.pem"), &edge.pem).unwrap();
        write_config(dir.path());
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
        let config = Config::resolve(flags(dir.path(), address, choice)).unwrap();
        let connector = thread::spawn(move || adit_connector::run(config));
        match steps.recv_timeout(DEADLINE) {
            Ok(edge::Step::Served) => raise(Signal::SIGTERM).unwrap(),
            other => panic!("{mode}: the connector did not serve: {other:?}"),
        }
        connector.join().unwrap().unwrap();
        cores.wait().unwrap();
    }
}

fn modes() -> Vec<(IoChoice, IoMode)> {
    let mut modes = vec![(IoChoice::Portable, IoMode::Portable)];
    match probe(IoChoice::Uring) {
        Ok(_) => modes.push((IoChoice::Uring, IoMode::Uring)),
        Err(error) => println!("skipped: io_uring mode: {error}"),
    }
    modes
}

/// Starts the origins and writes rules for them.
fn write_config(dir: &Path) {
    let plain = origin::start();
    let (tls, certificate) = origin::start_tls();
    let tls_name = origin::TLS_NAME;
    let ca_pool = dir.join("origin.pem");
    std::fs::write(&ca_pool, certificate).unwrap();
    let socket = dir.join("origin.sock");
    origin::start_unix(&socket);
    // Bound, so that nobody else gets the port, and never listening.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nobody
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let down = nobody.local_addr().unwrap().as_socket().unwrap();
    let text = format!(
        "ingress:\n\
         - hostname: app.test\n  service: http://{plain}\n\
         - hostname: internal.test\n  service: http://{plain}\n\
         \x20 originRequest: {{httpHostHeader: inside}}\n\
         - hostname: down.test\n  service: http://{down}\n\
         - hostname: unix.test\n  service: unix:{}\n\
         - hostname: trusting.test\n  service: https://{tls}\n\
         \x20 originRequest: {{noTLSVerify: true}}\n\
         - hostname: pooled.test\n  service: https://{tls}\n\
         \x20 originRequest: {{caPool: {}, originServerName: {tls_name}}}\n\
         - hostname: strict.test\n  service: https://{tls}\n\
         - hostname: hello.test\n  service: hello_world\n\
         - service: http_status:404\n",
        socket.display(),
        ca_pool.display(),
    );
    std::fs::write(dir.join("config.yml"), text).unwrap();
}

fn flags(dir: &Path, edge: SocketAddr, io: IoChoice) -> Flags {
    let credentials = Credentials {
        account_tag: edge::ACCOUNT.parse().unwrap(),
        secret: TunnelSecret::new(edge::SECRET),
        tunnel_id: Some(edge::TUNNEL.parse().unwrap()),
        endpoint: String::new(),
    };
    Flags {
        tunnel: Some(edge::TUNNEL.to_owned()),
        config: Some(dir.join("config.yml")),
        credentials_contents: Some(credentials.to_json()),
        edge: vec![edge.to_string()],
        cacert: Some(dir.join("ca.pem")),
        metrics: Some("127.0.0.1:0".to_owned()),
        addresses_file: Some(dir.join("addresses.json")),
        grace_period: Some(Duration::from_secs(10)),
        io: Some(io),
        cores: Some(1),
        ..Flags::default()
    }
}
