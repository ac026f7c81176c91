//! An edge on another host: it attaches to control over TCP, where both show certificates of control's own
//! authority.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_control::ca::Ca;
use adit_control_api::edge_link::{ALPN, CONTROL_TLS_NAME};
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::site::control::{Control, ControlSettings};
use adit_tests::site::edge::{ControlLink, EdgeSettings};
use adit_tests::site::{EDGE, HOST, Site, SiteSettings};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

/// Longer ago than a link certificate lives.
const LONG_AGO: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// What an edge says that control turned away, and one that did not trust what it found.
const NOT_ATTACHED: &str = "control does not let this edge attach";
const NOT_REACHED: &str = "control is not reachable";

fn is_attached(site: &Site) -> bool {
    site.edge.metrics().sum("edge_control_attached", &[]) > 0.5
}

fn a_visitor_is_served_through_a_remote_edge(io: IoMode) {
    let (nginx, mut site) = (Nginx::start(), SiteSettings::new(io).remote().start());
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &nginx.url());
    assert_eq!(site.visit("/").run().text(), "served by nginx\n");
    assert_eq!(site.visit_tls("/").run().status, 200);
    assert!(is_attached(&site));
    deadline::until_true("control to know the connections", deadline::STEP, || {
        site.control.connection_count(&tunnel) == 4
    });
    // Orders of control arrive too.
    site.control.run(["cleanup", "lab"]);
    site.edge
        .process
        .wait_line("control closes connections", deadline::STEP);
    connector.wait_connections(4);
    site.wait_served();
}

fn new_routes_arrive_after_control_was_killed(io: IoMode) {
    let (nginx, mut site) = (Nginx::start(), SiteSettings::new(io).remote().start());
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &nginx.url());
    for host in ["one.example.test", "two.example.test"] {
        site.control.process.kill();
        deadline::until_true("the edge to be alone", deadline::STEP, || !is_attached(&site));
        assert_eq!(site.visit("/").run().status, 200, "alone, the edge serves on");
        site.control.start_again();
        deadline::until_true("the edge to be attached again", deadline::STEP, || {
            is_attached(&site)
        });
        site.control.route(&tunnel, host);
        deadline::until_true("the new route to be served", deadline::STEP, || {
            site.visit_host(host, "/").run().status == 200
        });
    }
    deadline::until_true("control to know the connections", deadline::STEP, || {
        site.control.connection_count(&tunnel) == 4
    });
}

/// A control that accepts remote edges and has a route to tell, and an edge in the making that comes with the
/// wrong papers.
struct Refusal {
    control: Control,
    edge: EdgeSettings,
    folder: tempfile::TempDir,
}

impl Refusal {
    fn prepare(io: IoMode) -> Self {
        let folder = tempfile::tempdir().expect("a temp dir");
        let control = Control::start(&ControlSettings {
            folder: folder.path().join("control"),
            lines: "edge-listen: {address: '127.0.0.1:0'}\n".to_owned(),
        });
        let tunnel = control.create("lab", &folder.path().join("lab.json"));
        control.route(&tunnel, HOST);
        let files = folder.path().join("issued");
        control.issue_edge(EDGE, &files);
        let edge = EdgeSettings {
            folder: folder.path().join("edge"),
            name: EDGE.to_owned(),
            io,
            cores: 1,
            control: ControlLink::Remote {
                address: control.edge_listen.expect("control listens for remote edges"),
                files,
            },
            certificates: Vec::new(),
            tcp: String::new(),
            accepts_proxy: false,
            lines: String::new(),
        };
        Self {
            control,
            edge,
            folder,
        }
    }

    fn files(&self) -> std::path::PathBuf {
        self.folder.path().join("issued")
    }

    /// Replaces the edge's certificate and key.
    fn give(&self, authority: &Path, name: &str, now: SystemTime) {
        let authority = Ca::open(authority).expect("an authority");
        let identity = authority.issue_edge_link(name, now).expect("a fit name");
        let write = |file: &str, text: &str| {
            std::fs::write(self.files().join(file), text).expect("a file in the temp dir");
        };
        write("edge.pem", &identity.certificate_pem);
        write("edge-key.pem", &identity.key_pem);
    }

