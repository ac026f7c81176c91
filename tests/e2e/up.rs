//! `adit up`: one command, a page, and a clean end.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use adit_driver::cpus::Cpus;
use adit_tests::binary;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::{nginx::Nginx, refused_address};
use adit_tests::process::{Process, command, cpus_of, is_running};
use adit_tests::visitor::curl::Curl;
use nix::sys::signal::Signal;

/// How long `adit up` may take until it says `ready`, and until it has stopped everything.
const UP_LIMIT: Duration = Duration::from_secs(60);

/// A running `adit up`.
struct Up {
    process: Process,
    http: SocketAddr,
    https: SocketAddr,
}

fn spawn<const N: usize>(io: IoMode, arguments: [&str; N]) -> Process {
    let mut up = command(binary::adit());
    up.args(["up", "--io", &io.to_string()]).args(arguments);
    Process::start("up", &mut up)
}

impl Up {
    fn start<const N: usize>(io: IoMode, arguments: [&str; N]) -> Self {
        let mut process = spawn(io, arguments);
        let ready = process.wait_line("ready http://app.localhost:", UP_LIMIT);
        let http = ready
            .rsplit(':')
            .next()
            .and_then(|port| port.trim().parse().ok())
            .expect("a port");
        let curl = process.wait_line("--resolve app.localhost:", UP_LIMIT);
        let https = curl
            .split("--resolve app.localhost:")
            .nth(1)
            .and_then(|rest| rest.split(':').next()?.parse().ok());
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            process,
            http: at(http),
            https: at(https.expect("a port")),
        }
    }

    fn get(&self) -> Curl {
        Curl::get(&format!("http://{}/", self.http)).host("app.localhost")
    }

    fn get_tls(&self) -> Curl {
        let url = format!("https://app.localhost:{}/", self.https.port());
        let resolve = format!("app.localhost:{}:127.0.0.1", self.https.port());
        Curl::get(&url)
            .arg("-k")
            .arg("--resolve")
            .arg(resolve)
            .arg("--http2")
    }
}

const ANY_PORTS: [&str; 4] = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"];

fn with_ports<'a>(first: &'a str, second: &'a str) -> [&'a str; 6] {
    let [a, b, c, d] = ANY_PORTS;
    [first, second, a, b, c, d]
}

fn hello_page_by_http1_and_by_http2_over_tls(io: IoMode) {
    let mut up = Up::start(
        io,
        ["--hello-world", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"],
    );
    let plain = up.get().run();
    assert_eq!((plain.status, plain.version.as_str()), (200, "1.1"), "{plain:?}");
    assert!(plain.text().to_lowercase().contains("hello"), "{}", plain.text());
    let tls = up.get_tls().run();
    assert_eq!((tls.status, tls.version.as_str()), (200, "2"), "{tls:?}");
    assert!(tls.text().to_lowercase().contains("hello"), "{}", tls.text());

    let children = up.process.children();
    assert_eq!(children.len(), 3, "control, edge and connector");
    up.process.signal(Signal::SIGINT);
    assert!(up.process.wait_exit(UP_LIMIT).success());
    assert!(!children.iter().any(|child| is_running(*child)));
}

fn a_real_origin_is_served_and_state_is_kept(io: IoMode) {
    let nginx = Nginx::start();
    let folder = tempfile::tempdir().expect("a temp dir");
    let state = folder.path().join("state").display().to_string();
    let mut tunnels = Vec::new();
    for _ in 0..2 {
        let url = nginx.url();
        let arguments = [
            "--url",
            &url,
            "--state-dir",
            &state,
            "--http",
            "127.0.0.1:0",
            "--https",
            "127.0.0.1:0",
        ];
        let mut up = Up::start(io, arguments);
        assert_eq!(up.get().run().text(), "served by nginx\n");
        let config = folder.path().join("state/connector/config.yml");
        let config = std::fs::read_to_string(config).expect("the connector's configuration is kept");
        tunnels.push(
            config
                .lines()
                .find(|line| line.starts_with("tunnel:"))
                .expect("a tunnel")
                .to_owned(),
        );
        assert!(up.process.terminate(UP_LIMIT).success());
    }
    assert_eq!(
        tunnels[0], tunnels[1],
        "the second start uses the tunnel of the first"
    );
}

fn a_taken_port_is_named_with_the_child_that_wanted_it(io: IoMode) {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let mut up = spawn(
        io,
        ["--hello-world", "--http", &address, "--https", "127.0.0.1:0"],
    );
    assert_eq!(up.wait_exit(UP_LIMIT).code(), Some(1));
    deadline::until_true("the reason", deadline::STEP, || {
        let log = up.log();
        log.contains("edge") && log.contains(&address) && log.to_lowercase().contains("in use")
    });
}

fn an_origin_that_is_down_is_a_warning_and_a_502(io: IoMode) {
    let origin = format!("http://{}", refused_address());
    let mut up = Up::start(io, with_ports("--url", &origin));
    up.process
        .wait_line(origin.trim_start_matches("http://"), deadline::STEP);
    assert_eq!(up.get().run().status, 502);
    assert!(up.process.terminate(UP_LIMIT).success());
}

fn a_child_that_dies_ends_all_and_is_named(io: IoMode) {
    let mut up = Up::start(
        io,
        ["--hello-world", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"],
    );
    let children = up.process.children();
    let is_edge = |pid: &&u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"edge")
    };
    let edge = children
        .iter()
        .find(is_edge)
        .expect("the edge among the children");
    let edge = nix::unistd::Pid::from_raw(i32::try_from(*edge).expect("a process id"));
    nix::sys::signal::kill(edge, Signal::SIGKILL).expect("a child of our child");
    assert_eq!(up.process.wait_exit(UP_LIMIT).code(), Some(1));
    deadline::until_true("the reason", deadline::STEP, || {
        up.process.log().contains("the edge ended")
    });
    assert!(!children.iter().any(|child| is_running(*child)));
}

