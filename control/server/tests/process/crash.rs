//! Kills at any moment, orderly stops, and two processes on one directory.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::lab::{Control, config, tunnel_body};

#[test]
fn no_acknowledged_write_is_lost_by_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut control = Control::start(dir.path());
    for round in 0..8 {
        // Kills after different times, so that they hit different moments of a write.
        let end = Instant::now() + Duration::from_micros(20_000 + round * 13_337);
        std::thread::scope(|scope| {
            let running = &control;
            let writers: Vec<_> = (0..3)
                .map(|n| scope.spawn(move || write_until(running, end, &format!("t{round}-{n}"))))
                .collect();
            acknowledged.extend(writers.into_iter().flat_map(|writer| writer.join().unwrap()));
        });
        control.kill();
        control = Control::start(dir.path());
        let listed = control
            .call("GET", &control.account_path("/cfd_tunnel?per_page=1000"), None)
            .result();
        let found: BTreeSet<String> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|tunnel| tunnel["name"].as_str().unwrap().into())
            .collect();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
    }
    assert!(
        acknowledged.len() >= 8,
        "too few writes to mean anything: {}",
        acknowledged.len()
    );
}

/// Creates tunnels until the time is up, and leaves one request under way. Returns what was acknowledged.
fn write_until(control: &Control, end: Instant, prefix: &str) -> Vec<String> {
    let (path, token) = (
        control.account_path("/cfd_tunnel"),
        control.cert.api_token.as_str(),
    );
    let mut made = Vec::new();
    while Instant::now() < end {
        let name = format!("{prefix}-{}", made.len());
        control
            .try_call("POST", &path, token, &tunnel_body(&name).to_string())
            .unwrap()
            .result();
        made.push(name);
    }
    let body = tunnel_body(&format!("{prefix}-last")).to_string();
    let mut stream = TcpStream::connect(control.api_address()).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: control\r\nauthorization: Bearer {token}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    made
}

#[test]
fn sigterm_stops_in_order_and_leaves_no_socket_behind() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let state_dir = config(dir.path()).state_dir;
    let mode = |file: &str| state_dir.join(file).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(state_dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for private in ["edge.sock", "store.redb", "ca-key.pem", "cert.pem"] {
        assert_eq!(mode(private), 0o600, "{private}");
    }
    // An idle kept connection must not hold the stop up.
    let _idle = TcpStream::connect(control.api_address()).unwrap();
    let begun = Instant::now();
    assert!(control.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(!state_dir.join("edge.sock").exists() && !state_dir.join("addresses.json").exists());
}

#[test]
fn a_second_control_on_the_same_directory_is_told_who_is_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let error = adit_control::run(config(dir.path()), None).unwrap_err();
    assert!(
        error.to_string().contains("in use by another control process"),
        "{error}"
    );
    control
        .call("GET", &control.account_path("/cfd_tunnel"), None)
        .result();
    assert!(control.dir.join("state/addresses.json").exists());
}
