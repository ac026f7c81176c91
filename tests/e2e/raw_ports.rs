//! Raw ports: real programs reach TCP services behind a tunnel without a client on their side.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use adit_tests::binary::{self, IoMode};
use adit_tests::content::{Content, sha256_of};
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::redis::{self, Redis};
use adit_tests::origin::refused_address;
use adit_tests::origin::ssh::Ssh;
use adit_tests::origin::tcp::{self, Manner};
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site, SiteSettings};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The raw port of [`HOST`].
const PORT: &str = "[{listen: '127.0.0.1:0', hostname: app.example.test}]";

/// Bytes of a big flow, in each direction.
const BULK_BYTES: u64 = 24 << 20;

/// A site with a raw port for [`HOST`], whose connector serves `service`.
fn serve(io: IoMode, cores: u16, service: &str) -> (Site, Connector) {
    let site = SiteSettings::new(io).cores(cores).tcp(PORT).start();
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, service);
    (site, connector)
}

fn port(site: &Site) -> SocketAddr {
    site.edge.addresses.tcp[0]
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the edge listens");
    stream
        .set_read_timeout(Some(deadline::STEP))
        .expect("a socket option");
    stream
}

/// Sends everything while it receives, and ends its side. Returns how much came back, and its digest.
fn converse(address: SocketAddr, content: Content) -> (u64, String) {
    let mut stream = connect(address);
    let mut writer = stream.try_clone().expect("a descriptor");
    let saying = thread::spawn(move || {
        let mut content = content;
        std::io::copy(&mut content, &mut writer).expect("the edge takes bytes");
        writer.shutdown(Shutdown::Write).expect("an open connection");
    });
    let heard = sha256_of(&mut stream).expect("an end in order");
    saying.join().expect("all was said");
    heard
}

fn bytes_and_half_closes_pass(io: IoMode) {
    let (site, _connector) = serve(io, 2, &format!("tcp://{}", tcp::start(Manner::Echo)));
    for seed in 0..4 {
        let heard = converse(port(&site), Content::new(seed, BULK_BYTES));
        assert_eq!(heard, (BULK_BYTES, Content::sha256(seed, BULK_BYTES)));
    }
    drop(site);
    let (site, _connector) = serve(io, 1, &format!("tcp://{}", tcp::start(Manner::Count)));
    for size in [0, 1, 100_000, 3_000_000] {
        let mut stream = connect(port(&site));
        stream.write_all(&vec![7; size]).expect("the edge takes bytes");
        stream.shutdown(Shutdown::Write).expect("an open connection");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("an end in order");
        assert_eq!(heard, format!("heard {size} bytes"));
    }
}

fn an_origin_that_ends_first_still_hears(io: IoMode) {
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let address = origin.local_addr().expect("a bound socket has an address");
    let hearing = thread::spawn(move || {
        // The first connections are those of visitors who found out whether the site is up.
        let mut all = String::new();
        while all != "said after the end" {
            let (mut stream, _) = origin.accept().expect("a connection");
            stream.write_all(b"bye").expect("the connector takes bytes");
            stream.shutdown(Shutdown::Write).expect("an open connection");
            all.clear();
            stream.read_to_string(&mut all).expect("an end in order");
        }
    });
    let (site, _connector) = serve(io, 1, &format!("tcp://{address}"));
    let mut stream = connect(port(&site));
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("an end in order");
    assert_eq!(heard, "bye");
    stream.write_all(b"said after ").expect("an open connection");
    stream.write_all(b"the end").expect("an open connection");
    drop(stream);
    hearing.join().expect("the origin heard it");
}

fn ssh_needs_no_client(io: IoMode) {
    let sshd = Ssh::start();
    let (site, _connector) = serve(io, 1, &format!("ssh://{}", sshd.address));
    let said = binary::succeed(sshd.direct_client(port(&site)).arg("echo said by $((6 * 7))"));
    assert_eq!(said, "said by 42\n");
    let file = site.folder().join("upload");
    let digest = Content::write(1, 5_000_000, &file).expect("a file in the temp dir");
    let input = Stdio::from(std::fs::File::open(&file).expect("the file"));
    let told = binary::succeed(sshd.direct_client(port(&site)).arg("sha256sum").stdin(input));
    assert!(told.starts_with(&digest), "{told}");
    let cat = format!("cat {}", file.display());
    let heard = binary::output(sshd.direct_client(port(&site)).arg(cat)).stdout;
    let (_, back) = sha256_of(&mut heard.as_slice()).expect("bytes in memory");
    assert_eq!(back, digest);
}