    /// Starts the edge and sees it refused: what it says, why, and what control says.
    #[track_caller]
    fn check(&mut self, said: &str, why: &str, told_control: &str) {
        let mark = self.control.process.mark();
        let mut edge = self.edge.spawn();
        let line = edge.wait_line(said, deadline::STEP);
        assert!(line.contains("WRN") && line.contains(why), "{line}");
        self.control
            .process
            .wait_line_after(mark, told_control, deadline::STEP);
        assert!(!edge.log().contains("attached to control"), "{}", edge.log());
        assert!(edge.exited().is_none(), "it keeps asking");
        for file in ["snapshot.json", "tunnel-certificate.json", "addresses.json"] {
            assert!(!self.edge.folder.join(file).exists(), "{file}");
        }
        assert_eq!(self.control.metrics().sum("control_edges", &[]), 0.0);
    }
}

fn an_edge_with_wrong_papers_is_refused_and_told_why(io: IoMode) {
    let mut refusal = Refusal::prepare(io);
    let (own, foreign) = (
        refusal.folder.path().join("control"),
        refusal.folder.path().join("foreign"),
    );
    std::fs::create_dir(&foreign).expect("a folder in the temp dir");
    let now = SystemTime::now();

    refusal.give(&foreign, EDGE, now);
    refusal.check(NOT_ATTACHED, "UnknownCA", "UnknownIssuer");
    refusal.give(&own, EDGE, now - LONG_AGO);
    refusal.check(NOT_ATTACHED, "CertificateExpired", "certificate expired");
    refusal.give(&own, "edge2", now);
    refusal.check(
        NOT_ATTACHED,
        "the certificate is of edge",
        "certificate=edge2 edge=edge1",
    );
    // An edge that was pointed at a stranger's control does not talk to it.
    refusal.give(&own, EDGE, now);
    let root = std::fs::read(refusal.files().join("ca.pem")).expect("issued");
    std::fs::copy(foreign.join("ca.pem"), refusal.files().join("ca.pem")).expect("a copy");
    refusal.check(NOT_REACHED, "UnknownIssuer", "UnknownCA");

    // With the right papers put in place the same edge gets in, without a restart.
    let mut edge = refusal.edge.spawn();
    edge.wait_line(NOT_REACHED, deadline::STEP);
    std::fs::write(refusal.files().join("ca.pem"), root).expect("it can be overwritten");
    edge.wait_line("attached to control", deadline::STEP);
    deadline::until_true("the snapshot", deadline::STEP, || {
        refusal.edge.folder.join("snapshot.json").exists()
    });
}

/// Dials control as a client without a certificate and reads to the end: what came, and how it ended.
fn dial_without_certificate(control: &Control, root: &Path) -> (Vec<u8>, String) {
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_file(root).expect("a PEM file");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of the provider")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let name = ServerName::try_from(CONTROL_TLS_NAME).expect("a constant DNS name");
    let mut tls = rustls::ClientConnection::new(Arc::new(config), name).expect("a fit configuration");
    let address = control.edge_listen.expect("control listens for remote edges");
    let mut tcp = TcpStream::connect(address).expect("control listens");
    tcp.set_read_timeout(Some(deadline::STEP)).expect("a socket");
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    // Whatever a client says before it is refused must not matter.
    let said = stream.write_all(&[0; 64]);
    let mut heard = Vec::new();
    let ended = said.and_then(|()| stream.read_to_end(&mut heard));
    (
        heard,
        ended
            .expect_err("control does not end such a link politely")
            .to_string(),
    )
}

fn a_client_without_a_certificate_hears_nothing(io: IoMode) {
    let mut refusal = Refusal::prepare(io);
    let (heard, ended) = dial_without_certificate(&refusal.control, &refusal.control.ca());
    assert!(heard.is_empty(), "{heard:02x?}");
    assert!(ended.contains("CertificateRequired"), "{ended}");
    let line = refusal
        .control
        .process
        .wait_line("an edge failed the TLS handshake", deadline::STEP);
    assert!(
        line.contains("NoCertificatesPresented") || line.contains("no certificate"),
        "{line}"
    );
}

adit_tests::in_both_modes!(
    a_visitor_is_served_through_a_remote_edge,
    new_routes_arrive_after_control_was_killed,
    an_edge_with_wrong_papers_is_refused_and_told_why,
    a_client_without_a_certificate_hears_nothing,
);
