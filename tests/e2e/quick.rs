//! Quick tunnels for people without an account, and `tunnel --name`, which makes a named one and runs it.

use std::net::SocketAddr;

use adit_tests::binary;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::process::{Process, command};
use adit_tests::site::connector::CONNECT_LIMIT;
use adit_tests::site::{HOST, Site, SiteSettings, is_error_page};
use adit_tests::visitor::curl::Curl;
use serde_json::Value;

/// Under which quick tunnels have their names.
const DOMAIN: &str = "example.test";

fn site(io: IoMode, more: &str) -> Site {
    let lines = format!("quick-tunnels: {{domain: {DOMAIN}{more}}}\n");
    let settings = SiteSettings {
        control_lines: lines,
        ..SiteSettings::new(io)
    };
    settings.start()
}

/// The service as the flag wants it.
fn service(site: &Site) -> String {
    format!("http://{}", site.control.listen())
}

/// `adit tunnel …` with a home of its own and no command.
fn tunnel(site: &Site) -> std::process::Command {
    let mut tunnel = command(binary::adit());
    tunnel.env("HOME", site.folder()).current_dir(site.folder());
    tunnel.args(["tunnel", "--metrics", "127.0.0.1:0", "--io"]);
    tunnel.arg(site.settings().io.to_string());
    tunnel
}

/// Tells where this site's edge is.
fn to_edge<'a>(site: &Site, tunnel: &'a mut std::process::Command) -> &'a mut std::process::Command {
    let edge = site.edge.addresses.tunnel.to_string();
    tunnel.args(["--edge", &edge, "--edge", &edge, "--cacert"]);
    tunnel.arg(site.control.ca())
}

/// The hostname in the box.
fn hostname(process: &mut Process) -> String {
    let line = process.wait_line("|  https://", deadline::STEP);
    let name = line
        .split("https://")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    name.expect("a hostname in the box").to_owned()
}

fn wait_served(site: &Site, host: &str) {
    deadline::until_true("the quick tunnel to serve", CONNECT_LIMIT, || {
        site.visit_host(host, "/").run().status == 200
    });
}

fn ask(site: &Site) -> (u16, Value) {
    let asked = Curl::get(&format!("{}/tunnel", service(site)))
        .method("POST")
        .run();
    let body = serde_json::from_slice(&asked.body).expect("JSON");
    (asked.status, body)
}

