//! What both tests of a whole connector start from: the modes, the rules and their origins, the flags.

use std::net::SocketAddr;
use std::path::Path;

use adit_connector::Flags;
use adit_driver::kernel::{IoChoice, IoMode, probe};
use adit_wire::TunnelSecret;
use adit_wire::credentials::Credentials;

use crate::{origin, registrar};

pub(crate) fn modes() -> Vec<(IoChoice, IoMode)> {
    let mut modes = vec![(IoChoice::Portable, IoMode::Portable)];
    match probe(IoChoice::Uring) {
        Ok(_) => modes.push((IoChoice::Uring, IoMode::Uring)),
        Err(error) => println!("skipped: io_uring mode: {error}"),
    }
    modes
}

/// Starts the origins and writes rules for them.
pub(crate) fn write_config(dir: &Path) {
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
        "warp-routing: {{enabled: true, also-allow: [127.0.0.1]}}\ningress:\n\
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

pub(crate) fn flags(dir: &Path, edge: SocketAddr, io: IoChoice) -> Flags {
    let credentials = Credentials {
        account_tag: registrar::ACCOUNT.parse().unwrap(),
        secret: TunnelSecret::new(registrar::SECRET),
        tunnel_id: Some(registrar::TUNNEL.parse().unwrap()),
        endpoint: String::new(),
    };
    Flags {
        tunnel: Some(registrar::TUNNEL.to_owned()),
        config: Some(dir.join("config.yml")),
        credentials_contents: Some(credentials.to_json()),
        edge: vec![edge.to_string()],
        cacert: Some(dir.join("ca.pem")),
        metrics: Some("127.0.0.1:0".to_owned()),
        addresses_file: Some(dir.join("addresses.json")),
        grace_period: Some(std::time::Duration::from_secs(10)),
        io: Some(io),
        cores: Some(1),
        ..Flags::default()
    }
}