fn killed_it_leaves_no_child_behind(io: IoMode) {
    let mut up = Up::start(
        io,
        ["--hello-world", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"],
    );
    let children = up.process.children();
    up.process.kill();
    deadline::until_true("the children to end", deadline::STEP, || {
        !children.iter().any(|child| is_running(*child))
    });
}

fn signals_reload_or_end_it_and_leave_no_key_behind(io: IoMode) {
    let folder = tempfile::tempdir().expect("a temp dir");
    let (temporary, log) = (folder.path().join("tmp"), folder.path().join("up.log"));
    std::fs::create_dir(&temporary).expect("a fresh folder");
    let mut up = command(binary::adit());
    up.env("TMPDIR", &temporary)
        .args(["up", "--io", &io.to_string(), "--hello-world", "--logfile"])
        .arg(&log)
        .args(ANY_PORTS);
    let mut up = Process::start("up", &mut up);
    up.wait_line("ready http://app.localhost:", UP_LIMIT);
    assert!(std::fs::read_dir(&temporary).expect("a folder").count() > 0);
    std::fs::rename(&log, folder.path().join("up.log.1")).expect("a log to rotate");
    let children = up.children();
    up.signal(Signal::SIGHUP);
    for line in [
        "connector| ",
        "Reloaded the configuration",
        "control| ",
        "reloaded the configuration",
        "certificates loaded",
    ] {
        up.wait_line(line, deadline::STEP);
    }
    deadline::until_true("the new log file", deadline::STEP, || log.is_file());
    up.signal(Signal::SIGUSR1);
    assert_eq!(up.children(), children);
    up.signal(Signal::SIGQUIT);
    assert!(up.wait_exit(UP_LIMIT).success());
    let left: Vec<_> = std::fs::read_dir(&temporary).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

fn edge_and_connector_get_cpus_of_their_own(io: IoMode) {
    let allowed = Cpus::allowed();
    let list = allowed.to_string();
    let [a, b, c, d] = ANY_PORTS;
    let up = Up::start(io, ["--hello-world", "--cores", "1", "--cpus", &list, a, b, c, d]);
    assert_eq!(up.get().run().status, 200);
    let pinned = |name: &str| -> Vec<String> {
        let children = up.process.children();
        let cores = children.iter().map(|pid| cpus_of(*pid, name));
        cores.flat_map(BTreeMap::into_values).collect()
    };
    assert_eq!(pinned("adit-edge-"), [allowed.first(1).to_string()]);
    assert_eq!(pinned("connector-"), [allowed.last(1).to_string()]);

    let mut refused = spawn(io, ["--hello-world", "--cpus", "1023"]);
    assert_eq!(
        refused.wait_exit(deadline::STEP).code(),
        Some(2),
        "{}",
        refused.log()
    );
    refused.wait_line(
        "invalid value for --cpus: CPU 1023 is not one of this machine",
        deadline::STEP,
    );
}

adit_tests::in_both_modes!(
    signals_reload_or_end_it_and_leave_no_key_behind,
    edge_and_connector_get_cpus_of_their_own,
    hello_page_by_http1_and_by_http2_over_tls,
    a_real_origin_is_served_and_state_is_kept,
    a_taken_port_is_named_with_the_child_that_wanted_it,
    an_origin_that_is_down_is_a_warning_and_a_502,
    a_child_that_dies_ends_all_and_is_named,
    killed_it_leaves_no_child_behind,
);