fn a_database_needs_no_client(io: IoMode) {
    let server = Redis::start();
    let (site, _connector) = serve(io, 1, &format!("tcp://{}", server.address));
    let ask = |words: &[&str]| binary::succeed(redis::client(port(&site)).args(words));
    assert_eq!(ask(&["set", "key", "value"]), "OK\n");
    assert_eq!(ask(&["get", "key"]), "value\n");
    let bench = "for i = 1, 1000 do redis.call('rpush', 'list', i) end return redis.call('llen', 'list')";
    assert_eq!(ask(&["eval", bench, "0"]), "1000\n");
    assert_eq!(ask(&["lrange", "list", "0", "-1"]).lines().count(), 1000);
}

/// The lines of the access log about raw ports.
fn flows(site: &Site) -> Vec<Value> {
    let log = std::fs::read_to_string(site.edge.folder().join("access.log")).unwrap_or_default();
    let lines = log.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    lines.filter(|line: &Value| line["protocol"] == "tcp").collect()
}

fn wait_flow(site: &Site, count: usize) -> Value {
    deadline::until("the flow to be logged", deadline::STEP, || {
        flows(site).into_iter().nth(count)
    })
}

/// Connects, says something and is reset.
fn assert_reset(address: SocketAddr) {
    let mut stream = connect(address);
    let broken = stream
        .write_all(b"anybody?")
        .and_then(|()| stream.read(&mut [0; 64]));
    let kind = broken.expect_err("a reset").kind();
    assert!(
        matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "{kind}"
    );
}

fn who_cannot_be_served_is_reset_and_the_log_says_why(io: IoMode) {
    let ports = "[{listen: '127.0.0.1:0', hostname: app.example.test}, {listen: '127.0.0.1:0', hostname: nobody.example.test}, \
                 {listen: '127.0.0.1:0', hostname: dead.example.test}, {listen: '127.0.0.1:0', hostname: web.example.test}]";
    let mut site = SiteSettings::new(io)
        .tcp(ports)
        .edge_lines("access-log: access.log\n")
        .start();
    let tunnel = site.tunnel("lab");
    for host in ["dead.example.test", "web.example.test"] {
        site.control.route(&tunnel, host);
    }
    let nginx = Nginx::start();
    let rules = format!(
        "  - hostname: dead.example.test\n    service: tcp://{}\n  - hostname: web.example.test\n    service: {}\n  - service: tcp://{}\n",
        refused_address(),
        nginx.url(),
        tcp::start(Manner::Echo),
    );
    let mut connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    site.wait_served();
    deadline::until_true("the routes", deadline::STEP, || {
        site.visit_host("web.example.test", "/").run().status == 200
    });
    let ports = site.edge.addresses.tcp.clone();
    for (count, (port, code)) in [
        (1, "hostname-unknown"),
        (2, "origin-unreachable"),
        (3, "origin-bad-response"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_reset(ports[port]);
        let line = wait_flow(&site, count);
        assert_eq!(line["error"], code, "{line}");
        assert!(line["method"].is_null() && line["path"].is_null(), "{line}");
    }
    let heard = converse(ports[0], Content::new(1, 1000));
    assert_eq!(heard.0, 1000);
    let line = wait_flow(&site, 3);
    assert_eq!(
        (
            &line["host"],
            &line["status"],
            &line["error"],
            &line["bytes_in"],
            &line["bytes_out"]
        ),
        (
            &HOST.into(),
            &101.into(),
            &Value::Null,
            &1000.into(),
            &1000.into()
        ),
        "{line}"
    );
    assert_eq!(line["client"], "127.0.0.1");
    connector.process.kill();
    deadline::until_true("the tunnel to be down", deadline::STEP, || {
        site.visit("/").run().status == 503
    });
    assert_reset(ports[0]);
    assert_eq!(wait_flow(&site, 4)["error"], "tunnel-no-connection");
    let metrics = site.edge.metrics();
    assert_eq!(metrics.sum("edge_exchanges_in_flight", &[]), 0.0);
    assert!(site.edge.process.terminate(Duration::from_secs(10)).success());
}

/// An origin that says `hello`, and then tells how its connection ended: whether by a reset.
fn ending_origin() -> (SocketAddr, std::sync::mpsc::Receiver<bool>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let (told, ends) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let told = told.clone();
            thread::spawn(move || {
                let mut heard = [0; 1];
                stream.write_all(b"hello").ok();
                let is_reset = loop {
                    match stream.read(&mut heard) {
                        Ok(0) => break false,
                        // Closed with bytes that nobody has read, a connection is reset.
                        Ok(_) if heard == *b"r" => return,
                        Ok(_) => {}
                        Err(_) => break true,
                    }
                };
                // The test may have ended.
                told.send(is_reset).ok();
            });
        }
    });
    (address, ends)
}

