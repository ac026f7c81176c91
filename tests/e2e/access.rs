//! `adit access tcp`: real programs reach TCP services behind a tunnel.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use adit_tests::binary::{self, IoMode};
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::refused_address;
use adit_tests::origin::ssh::Ssh;
use adit_tests::origin::tcp::{self, Manner};
use adit_tests::site::{HOST, Site};
use adit_tests::visitor::access::{client, listen, pipe};
use adit_tests::visitor::curl::Curl;

/// A site whose connector serves `service`, and the connector.
fn serve(io: IoMode, service: &str) -> (Site, adit_tests::site::connector::Connector) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, service);
    (site, connector)
}

/// Writes everything, ends its side and hears everything.
fn converse(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(deadline::STEP))
        .expect("a socket option");
    stream.write_all(bytes).expect("the client takes bytes");
    stream.shutdown(Shutdown::Write).expect("an open connection");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("an end in order");
    heard
}

fn a_listener_carries_half_closed_connections(io: IoMode) {
    let (site, _connector) = serve(io, &format!("tcp://{}", tcp::start(Manner::Count)));
    let (_client, address) = listen(&mut client(&site, binary::adit(), HOST));
    for size in [0, 1, 100_000, 3_000_000] {
        let heard = converse(address, &vec![7; size]);
        assert_eq!(String::from_utf8_lossy(&heard), format!("heard {size} bytes"));
    }
}

fn standard_input_and_output_are_one_connection(io: IoMode) {
    let (site, _connector) = serve(io, "bastion");
    let (count, greet) = (tcp::start(Manner::Count), tcp::start(Manner::Greet));
    let to = |destination: &str, input: &[u8]| {
        let mut client = client(&site, binary::adit(), HOST);
        pipe(client.args(["--destination", destination]), input)
    };
    let done = to(&count.to_string(), &[7; 100_000]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "heard 100000 bytes");
    assert_eq!(to(&greet.to_string(), b"").stdout, b"hello");
    let dead = to(&refused_address().to_string(), b"");
    assert_eq!(dead.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&dead.stderr).contains("the edge answered 502"),
        "{dead:?}"
    );
    let unknown = pipe(&mut client(&site, binary::adit(), "nobody.example.test"), b"");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no tunnel serves this hostname"));
    let mut distrusting = client(&site, binary::adit(), HOST);
    let distrusting = pipe(distrusting.env_remove("SSL_CERT_FILE"), b"");
    assert!(
        String::from_utf8_lossy(&distrusting.stderr).contains("TLS"),
        "{distrusting:?}"
    );
    let bare = binary::output(std::process::Command::new(binary::adit()).args(["access", "tcp"]));
    assert_eq!(bare.status.code(), Some(2));
}

fn ssh_runs_through_a_proxy_command(io: IoMode) {
    let sshd = Ssh::start();
    let (site, _connector) = serve(io, &format!("ssh://{}", sshd.address));
    let proxy = format!(
        "{} access ssh --hostname %h --connect-to {} --cacert {}",
        binary::adit().display(),
        site.edge.https(),
        site.certificate.certificate.display()
    );
    let said = binary::succeed(sshd.client(HOST, &proxy).arg("echo said by $((6 * 7))"));
    assert_eq!(said, "said by 42\n");
    let bulk = binary::succeed(
        sshd.client(HOST, &proxy)
            .arg("head -c 3000000 /dev/zero | tr '\\0' x"),
    );
    assert_eq!(bulk.len(), 3_000_000);
}

fn curl_goes_through_a_socks_proxy(io: IoMode) {
    let nginx = Nginx::start();
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let rules = "  - service: socks-proxy\n    originRequest:\n      ipRules:\n      - {prefix: 127.0.0.0/8, allow: true}\n      \
                 - {prefix: '::1/128', allow: true}\n";
    let connector = site.connector(&tunnel).ingress(rules).start();
    connector.wait_connections(4);
    site.wait_served();
    let (_client, address) = listen(&mut client(&site, binary::adit(), HOST));
    let proxy = address.to_string();
    let url = nginx.url();
    let page = Curl::get(&url).arg("--socks5").arg(&proxy).run();
    assert_eq!(page.text(), "served by nginx\n");
    let by_name = url.replace("127.0.0.1", "localhost");
    let page = Curl::get(&by_name).arg("--socks5-hostname").arg(&proxy).run();
    assert_eq!(page.text(), "served by nginx\n");
    let denied = Curl::get("http://192.0.2.1/").arg("--socks5").arg(&proxy).run();
    assert_ne!(denied.exit, 0, "{denied:?}");
}

adit_tests::in_both_modes!(
    a_listener_carries_half_closed_connections,
    standard_input_and_output_are_one_connection,
    ssh_runs_through_a_proxy_command,
    curl_goes_through_a_socks_proxy,
);
