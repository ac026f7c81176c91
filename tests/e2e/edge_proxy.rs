//! A connector that reaches its edge through a proxy, and what it says when that is not possible.

use adit_tests::binary;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::refused_address;
use adit_tests::process::command;
use adit_tests::proxy::{PASSWORD, Proxy, USER};
use adit_tests::site::connector::ConnectorSettings;
use adit_tests::site::{HOST, Site};
use adit_tests::tcp_relay::TcpRelay;

fn through(mut settings: ConnectorSettings, proxy: &str) -> ConnectorSettings {
    settings
        .flags
        .extend(["--protocol", "auto", "--edge-proxy", proxy].map(str::to_owned));
    settings
}

/// A tunnel that serves through `proxy`, whose connections are over HTTP/2 and all of them at `proxy`.
fn serves_through(io: IoMode, proxy: &Proxy, url: &str) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = through(site.connector(&tunnel), url)
        .service(&nginx.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    assert_eq!(site.visit("/").run().status, 200);
    let log = connector.process.log();
    assert_eq!(log.matches("protocol=http2").count(), 4, "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
    let pid = connector.process.pid();
    let sockets = std::process::Command::new("ss")
        .args(["-tnpH"])
        .output()
        .expect("ss");
    let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
    let is_ours = |line: &&str| line.contains(&format!("pid={pid},"));
    let edge = site.edge.addresses.tunnel.to_string();
    let dialled = |address: &str| {
        sockets
            .lines()
            .filter(is_ours)
            .filter(|line| line.contains(address))
            .count()
    };
    assert_eq!(
        (dialled(&proxy.address.to_string()), dialled(&edge)),
        (4, 0),
        "{sockets}"
    );
}

fn an_http_proxy_carries_the_tunnel(io: IoMode) {
    let folder = tempfile::tempdir().expect("a temp dir");
    let proxy = Proxy::http(folder.path(), false);
    serves_through(io, &proxy, &proxy.url());
}

fn an_http_proxy_that_asks_is_told_who(io: IoMode) {
    let folder = tempfile::tempdir().expect("a temp dir");
    let proxy = Proxy::http(folder.path(), true);
    serves_through(io, &proxy, &proxy.url_as(USER, PASSWORD));
}

fn a_socks_proxy_carries_the_tunnel(io: IoMode) {
    let proxy = Proxy::socks5(false);
    serves_through(io, &proxy, &proxy.url());
}

fn a_socks_proxy_that_asks_is_told_who(io: IoMode) {
    let proxy = Proxy::socks5(true);
    serves_through(io, &proxy, &proxy.url_as(USER, PASSWORD));
}

fn a_name_is_left_to_the_proxy(io: IoMode) {
    let proxy = Proxy::socks5(false);
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut settings = through(site.connector(&tunnel), &proxy.url()).service(&nginx.url());
    let edge = format!("localhost:{}", site.edge.addresses.tunnel.port());
    settings.flags.extend(["--edge".to_owned(), edge]);
    let connector = settings.start();
    connector.wait_connections(1);
    site.wait_served();
    assert!(
        connector.process.log().contains("ip=100::1"),
        "no name was resolved here"
    );
}

fn what_a_proxy_says_is_told(io: IoMode) {
    let folder = tempfile::tempdir().expect("a temp dir");
    let (http, socks) = (Proxy::http(folder.path(), true), Proxy::socks5(true));
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let nobody = format!("http://{}", refused_address());
    for (url, reason) in [
        (http.url(), "the proxy wants other credentials than none"),
        (
            http.url_as(USER, "wrong"),
            "the proxy wants other credentials than those given",
        ),
        (socks.url(), "the proxy wants other credentials than none"),
        (
            socks.url_as(USER, "wrong"),
            "the proxy wants other credentials than those given",
        ),
        (nobody, "cannot be reached: Connection refused"),
    ] {
        let mut connector = through(site.connector(&tunnel), &url).start();
        let line = connector
            .process
            .wait_line("Unable to establish connection with the edge", deadline::STEP);
        assert!(line.contains(reason), "{url}: {line}");
    }
}

fn quic_and_a_proxy_do_not_go_together(io: IoMode) {
    let mut tunnel = command(binary::adit());
    tunnel.args([
        "tunnel",
        "--io",
        &io.to_string(),
        "--edge",
        "127.0.0.1:1",
        "--protocol",
        "quic",
    ]);
    tunnel.args([
        "--edge-proxy",
        "http://u:secret@127.0.0.1:2",
        "run",
        "--check",
        "--token",
    ]);
    tunnel.arg("eyJhIjoiYSIsInQiOiIxMTExMTExMS0yMjIyLTMzMzMtNDQ0NC01NTU1NTU1NTU1NTUiLCJzIjoiQUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0ifQ==");
    let refused = binary::output(&mut tunnel);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(
        text.contains("QUIC cannot pass a proxy") && !text.contains("secret"),
        "{text}"
    );
}

/// The API has an address that only the proxy finds: a tunnel leads there.
fn calls_of_the_api_go_through_the_environments_proxy(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let api = site.control.api().trim_end_matches("/client/v4");
    let _connector = site.serve(&tunnel, api);
    let proxy = TcpRelay::proxy(site.edge.https()).expect("a free port");
    let list = |direct: &str| {
        let mut list = command(binary::adit());
        list.env("HTTPS_PROXY", format!("http://{}", proxy.address()))
            .env("NO_PROXY", direct)
            .env("SSL_CERT_FILE", &site.certificate.certificate)
            .args(["tunnel", "--api-url", &format!("https://{HOST}/client/v4")])
            .arg("--origincert")
            .arg(site.control.origin_cert())
            .arg("list");
        binary::output(&mut list)
    };
    let done = list("localhost");
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && text.contains(&tunnel.id.to_string()),
        "{done:?}"
    );
    let done = list(".example.test");
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && text.contains(HOST), "{done:?}");
}

adit_tests::in_both_modes!(
    an_http_proxy_carries_the_tunnel,
    an_http_proxy_that_asks_is_told_who,
    a_socks_proxy_carries_the_tunnel,
    a_socks_proxy_that_asks_is_told_who,
    a_name_is_left_to_the_proxy,
    what_a_proxy_says_is_told,
    quic_and_a_proxy_do_not_go_together,
    calls_of_the_api_go_through_the_environments_proxy,
);
