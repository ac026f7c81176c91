//! Programs that people put behind tunnels, with their own clients on the visitor's side.

use std::net::SocketAddr;
use std::process::{Command, Output};

use adit_tests::binary::{self, IoMode};
use adit_tests::deadline;
use adit_tests::origin::postgres::{self, Postgres};
use adit_tests::origin::python;
use adit_tests::origin::samba::{self, Samba};
use adit_tests::process::command;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::access;

/// What a client said that ended well.
#[track_caller]
fn run(client: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = binary::output(client);
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{text}{}", String::from_utf8_lossy(&stderr));
    text
}

/// A number of rows and a long value, both ways.
fn converse(address: SocketAddr) {
    let mut psql = postgres::client("psql", address);
    psql.args(["-d", "postgres", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
    psql.args([
        "-c",
        "SELECT sum(n), count(*) FROM generate_series(1, 100000) AS n",
    ]);
    psql.args([
        "-c",
        "SELECT length(string_agg(n::text, ',')) FROM generate_series(1, 300000) AS n",
    ]);
    psql.args(["-c", "SELECT repeat('x', 2000000)"]);
    let said = run(&mut psql);
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("5000050000|100000"));
    assert_eq!(lines.next(), Some("1988894"));
    assert_eq!(lines.next().map(str::len), Some(2_000_000));
}

fn a_database_by_raw_port_and_by_access(io: IoMode) {
    let database = Postgres::start();
    let site = SiteSettings::new(io)
        .tcp("[{listen: '127.0.0.1:0', hostname: app.example.test}]")
        .start();
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &format!("tcp://{}", database.address));
    let port = site.edge.addresses.tcp[0];
    converse(port);
    run(postgres::client("pgbench", port).args(["-i", "-q", "-s", "1", "postgres"]));
    let bench = run(postgres::client("pgbench", port).args(["-n", "-c", "4", "-t", "25", "postgres"]));
    assert!(
        bench.contains("transactions actually processed: 100/100"),
        "{bench}"
    );
    let (_client, address) = access::listen(&mut access::client(&site, binary::adit(), HOST));
    converse(address);
}

fn files_of_a_server_for_windows(io: IoMode) {
    let files = Samba::start();
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &format!("smb://{}", files.address));
    let smb = access::client_of(&site, binary::adit(), "smb", HOST);
    let (_client, address) = access::listen(&mut { smb });
    let folder = tempfile::tempdir().expect("a temp dir");
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(&there, &content).expect("a fresh file");
    let orders = format!(
        "mkdir sub; put {} sub/file; get sub/file {}; ls sub\\*",
        there.display(),
        back.display()
    );
    let said = run(&mut samba::client(address, &orders));
    assert!(said.contains(" 3000000 "), "{said}");
    assert!(std::fs::read(files.share().join("sub/file")).expect("a file") == content);
    assert!(std::fs::read(back).expect("a file") == content);
}

fn an_application_server_on_a_unix_socket(io: IoMode) {
    let folder = tempfile::tempdir().expect("a temp dir");
    let socket = folder.path().join("app.sock");
    let _server = python::gunicorn(&socket);
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &format!("unix:{}", socket.display()));
    let root = &site.certificate.certificate;
    for version in ["--http1.1", "--http2"] {
        let visit = |path: &str| {
            let url = format!("https://{HOST}{path}");
            let curl = adit_tests::visitor::curl::Curl::get(&url);
            curl.connect_to(site.edge.https()).trust(root).arg(version)
        };
        let got = visit("/a/b?c").run();
        assert_eq!(got.text(), format!("GET /a/b {HOST} 0"), "{version}");
        assert_eq!(got.version, version.trim_start_matches("--http"));
        for size in [1, 70_000, 1 << 20] {
            let known = visit("/put").method("PUT").post(vec![b'x'; size]).run();
            assert_eq!(known.text(), format!("PUT /put {HOST} {size}"), "{version}");
            let unknown = visit("/post").post_unsized(vec![b'x'; size]).run();
            assert_eq!(unknown.text(), format!("POST /post {HOST} {size}"), "{version}");
        }
    }
}

fn websockets_of_a_library_both_ways(io: IoMode) {
    let (_server, origin) = python::websockets();
    let site = SiteSettings::new(io).cores(2).start();
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &format!("http://{origin}"));
    for _ in 0..4 {
        let said = run(&mut python::websockets_client(site.edge.http(), HOST));
        assert_eq!(said, "all said\n");
    }
}

/// The cases of the Autobahn suite, as kosoku runs them: framing, fragments, pings, reserved bits, UTF-8, the
/// closing handshake. Speed (9) and compression (12, 13) are left out: they concern the ends alone.
fn the_autobahn_suite_passes_through(io: IoMode) {
    let (_server, origin) = python::websockets();
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    // The suite asks for the host by which it connects.
    site.control.route(&tunnel, "localhost");
    let _connector = site.serve(&tunnel, &format!("http://{origin}"));
    deadline::until_true("the edge to know the name", deadline::STEP, || {
        !adit_tests::site::is_error_page(&site.visit_host("localhost", "/").run())
    });
    let reports = tempfile::tempdir().expect("a temp dir");
    let mut suite = command("kosoku");
    suite
        .args(["-x", "9.*", "-x", "12.*", "-x", "13.*", "-p", "4", "-o"])
        .arg(reports.path());
    let said = run(suite.arg(format!("localhost:{}", site.edge.http().port())));
    assert!(said.contains("247 cases passed"), "{said}");
}

adit_tests::in_both_modes!(
    a_database_by_raw_port_and_by_access,
    files_of_a_server_for_windows,
    an_application_server_on_a_unix_socket,
    websockets_of_a_library_both_ways,
    the_autobahn_suite_passes_through,
);
