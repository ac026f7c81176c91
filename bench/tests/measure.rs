//! The real binary measures its own origin.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_adit-bench");

/// An origin that ends with the test.
struct Origin {
    process: Child,
    url: String,
}

impl Origin {
    fn start() -> Self {
        let mut command = Command::new(BENCH);
        command
            .args(["origin", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped());
        let mut process = command.spawn().expect("the binary starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output is piped"))
            .read_line(&mut line)
            .expect("it prints a line");
        let url = line
            .trim()
            .strip_prefix("listening on ")
            .expect("the line tells the address")
            .to_owned();
        Self { process, url }
    }

    fn pid(&self) -> String {
        format!("origin={}", self.process.id())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }
}

fn measure(arguments: &[&str]) -> Value {
    let output = Command::new(BENCH)
        .args(arguments)
        .output()
        .expect("the binary runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn every_due_request_is_answered_and_every_process_is_reported() {
    let origin = Origin::start();
    let (url, pid) = (format!("{}/", origin.url), origin.pid());
    let report = measure(&[
        "load",
        &url,
        "--rate",
        "500",
        "--duration",
        "500ms",
        "--pid",
        &pid,
        "--json",
    ]);
    assert_eq!(report["due"], 250);
    assert_eq!(report["statuses"]["200"], 250);
    assert!(report["latency_us"]["p50"].as_u64().unwrap() > 0);
    assert_eq!(report["processes"][0]["name"], "origin");
    assert_eq!(report["processes"][1]["name"], "adit-bench");
}

#[test]
fn bulk_moves_every_byte_each_way() {
    let origin = Origin::start();
    let report = measure(&[
        "bulk",
        &origin.url,
        "--download",
        "5M",
        "--upload",
        "5M",
        "--parallel",
        "2",
        "--json",
    ]);
    assert_eq!(report[0]["direction"], "download");
    assert_eq!(report[0]["bytes"], 10_000_000);
    assert_eq!(report[1]["direction"], "upload");
    assert_eq!(report[1]["bytes"], 10_000_000);
}

#[test]
fn a_run_without_answers_is_a_failure() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = Command::new(BENCH)
        .args(["load", &format!("http://{free}/")])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot connect"));
}

#[test]
fn messages_come_back_over_websocket() {
    let origin = Origin::start();
    let report = measure(&[
        "load",
        &format!("{}/ws", origin.url),
        "--websocket",
        "--closed",
        "--duration",
        "300ms",
        "--json",
    ]);
    assert!(report["answered"].as_u64().unwrap() > 0);
    assert_eq!(report["failed"], 0);
    assert_eq!(report["offered_per_second"], Value::Null);
}

#[test]
fn each_request_can_have_a_connection_of_its_own() {
    let origin = Origin::start();
    let report = measure(&[
        "load",
        &format!("{}/", origin.url),
        "--fresh",
        "--rate",
        "200",
        "--duration",
        "250ms",
        "--json",
    ]);
    assert_eq!(report["statuses"]["200"], 50);
}

#[test]
fn events_come_with_their_delay() {
    let origin = Origin::start();
    let report = measure(&[
        "events",
        &origin.url,
        "--every",
        "5ms",
        "--connections",
        "2",
        "--duration",
        "300ms",
        "--json",
    ]);
    assert!(report["answered"].as_u64().unwrap() > 10);
    assert_eq!(report["failed"], 0);
}

#[test]
fn bare_bytes_move_after_an_upgrade() {
    let origin = Origin::start();
    let report = measure(&[
        "bulk",
        &origin.url,
        "--upgrade",
        "--download",
        "3M",
        "--upload",
        "3M",
        "--json",
    ]);
    assert_eq!(report[0]["bytes"], 3_000_000);
    assert_eq!(report[1]["bytes"], 3_000_000);
    assert!((report[1]["slowest_to_mean"].as_f64().unwrap() - 1.0).abs() < 1e-9);
}

#[test]
fn held_connections_are_announced() {
    let origin = Origin::start();
    let output = Command::new(BENCH)
        .args([
            "hold",
            &format!("{}/", origin.url),
            "--connections",
            "40",
            "--duration",
            "1ms",
        ])
        .output()
        .expect("the binary runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "holding 40 connections\n"
    );
}
