//! What is refused, and how clearly: secrets, tunnels, configuration, certificates.

use std::net::SocketAddr;
use std::process::Output;

use adit_tests::binary;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::process::{Process, command};
use adit_tests::site::connector::Credentials;
use adit_tests::site::edge::{EdgeAddresses, EdgeSettings};
use adit_tests::site::{Site, SiteSettings};
use serde_json::{Value, json};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn a_wrong_secret_is_refused_and_disturbs_nobody(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let good = site.serve(&tunnel, &nginx.url());
    let mut forged: Value =
        serde_json::from_slice(&std::fs::read(&tunnel.credentials).expect("credentials")).expect("JSON");
    forged["TunnelSecret"] = json!("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let forged = site.write("forged.json", &forged.to_string());
    let mut thief = site
        .connector(&tunnel)
        .credentials(Credentials::File(forged))
        .service("http_status:418")
        .start();
    thief.process.wait_line("Unauthorized", deadline::STEP);
    let refusals = |site: &Site| site.edge.metrics().sum("edge_registrations_refused_total", &[]);
    deadline::until_true("the refusal to be counted", deadline::STEP, || {
        refusals(&site) >= 1.0
    });
    for _ in 0..20 {
        assert_eq!(site.visit("/").run().text(), "served by nginx\n");
    }
    assert_eq!(thief.ready().map(|(count, _)| count), Some(0));
    good.wait_connections(4);
}

fn unknown_and_deleted_tunnels_are_refused(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let text = std::fs::read_to_string(&tunnel.credentials).expect("credentials");
    let unknown = text.replace(&tunnel.id.to_string(), "11111111-2222-3333-4444-555555555555");
    let unknown = site.write("unknown.json", &unknown);
    let mut stranger = site.connector(&tunnel);
    stranger.tunnel = "11111111-2222-3333-4444-555555555555".parse().expect("a UUID");
    let mut stranger = stranger
        .credentials(Credentials::File(unknown))
        .service("http_status:418")
        .start();
    stranger.process.wait_line("Unauthorized", deadline::STEP);
    // Deleting removes the credentials file that the CLI knows. A copy in a thief's hands must not work
    // either.
    let copy = site.write("copy.json", &text);
    site.control.run(["delete", "lab"]);
    let mut late = site
        .connector(&tunnel)
        .credentials(Credentials::File(copy))
        .service("http_status:418")
        .start();
    late.process.wait_line("Unauthorized", deadline::STEP);
}

fn a_broken_edge_configuration_is_explained(io: IoMode) {
    let site = Site::start(io);
    let base = std::fs::read_to_string(site.edge.folder().join("edge.yml")).expect("the edge's file");
    let check = |text: &str| {
        let file = site.write("edge.yml", text);
        let checked = binary::output(
            command(binary::adit())
                .args(["edge", "--check", "--config"])
                .arg(&file),
        );
        let ran = binary::output(command(binary::adit()).args(["edge", "--config"]).arg(&file));
        assert_eq!(ran.status.code(), Some(1), "{}", self::text(&ran));
        assert_eq!(checked.status.code(), Some(1), "{}", self::text(&checked));
        assert!(
            self::text(&checked).contains("edge.yml"),
            "{}",
            self::text(&checked)
        );
        self::text(&checked)
    };
    let said = check(&format!("{base}\nacess-log: x\n"));
    assert!(
        said.contains("acess-log") && said.contains("access-log"),
        "{said}"
    );
    let said = check(&format!("{base}\nname: [\n"));
    assert!(said.contains("line"), "where the YAML breaks: {said}");
    let said = check(&base.replace("admin: '127", "admin: 'x127"));
    assert!(said.contains("admin"), "{said}");
    let missing = site.folder().join("no-such.pem").display().to_string();
    let certificate = site.certificate.certificate.display().to_string();
    let said = check(&base.replace(&certificate, &missing));
    assert!(said.contains("no-such.pem"), "{said}");
    let garbage = site
        .write("garbage.pem", "not a certificate")
        .display()
        .to_string();
    let said = check(&base.replace(&certificate, &garbage));
    assert!(said.contains("garbage.pem"), "{said}");
    let whole = std::fs::read_to_string(&certificate).expect("a certificate");
    let cut = whole.get(..whole.len() / 2).expect("it is ASCII");
    let cut = site.write("cut.pem", cut).display().to_string();
    let said = check(&base.replace(&certificate, &cut));
    assert!(
        said.contains("cut.pem: it is cut off: a section lacks its line \"-----END CERTIFICATE-----\""),
        "{said}"
    );
    let good = site.write("edge.yml", &base);
    let done = binary::output(
        command(binary::adit())
            .args(["edge", "--check", "--config"])
            .arg(&good),
    );
    assert!(done.status.success(), "{}", text(&done));
}

fn a_taken_port_is_explained(io: IoMode) {
    let site = Site::start(io);
    let base = std::fs::read_to_string(site.edge.folder().join("edge.yml")).expect("the edge's file");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = site.folder().join("second");
    std::fs::create_dir(&folder).expect("a fresh folder");
    let state = site.edge.folder().display().to_string();
    let file = folder.join("edge.yml");
    let text = base.replace(
        &format!("state-dir: {state}"),
        &format!("state-dir: {}", folder.display()),
    );
    let text = text.replacen("http: ['127.0.0.1:0']", &format!("http: ['{address}']"), 1);
    std::fs::write(&file, text).expect("a fresh file");
    let done = binary::output(command(binary::adit()).args(["edge", "--config"]).arg(&file));
    let said = self::text(&done);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&address) && said.to_lowercase().contains("in use"),
        "{said}"
    );
}

