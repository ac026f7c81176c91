//! `tunnel diag`: what a running connector tells of itself, in one file.

use std::path::PathBuf;
use std::process::Command;

use adit_tests::binary::{self, IoMode};
use adit_tests::origin::scripted::Scripted;
use adit_tests::proxy::{PASSWORD, Proxy, USER};
use adit_tests::site::control::result;
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::curl::Curl;
use serde_json::Value;

fn diag(site: &Site, flags: &[&str]) -> Command {
    let mut tool = adit_tests::process::command(binary::adit());
    tool.env("HOME", site.folder())
        .current_dir(site.folder())
        .args(["tunnel", "diag"])
        .args(flags);
    tool
}

/// Makes an archive and unpacks it with Debian's tool.
fn collect(site: &Site, folder: &str, flags: &[&str]) -> PathBuf {
    let said = binary::succeed(&mut diag(site, flags));
    let name = said
        .lines()
        .find_map(|line| line.strip_prefix("Diagnostic file written: "))
        .expect("a file's name");
    let out = site.folder().join(folder);
    let mut unzip = adit_tests::process::command("unzip");
    binary::succeed(unzip.arg("-q").arg(site.folder().join(name)).arg("-d").arg(&out));
    std::fs::remove_file(site.folder().join(name)).expect("the archive");
    out
}

fn a_report_is_collected(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let log = site.folder().join("connector.log");
    let connector = site
        .connector(&tunnel)
        .service("http_status:204")
        .lines(&format!("logfile: {}\n", log.display()))
        .start();
    connector.wait_connections(4);
    let (_, replica) = connector.ready().expect("an answer");
    let metrics = connector.metrics_address().to_string();
    let out = collect(&site, "all", &["--metrics", &metrics]);
    let text = |name: &str| std::fs::read_to_string(out.join(name)).expect(name);
    let json = |name: &str| serde_json::from_str::<Value>(&text(name)).expect(name);
    let told = json("tunnelstate.json");
    assert_eq!(
        (&told["tunnelID"], &told["connectorID"]),
        (&tunnel.id.to_string().into(), &replica.into())
    );
    assert_eq!(told["connections"].as_array().map(Vec::len), Some(4));
    assert_eq!(json("systeminformation.json")["info"]["osSystem"], "Linux");
    assert!(text("metrics.txt").contains("cloudflared_tunnel_ha_connections 4"));
    assert!(json("configuration.json")["config"]["ingress"].is_array());
    assert!(text("cloudflared_logs.txt").contains("Registered tunnel connection"));
    let results = json("task-result.json");
    assert_eq!(results["metrics.txt"]["result"], "success");
    assert_eq!(results["heap.pprof"]["result"], "failure");
    let secret = std::fs::read_to_string(&tunnel.credentials).expect("credentials");
    let secret: Value = serde_json::from_str(&secret).expect("credentials");
    let secret = secret["TunnelSecret"].as_str().expect("a secret");
    for entry in std::fs::read_dir(&out).expect("the files") {
        let path = entry.expect("a file").path();
        let body = std::fs::read_to_string(&path).expect("text");
        assert!(!body.contains(secret), "{}", path.display());
    }

    let less = collect(
        &site,
        "less",
        &[
            "--metrics",
            &metrics,
            "--no-diag-metrics",
            "--no-diag-logs",
            "--no-diag-runtime",
        ],
    );
    assert!(less.join("tunnelstate.json").exists() && !less.join("metrics.txt").exists());
    let gone = binary::output(&mut diag(&site, &["--metrics", "127.0.0.1:1"]));
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no connector answers at 127.0.0.1:1"));
}

/// Passwords in a connector's settings: a header for the origin, an origin's address and a proxy's. They are
/// in no answer, no log, no report, and not in what control is told.
fn no_password_leaves_the_connector(io: IoMode) {
    let origin = Scripted::start();
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let log = site.folder().join("connector.log");
    let url = origin.url();
    let with_password = url.replacen("http://", &format!("http://user:{PASSWORD}@"), 1);
    let rules = format!(
        "  - hostname: {HOST}\n    path: ^/user\n    service: {with_password}\n  \
           - service: {url}\n    originRequest: {{requestHeaders: {{set: {{Authorization: Bearer {PASSWORD}}}, \
                add: {{X-Key: {PASSWORD}}}}}}}\n"
    );
    let lines = format!("logfile: {}\nloglevel: debug\n", log.display());
    let mut settings = site.connector(&tunnel).ingress(&rules).lines(&lines);
    let proxy = Proxy::http(site.folder(), true);
    settings.flags.extend(
        [
            "--protocol",
            "http2",
            "--edge-proxy",
            &proxy.url_as(USER, PASSWORD),
        ]
        .map(str::to_owned),
    );
    let connector = settings.start();
    connector.wait_connections(4);
    site.wait_served();
    let seen = site.visit("/seen").run().text();
    assert!(seen.contains(&format!("Bearer {PASSWORD}")), "{seen}");
    // Of the origin, which knows no such path.
    assert_eq!(site.visit("/user").run().status, 404);

    let metrics = connector.metrics_address();
    let out = collect(&site, "secrets", &["--metrics", &metrics.to_string()]);
    for entry in std::fs::read_dir(&out).expect("the files") {
        let path = entry.expect("a file").path();
        let body = std::fs::read_to_string(&path).expect("text");
        assert!(!body.contains(PASSWORD), "{}", path.display());
    }
    let config = Curl::get(&format!("http://{metrics}/config")).run().text();
    assert!(
        config.contains("Authorization") && config.contains("[redacted]"),
        "{config}"
    );
    let path = format!("/accounts/{{account}}/cfd_tunnel/{}/configurations", tunnel.id);
    let told = result(&site.control.rest("GET", &path).run()).to_string();
    let written = std::fs::read_to_string(&log).expect("the log");
    for text in [
        config,
        told,
        written,
        connector.process.log(),
        site.edge.process.log(),
    ] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

adit_tests::in_both_modes!(a_report_is_collected, no_password_leaves_the_connector);
