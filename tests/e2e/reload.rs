//! Rules that change while a connector runs: by its file, by a signal, or not at all because they are broken.

use adit_tests::binary;
use adit_tests::binary::IoMode;
use adit_tests::certificate::Certificate;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::process::command;
use adit_tests::site::connector::Connector;
use adit_tests::site::control::{Tunnel, result};
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::curl::Curl;
use nix::sys::signal::Signal;

fn status(site: &Site) -> u16 {
    site.visit("/").run().status
}

/// What control shows of the rules that the connector told.
fn told(site: &Site, tunnel: &Tunnel) -> String {
    let path = format!("/accounts/{{account}}/cfd_tunnel/{}/configurations", tunnel.id);
    result(&site.control.rest("GET", &path).run()).to_string()
}

fn reloads(connector: &Connector, result: &str) -> f64 {
    connector
        .metrics()
        .sum("connector_config_reloads_total", &[("result", result)])
}

fn a_changed_file_is_followed_and_a_broken_one_is_not(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut connector = site.serve(&tunnel, &origin.url());
    let held = site.visit("/hold?gate=end").start();
    origin.wait_mark("end", 1, deadline::STEP);

    connector.rewrite("  - service: http_status:418\n");
    connector
        .process
        .wait_line("Reloaded the configuration", deadline::STEP);
    assert_eq!(status(&site), 418);
    origin.open("end", 1);
    let held = held.finish();
    assert_eq!((held.status, held.text().as_str()), (200, "held"));
    deadline::until_true("control to know", deadline::STEP, || {
        told(&site, &tunnel).contains("http_status:418")
    });

    let mark = connector.process.mark();
    connector.rewrite("  - hostname: a.test\n    service: http_status:410\n");
    let line = connector
        .process
        .wait_line_after(mark, "The configuration was not reloaded", deadline::STEP);
    for part in [
        &connector.config().display().to_string(),
        "The last ingress rule must match all URLs",
        "--check",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    std::fs::write(connector.config(), "").expect("a file in the temp dir");
    connector
        .process
        .wait_line_after(mark, "has become empty", deadline::STEP);
    assert_eq!(status(&site), 418);

    let mark = connector.process.mark();
    connector.rewrite("  - service: http_status:410\n");
    connector
        .process
        .wait_line_after(mark, "Reloaded the configuration", deadline::STEP);
    assert_eq!(status(&site), 410);
    assert!(reloads(&connector, "applied") >= 2.0 && reloads(&connector, "refused") >= 2.0);
    assert_eq!(connector.ready().map(|(count, _)| count), Some(4));
}

fn rules_that_a_slip_would_lose_stay_in_force(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let mut connector = site.connector(&tunnel).service("http_status:418").start();
    connector.wait_connections(4);
    site.wait_served();
    let lines = std::fs::read_to_string(connector.config()).expect("a file");
    let slipped = lines.replace("ingress:", "ingres:");
    std::fs::write(connector.config(), &slipped).expect("a file in the temp dir");
    let line = connector
        .process
        .wait_line("The configuration was not reloaded", deadline::STEP);
    for part in [
        &connector.config().display().to_string(),
        "no ingress rules any more",
        "ingres (did you mean ingress?)",
        "--check",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(status(&site), 418);
    assert!(reloads(&connector, "refused") >= 1.0);
    let checked = binary::output(
        command(binary::adit())
            .args(["tunnel", "--config"])
            .arg(connector.config())
            .args(["run", "--check"]),
    );
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(
        said.contains("unknown keys: ingres (did you mean ingress?)"),
        "{said}"
    );

    // Whoever means it says so.
    connector.rewrite("  - service: http_status:503\n");
    connector
        .process
        .wait_line("Reloaded the configuration", deadline::STEP);
    assert_eq!(status(&site), 503);
}

fn a_signal_reloads_where_nobody_watches(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let mut connector = site
        .connector(&tunnel)
        .lines("config-watch: false\ngrace-period: 10s\n")
        .service("http_status:418")
        .start();
    connector.wait_connections(4);
    site.wait_served();
    let lines = std::fs::read_to_string(connector.config()).expect("a file");
    let changed = lines
        .replace("http_status:418", "http_status:410")
        .replace("grace-period: 10s", "grace-period: 11s");
    std::fs::write(connector.config(), changed).expect("a file in the temp dir");
    connector.process.signal(Signal::SIGHUP);
    connector
        .process
        .wait_line("Reloaded the configuration", deadline::STEP);
    assert_eq!(status(&site), 410);
    let log = connector.process.log();
    let line = log.lines().find(|line| line.contains("need a new start"));
    assert!(line.is_some_and(|line| line.contains("grace-period")), "{log}");
    assert_eq!(reloads(&connector, "applied"), 1.0);
}

fn a_rotated_log_file_is_opened_anew(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let (file, rotated) = (site.folder().join("lab.log"), site.folder().join("lab.log.1"));
    let mut connector = site.connector(&tunnel).service("http_status:418");
    connector.flags = vec!["--logfile".to_owned(), file.display().to_string()];
    let mut connector = connector.start();
    connector.wait_connections(4);
    std::fs::rename(&file, &rotated).expect("a log to rotate");
    connector.process.signal(Signal::SIGHUP);
    connector
        .process
        .wait_line("Reloaded the configuration", deadline::STEP);
    deadline::until_true("the new log file", deadline::STEP, || file.is_file());
    let mark = connector.process.mark();
    connector.process.signal(Signal::SIGTERM);
    connector
        .process
        .wait_line_after(mark, "Unregistered", deadline::STEP);
    let new = std::fs::read_to_string(&file).expect("a log");
    assert!(new.contains("Initiating graceful shutdown"), "{new}");
    let old = std::fs::read_to_string(&rotated).expect("a log");
    assert!(
        old.contains("Registered tunnel connection") && !old.contains("graceful"),
        "{old}"
    );
}

fn a_configuration_is_checked_without_running(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let check = |lines: &str, rules: &str, wanted: &str| {
        let folder = tempfile::tempdir().expect("a temp dir");
        let settings = site.connector(&tunnel).lines(lines).ingress(rules);
        let mut process = settings.run_flags(["--check"]).spawn(folder.path());
        process.wait_line(wanted, deadline::STEP);
        process.wait_exit(deadline::STEP).code()
    };
    let rules =
        format!("  - hostname: {HOST}\n    service: http://127.0.0.1:1\n  - service: http_status:404\n");
    assert_eq!(check("", &rules, "OK"), Some(0));
    for (lines, rules, complaint) in [
        (
            "retries: many\n",
            rules.as_str(),
            "expected int found string for retries",
        ),
        (
            "",
            "  - hostname: x\n    service: http://a\n",
            "The last ingress rule",
        ),
        ("", "  - service: htp://a:1\n", "http is meant"),
        (
            "originRequest: {caPool: /nonexistent.pem}\n",
            rules.as_str(),
            "/nonexistent.pem holds no usable certificate",
        ),
    ] {
        assert_eq!(check(lines, rules, complaint), Some(1), "{complaint}");
    }
    assert_eq!(site.control.connection_count(&tunnel), 0);
}

fn an_edge_follows_its_file_on_a_signal(io: IoMode) {
    let (origin, mut site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let config = site.edge.folder().join("edge.yml");
    let text = std::fs::read_to_string(&config).expect("a file");
    let write = |text: &str| std::fs::write(&config, text).expect("a file in the temp dir");
    let held = site.visit("/hold?gate=end").start();
    origin.wait_mark("end", 1, deadline::STEP);
    write(&format!(
        "{text}tunnels-on-https: true\n\
         limits: {{response-head-timeout: 1s, memory: 80MiB, exchanges-per-address: 1}}\n"
    ));
    let mark = site.edge.process.mark();
    site.edge.process.signal(Signal::SIGHUP);
    let line =
        site.edge
            .process
            .wait_line_after(mark, "keys have changed that need a new start", deadline::STEP);
    assert!(
        line.contains("tunnels-on-https") && !line.contains("limits."),
        "{line}"
    );
    site.edge
        .process
        .wait_line_after(mark, "reloaded the configuration", deadline::STEP);
    // What has begun goes on; a second exchange is one too many now.
    deadline::until_true("the new limit", deadline::STEP, || status(&site) == 429);
    assert!(site.edge.metrics().sum("edge_memory_share_bytes", &[]) <= f64::from(80 << 20));
    origin.open("end", 1);
    let held = held.finish();
    assert_eq!((held.status, held.text().as_str()), (200, "held"));
    assert_eq!(site.visit("/hold?gate=never").run().status, 504);

    write(&format!("{text}limits: {{response-head-timeout: 30}}\n"));
    site.edge.process.signal(Signal::SIGHUP);
    let line = site
        .edge
        .process
        .wait_line_after(mark, "the configuration was not reloaded", deadline::STEP);
    for part in ["edge.yml", "limits.response-head-timeout", "30s", "--check"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(site.visit("/hold?gate=never").run().status, 504);

    let special = Certificate::create(site.folder(), "special", &["special.example.test"]);
    let (cert, key) = (special.certificate.display(), special.key.display());
    let listed = format!("certificates:\n  - {{cert: {cert}, key: {key}}}\n");
    write(&text.replacen("certificates:\n", &listed, 1));
    site.edge.process.signal(Signal::SIGHUP);
    deadline::until_true("the new certificate", deadline::STEP, || {
        let visit = Curl::get("https://special.example.test/");
        let visit = visit.connect_to(site.edge.https()).trust(&special.certificate);
        visit.run().status == 404
    });
    let metrics = site.edge.metrics();
    let reloads = |result| metrics.sum("edge_config_reloads_total", &[("result", result)]);
    assert_eq!((reloads("applied"), reloads("refused")), (2.0, 1.0));
}

adit_tests::in_both_modes!(
    an_edge_follows_its_file_on_a_signal,
    a_rotated_log_file_is_opened_anew,
    a_changed_file_is_followed_and_a_broken_one_is_not,
    rules_that_a_slip_would_lose_stay_in_force,
    a_signal_reloads_where_nobody_watches,
    a_configuration_is_checked_without_running,
);
