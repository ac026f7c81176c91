//! The README's tour, pasted into a shell as it stands there, but for the ports.

use std::fmt::Write as _;
use std::net::TcpListener;

use adit_tests::binary::{self, IoMode};
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::process::{Process, command};

const README: &str = include_str!("../../README.md");

/// The ports of the tour that our processes listen on.
const PORTS: [&str; 6] = ["7080", "7844", "7845", "8080", "8443", "20241"];

/// The lines of code below a heading, without their indentation.
fn code(heading: &str) -> String {
    let section = README.split("\n## ").find(|section| section.starts_with(heading));
    let lines = section.expect("the heading").lines();
    let mut code = String::new();
    for line in lines.filter(|line| line.is_empty() || line.starts_with("    ")) {
        writeln!(code, "{}", line.trim_start_matches("    ")).expect("a string grows");
    }
    code
}

fn the_tour_works_when_it_is_pasted_at_once(io: IoMode) {
    let nginx = Nginx::start();
    let folder = tempfile::tempdir().expect("a temp dir");
    // All are taken at once, so that they differ.
    let taken = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let mut tour = code("Five minutes with a real origin").replace("http://127.0.0.1:3000", &nginx.url());
    for (port, taken) in PORTS.iter().zip(&taken) {
        let free = taken.local_addr().expect("bound").port();
        tour = tour.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"));
    }
    drop(taken);
    let io = format!("adit edge --io {io} --cores 1");
    tour = tour.replace("adit edge", &io);
    let script = folder.path().join("tour.sh");
    std::fs::write(&script, format!("trap 'kill $(jobs -p); wait' EXIT\n{tour}\n")).expect("a fresh file");
    let programs = binary::adit().parent().expect("a file lies in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = command("bash");
    // Read from its input, as what is pasted is.
    shell
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .args(["-c", "exec bash -s < tour.sh"]);
    let mut shell = Process::start("shell", &mut shell);
    shell.wait_line("served by nginx", 2 * deadline::STEP);
    shell.wait_exit(deadline::STEP);
}

adit_tests::in_both_modes!(the_tour_works_when_it_is_pasted_at_once);
