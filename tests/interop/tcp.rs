//! TCP services: the stock client with our connector, and our client with the stock connector.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use adit_tests::binary::{self, IoMode};
use adit_tests::content::{Content, sha256_of};
use adit_tests::deadline;
use adit_tests::origin::ssh::Ssh;
use adit_tests::origin::tcp::{self, Manner};
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::access::{client, listen, pipe};

use crate::{Over, over_both};

fn ssh_runs_through_the_stock_client(io: IoMode) {
    let Some(stock) = crate::stock("ssh_runs_through_the_stock_client") else {
        return;
    };
    let (sshd, site) = (Ssh::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &format!("ssh://{}", sshd.address));
    // The stock client takes the address it dials for the server's name, unless it gets both. Then it trusts
    // anybody.
    let proxy = format!(
        "{} access ssh --hostname %h --connect-to {HOST}:{}:127.0.0.1",
        stock.display(),
        site.edge.https().port()
    );
    let bulk = binary::succeed(
        sshd.client(HOST, &proxy)
            .arg("head -c 3000000 /dev/zero | tr '\\0' x"),
    );
    assert_eq!(bulk.len(), 3_000_000);
}

fn our_client_speaks_with_the_stock_connector(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("our_client_speaks_with_the_stock_connector") else {
        return;
    };
    let (sshd, site) = (Ssh::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = site
        .connector_of(adit_tests::site::connector::Program::Stock(stock), &tunnel)
        .run_flags(over.flags())
        .service("bastion")
        .start();
    connector.wait_connections(4);
    let (_client, address) =
        listen(client(&site, binary::adit(), HOST).args(["--destination", &sshd.address.to_string()]));
    let proxy = format!(
        "bash -c 'exec 3<>/dev/tcp/{}/{}; cat <&3 & cat >&3'",
        address.ip(),
        address.port()
    );
    let said = binary::succeed(sshd.client(HOST, &proxy).arg("echo said by $((6 * 7))"));
    assert_eq!(said, "said by 42\n");
    let greet = tcp::start(Manner::Greet).to_string();
    let mut piped = client(&site, binary::adit(), HOST);
    let done = pipe(piped.args(["--destination", &greet]), b"");
    assert_eq!(
        (done.status.code(), &done.stdout[..]),
        (Some(0), &b"hello"[..]),
        "{done:?}"
    );
}

fn a_raw_port_leads_to_the_stock_connector(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("a_raw_port_leads_to_the_stock_connector") else {
        return;
    };
    let ports = "[{listen: '127.0.0.1:0', hostname: app.example.test}, {listen: '127.0.0.1:0', hostname: echo.example.test}]";
    let (sshd, site) = (Ssh::start(), SiteSettings::new(io).cores(2).tcp(ports).start());
    let tunnel = site.tunnel("lab");
    site.control.route(&tunnel, "echo.example.test");
    let rules = format!(
        "  - hostname: {HOST}\n    service: ssh://{}\n  - hostname: echo.example.test\n    service: tcp://{}\n  - service: http_status:404\n",
        sshd.address,
        tcp::start(Manner::Echo)
    );
    let connector = site
        .connector_of(adit_tests::site::connector::Program::Stock(stock), &tunnel)
        .run_flags(over.flags())
        .ingress(&rules)
        .start();
    connector.wait_connections(4);
    let ports = &site.edge.addresses.tcp;
    deadline::until_true("the port to lead to the origin", deadline::STEP, || {
        let mut stream = TcpStream::connect(ports[1]).expect("the edge listens");
        stream
            .write_all(b"?")
            .and_then(|()| stream.read_exact(&mut [0]))
            .is_ok()
    });
    let bulk = binary::succeed(
        sshd.direct_client(ports[0])
            .arg("head -c 3000000 /dev/zero | tr '\\0' x"),
    );
    assert_eq!(bulk.len(), 3_000_000);
    // The end of this side is held back until the echo has been silent, so all of it comes back.
    const BYTES: u64 = 3_000_000;
    let mut stream = TcpStream::connect(ports[1]).expect("the edge listens");
    let mut writer = stream.try_clone().expect("a descriptor");
    let saying = std::thread::spawn(move || {
        std::io::copy(&mut Content::new(1, BYTES), &mut writer).expect("the edge takes bytes");
        writer.shutdown(Shutdown::Write).expect("an open connection");
    });
    let heard = sha256_of(&mut stream).expect("an end in order");
    saying.join().expect("all was said");
    assert_eq!(heard, (BYTES, Content::sha256(1, BYTES)));
}

adit_tests::in_both_modes!(ssh_runs_through_the_stock_client);
over_both!(
    a_raw_port_leads_to_the_stock_connector,
    our_client_speaks_with_the_stock_connector,
);