/// With several cores the listeners share their port among themselves, but with nobody else.
fn a_second_edge_on_the_same_ports_is_refused(io: IoMode) {
    let site = SiteSettings::new(io).cores(2).start();
    let first = &site.edge;
    let folder = site.folder().join("second");
    std::fs::create_dir(&folder).expect("a fresh folder");
    let any: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0));
    let taken = &first.addresses;
    for (tunnel, http, https) in [
        (taken.tunnel, any, any),
        (any, taken.http[0], any),
        (any, any, taken.https[0]),
    ] {
        let settings = EdgeSettings {
            folder: folder.clone(),
            ..first.settings().clone()
        };
        let listen = EdgeAddresses {
            tunnel,
            http: vec![http],
            https: vec![https],
            tcp: Vec::new(),
            admin: any,
        };
        let file = folder.join("edge.yml");
        std::fs::write(&file, settings.render(&listen)).expect("a file in the temp dir");
        let mut second = command(binary::adit());
        let mut second = Process::start(
            "second",
            second.args(["edge", "--cores", "2", "--config"]).arg(&file),
        );
        second.wait_line("in use", deadline::STEP);
        assert_eq!(second.wait_exit(deadline::STEP).code(), Some(1));
    }
}

fn a_broken_command_line_ends_with_usage(_io: IoMode) {
    let run = |arguments: &[&str]| binary::output(command(binary::adit()).args(arguments));
    for arguments in [&["edge"][..], &["edge", "--no-such"], &["no-such"], &["up"]] {
        let done = run(arguments);
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {}", text(&done));
    }
    assert!(run(&["version"]).status.success());
    assert!(run(&["--help"]).status.success());
    let missing = run(&["control", "--config", "/no/such/control.yml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        text(&missing).contains("/no/such/control.yml"),
        "{}",
        text(&missing)
    );
}

fn a_connector_that_does_not_trust_the_edge_does_not_connect(io: IoMode) {
    let (nginx, site) = (Nginx::start(), SiteSettings::new(io).start());
    let tunnel = site.tunnel("lab");
    let mut wary = site.connector(&tunnel).service(&nginx.url());
    wary.cacert.clone_from(&site.certificate.certificate);
    let mut wary = wary.start();
    let line = wary.process.wait_line("certificate", deadline::STEP);
    let cacert = site.certificate.certificate.display().to_string();
    assert!(line.contains("give --cacert") && line.contains(&cacert), "{line}");
    assert_eq!(wary.ready().map(|(count, _)| count), Some(0));
}

adit_tests::in_both_modes!(
    a_wrong_secret_is_refused_and_disturbs_nobody,
    unknown_and_deleted_tunnels_are_refused,
    a_broken_edge_configuration_is_explained,
    a_taken_port_is_explained,
    a_second_edge_on_the_same_ports_is_refused,
    a_broken_command_line_ends_with_usage,
    a_connector_that_does_not_trust_the_edge_does_not_connect,
);