fn resets_pass_in_both_directions(io: IoMode) {
    let (origin, ends) = ending_origin();
    let (site, _connector) = serve(io, 1, &format!("tcp://{origin}"));
    while ends.recv_timeout(Duration::from_millis(10)).is_ok() {}
    let mut stream = connect(port(&site));
    stream.write_all(b"x").expect("the edge takes bytes");
    // Left with bytes that were not read, which resets the connection.
    stream.peek(&mut [0; 5]).expect("the greeting");
    drop(stream);
    assert!(
        ends.recv_timeout(deadline::STEP).expect("an end"),
        "the origin is reset"
    );

    let mut stream = connect(port(&site));
    stream.write_all(b"r").expect("the edge takes bytes");
    stream.write_all(&[b'x'; 100_000]).expect("the edge takes bytes");
    let mut heard = Vec::new();
    let kind = stream.read_to_end(&mut heard).expect_err("a reset").kind();
    assert_eq!(kind, ErrorKind::ConnectionReset);

    let mut stream = connect(port(&site));
    stream.read_exact(&mut [0; 5]).expect("the greeting");
    drop(stream);
    assert!(
        !ends.recv_timeout(deadline::STEP).expect("an end"),
        "the origin hears an end in order"
    );
}

/// An origin that says `bytes` to everybody and counts what it could say.
fn flooding_origin(bytes: u64) -> (SocketAddr, std::sync::Arc<std::sync::atomic::AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let said = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = said.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut content = Content::new(9, bytes);
            let mut chunk = vec![0; 64 << 10];
            loop {
                let count = content.read(&mut chunk).expect("generated bytes");
                if count == 0 || stream.write_all(&chunk[..count]).is_err() {
                    break;
                }
                counter.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    (address, said)
}

fn a_slow_visitor_holds_the_origin_back(io: IoMode) {
    const FLOOD_BYTES: u64 = 256 << 20;
    let (origin, said) = flooding_origin(FLOOD_BYTES);
    let (site, _connector) = serve(io, 1, &format!("tcp://{origin}"));
    let said = || said.load(std::sync::atomic::Ordering::Relaxed);
    let (before, resident) = (said(), site.edge.process.memory().resident);
    let mut stream = connect(port(&site));
    let mut last = before;
    let mut looks = 0;
    deadline::until_true("the origin to be held back", deadline::STEP, || {
        looks = if said() == last && last > before {
            looks + 1
        } else {
            0
        };
        last = said();
        looks == 10
    });
    let ahead = last - before;
    let grown = site.edge.process.memory().resident.saturating_sub(resident);
    assert!(ahead < FLOOD_BYTES / 2, "{ahead} bytes are under way");
    assert!(grown < 32 << 20, "the edge holds {grown} bytes");
    let heard = sha256_of(&mut stream).expect("an end in order");
    assert_eq!(heard, (FLOOD_BYTES, Content::sha256(9, FLOOD_BYTES)));
}

fn a_draining_edge_lets_flows_run(io: IoMode) {
    let (mut site, _connector) = serve(io, 2, &format!("tcp://{}", tcp::start(Manner::Echo)));
    let address = port(&site);
    let mut stream = connect(address);
    let mut echo = |text: &[u8; 4]| {
        stream.write_all(text).expect("the edge takes bytes");
        let mut back = [0; 4];
        stream.read_exact(&mut back).expect("the echo");
        assert_eq!(&back, text);
    };
    echo(b"left");
    site.edge.process.signal(Signal::SIGTERM);
    deadline::until_true("new visitors to be refused", deadline::STEP, || {
        TcpStream::connect(address).is_err()
    });
    echo(b"over");
    assert!(site.edge.process.exited().is_none(), "it still works");
    drop(stream);
    assert!(site.edge.process.wait_exit(deadline::STEP).success());
}

adit_tests::in_both_modes!(
    bytes_and_half_closes_pass,
    an_origin_that_ends_first_still_hears,
    ssh_needs_no_client,
    a_database_needs_no_client,
    who_cannot_be_served_is_reset_and_the_log_says_why,
    resets_pass_in_both_directions,
    a_slow_visitor_holds_the_origin_back,
    a_draining_edge_lets_flows_run,
);
