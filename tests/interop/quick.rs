//! The stock connector asks our control for a quick tunnel.

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::process::{Process, command};
use adit_tests::site::SiteSettings;
use adit_tests::site::connector::CONNECT_LIMIT;

fn a_quick_tunnel_of_ours_runs_in_the_stock_connector(io: IoMode) {
    let Some(stock) = crate::stock(module_path!()) else {
        return;
    };
    let settings = SiteSettings {
        control_lines: "quick-tunnels: {domain: example.test}\n".to_owned(),
        ..SiteSettings::new(io)
    };
    let (nginx, site) = (Nginx::start(), settings.start());
    let (edge, service) = (
        site.edge.addresses.tunnel.to_string(),
        format!("http://{}", site.control.listen()),
    );
    let mut tunnel = command(stock);
    tunnel.env("HOME", site.folder()).current_dir(site.folder());
    tunnel.args([
        "tunnel",
        "--no-autoupdate",
        "--no-prechecks",
        "--metrics",
        "127.0.0.1:0",
    ]);
    tunnel
        .args(["--edge", &edge, "--edge", &edge, "--cacert"])
        .arg(site.control.ca());
    tunnel.args(["--url", &nginx.url(), "--quick-service", &service]);
    let mut process = Process::start("cloudflared", &mut tunnel);
    let line = process.wait_line("|  https://", deadline::STEP);
    let host = line
        .split("https://")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("a hostname in the box");
    deadline::until_true("the quick tunnel to serve", CONNECT_LIMIT, || {
        site.visit_host(host, "/").run().status == 200
    });
}

adit_tests::in_both_modes!(a_quick_tunnel_of_ours_runs_in_the_stock_connector);