fn anybody_gets_a_hostname_and_is_visited(io: IoMode) {
    let (nginx, site) = (Nginx::start(), site(io, ""));
    let mut tunnel = tunnel(&site);
    to_edge(&site, &mut tunnel).args(["--url", &nginx.url(), "--quick-service", &service(&site)]);
    let mut process = Process::start("connector", &mut tunnel);
    let metrics: SocketAddr = process
        .wait_line("Starting metrics server", deadline::STEP)
        .split("address=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("an address");
    let host = hostname(&mut process);
    assert!(host.ends_with(&format!(".{DOMAIN}")), "{host}");
    wait_served(&site, &host);
    let secure = Curl::get(&format!("https://{host}/"))
        .connect_to(site.edge.https())
        .trust(&site.certificate.certificate)
        .arg("--http2")
        .run();
    assert_eq!(secure.status, 200);
    let told = Curl::get(&format!("http://{metrics}/quicktunnel")).run();
    assert_eq!(told.text(), format!("{{\"hostname\":\"{host}\"}}"));
    let ready = Curl::get(&format!("http://{metrics}/ready")).run();
    assert!(
        ready.text().contains("\"readyConnections\":1"),
        "{}",
        ready.text()
    );
    assert!(site.control.run(["list"]).contains(" quick-"));
    assert!(process.terminate(deadline::STEP).success());
}

fn the_service_tells_where_the_edges_are(io: IoMode) {
    let (nginx, mut site) = (Nginx::start(), site(io, ""));
    let edge = site.edge.addresses.tunnel;
    assert!(site.control.process.terminate(deadline::STEP).success());
    let lines = format!("quick-tunnels: {{domain: {DOMAIN}, edges: ['{edge}', '{edge}']}}\n");
    site.control.start_again_with(&lines);
    let mut tunnel = tunnel(&site);
    tunnel.env("TUNNEL_QUICK_SERVICE", service(&site));
    tunnel.args(["--url", &nginx.url()]);
    let mut process = Process::start("connector", &mut tunnel);
    let host = hostname(&mut process);
    wait_served(&site, &host);
}

fn a_quick_tunnel_ends_with_its_time_and_leaves_nothing(io: IoMode) {
    let site = site(io, ", expires-after: 8s");
    let mut tunnel = tunnel(&site);
    to_edge(&site, &mut tunnel).args(["--hello-world", "--quick-service", &service(&site)]);
    let mut process = Process::start("connector", &mut tunnel);
    let host = hostname(&mut process);
    wait_served(&site, &host);
    deadline::until_true("the quick tunnel to end", CONNECT_LIMIT, || {
        is_error_page(&site.visit_host(&host, "/").run())
    });
    assert!(site.control.run(["list", "-d"]).contains("No tunnels were found"));
    deadline::until_true("the connector to be turned away", CONNECT_LIMIT, || {
        process.said_after(0, "unknown tunnel") || process.said_after(0, "Retrying connection")
    });
}

fn one_that_nobody_runs_ends_earlier(io: IoMode) {
    let site = site(io, ", idle-after: 1s");
    let (status, _) = ask(&site);
    assert_eq!(status, 200);
    assert!(site.control.run(["list"]).contains(" quick-"));
    deadline::until_true("the abandoned tunnel to end", CONNECT_LIMIT, || {
        site.control.run(["list", "-d"]).contains("No tunnels were found")
    });
}

fn an_address_that_asks_too_often_is_told_so(io: IoMode) {
    let site = site(io, ", per-address: 2, trusted-proxies: [127.0.0.1]");
    assert_eq!((ask(&site).0, ask(&site).0), (200, 200));
    let (status, body) = ask(&site);
    assert_eq!((status, &body["errors"][0]["code"]), (429, &Value::from(1024)));
    let other = Curl::get(&format!("{}/tunnel", service(&site)))
        .method("POST")
        .header("X-Forwarded-For: 198.51.100.7, 192.0.2.1")
        .run();
    assert_eq!(
        other.status, 200,
        "another address behind the proxy has turns of its own"
    );
    let mut tunnel = tunnel(&site);
    let refused = binary::output(to_edge(&site, &mut tunnel).args([
        "--hello-world",
        "--quick-service",
        &service(&site),
    ]));
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("has asked for too many quick tunnels"), "{text}");
    let metrics = site.control.metrics();
    assert_eq!(metrics.sum("control_quick_tunnels_created_total", &[]), 3.0);
    assert_eq!(metrics.sum("control_quick_tunnels", &[]), 3.0);
    assert!(metrics.sum("control_quick_tunnels_refused_total", &[]) >= 2.0);
}

fn what_is_missing_is_named(io: IoMode) {
    let site = Site::start(io);
    let nobody = binary::output(tunnel(&site).args(["--url", "http://127.0.0.1:1"]));
    assert_eq!(nobody.status.code(), Some(1));
    let text = String::from_utf8_lossy(&nobody.stderr);
    for name in [
        "--quick-service",
        "TUNNEL_QUICK_SERVICE",
        "quick-service of config.yml",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let mut tunnel = tunnel(&site);
    let not_offered = binary::output(to_edge(&site, &mut tunnel).args([
        "--hello-world",
        "--quick-service",
        &service(&site),
    ]));
    assert_eq!(not_offered.status.code(), Some(1));
    let text = String::from_utf8_lossy(&not_offered.stderr);
    assert!(text.contains("failed to request quick Tunnel"), "{text}");
}

fn an_ad_hoc_tunnel_is_made_routed_and_run_and_found_again(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let start = || {
        let mut tool = site.control.tool(binary::adit());
        to_edge(&site, &mut tool).args(["--metrics", "127.0.0.1:0", "--io", &io.to_string()]);
        tool.args(["--name", "lab", "--hostname", HOST, "--url", &nginx.url()]);
        Process::start("connector", &mut tool)
    };
    let mut first = start();
    first.wait_line("Created tunnel lab with id", deadline::STEP);
    first.wait_line("will route to this tunnel", deadline::STEP);
    wait_served(&site, HOST);
    assert!(first.terminate(deadline::STEP).success());
    let mut second = start();
    second.wait_line("Reusing existing tunnel with this name", deadline::STEP);
    wait_served(&site, HOST);
    assert!(second.terminate(deadline::STEP).success());
    assert_eq!(site.control.run(["list"]).matches(" lab ").count(), 1);
}

adit_tests::in_both_modes!(
    anybody_gets_a_hostname_and_is_visited,
    the_service_tells_where_the_edges_are,
    a_quick_tunnel_ends_with_its_time_and_leaves_nothing,
    one_that_nobody_runs_ends_earlier,
    an_address_that_asks_too_often_is_told_so,
    what_is_missing_is_named,
    an_ad_hoc_tunnel_is_made_routed_and_run_and_found_again,
);
