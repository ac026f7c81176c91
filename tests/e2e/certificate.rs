//! Certificates of the public listeners: chosen by name, and replaced while visitors come.

use adit_tests::binary;
use adit_tests::binary::IoMode;
use adit_tests::certificate::Certificate;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::process::command;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::curl::Curl;

/// A visit that trusts only the certificate that was in `root` when it was copied.
fn visit(site: &Site, host: &str, root: &std::path::Path) -> Curl {
    Curl::get(&format!("https://{host}/"))
        .connect_to(site.edge.https())
        .trust(root)
}

fn a_certificate_changed_on_disk_is_picked_up(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &nginx.url());
    let (old, new) = (site.folder().join("old.pem"), site.folder().join("new.pem"));
    std::fs::copy(&site.certificate.certificate, &old).expect("a copy");
    assert_eq!(visit(&site, HOST, &old).run().status, 200);

    Certificate::create(site.folder(), "public", &[HOST, "*.example.test"]);
    std::fs::copy(&site.certificate.certificate, &new).expect("a copy");
    deadline::until_true("the new certificate", deadline::STEP, || {
        visit(&site, HOST, &new).run().status == 200
    });
    assert_eq!(visit(&site, HOST, &old).run().exit, 60, "the old one is gone");

    // A broken file changes nothing.
    std::fs::write(&site.certificate.certificate, "not a certificate").expect("it can be overwritten");
    let mark = "certificate";
    deadline::until_true("a complaint about the file", deadline::STEP, || {
        site.edge
            .process
            .log()
            .lines()
            .any(|line| line.contains(mark) && (line.contains("WRN") || line.contains("ERR")))
    });
    assert_eq!(visit(&site, HOST, &new).run().status, 200);
}

fn certificates_are_chosen_by_name(io: IoMode) {
    let folder = tempfile::tempdir().expect("a temp dir");
    let special = Certificate::create(folder.path(), "special", &["special.example.test"]);
    let (cert, key) = (special.certificate.display(), special.key.display());
    // The site's own certificate comes first in the list, so it is the default.
    let site = SiteSettings::new(io)
        .edge_lines(&format!("  - {{cert: {cert}, key: {key}}}\n"))
        .start();
    let tunnel = site.tunnel("lab");
    for host in ["special.example.test", "wild.example.test"] {
        site.control.route(&tunnel, host);
    }
    let connector = site.connector(&tunnel).service("http_status:204").start();
    connector.wait_connections(4);
    let public = &site.certificate.certificate;
    for (host, root) in [
        (HOST, public),
        ("wild.example.test", public),
        ("special.example.test", &special.certificate),
    ] {
        deadline::until_true(&format!("{host} to be served"), deadline::STEP, || {
            visit(&site, host, root).run().status == 204
        });
    }
    assert_eq!(visit(&site, "special.example.test", public).run().exit, 60);
}

fn an_expired_certificate_is_told(io: IoMode) {
    let folder = tempfile::tempdir().expect("a temp dir");
    let old = Certificate::expired(folder.path(), "old", "old.example.test");
    let (cert, key) = (old.certificate.display().to_string(), old.key.display());
    let mut site = SiteSettings::new(io)
        .edge_lines(&format!("  - {{cert: {cert}, key: {key}}}\n"))
        .start();
    let line = site
        .edge
        .process
        .wait_line("a certificate cannot be accepted", deadline::STEP);
    let expired = "has expired on 2020-01-31 00:00 UTC";
    assert!(line.contains(&cert) && line.contains(expired), "{line}");
    let ends = |purpose, file: &str| {
        let labels = [("use", purpose), ("file", file)];
        site.edge
            .metrics()
            .sum("edge_certificate_not_after_seconds", &labels)
    };
    assert_eq!(ends("public", &cert), 1_580_428_800.0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
    assert!(ends("tunnel", "") > now.as_secs_f64());

    let checked = binary::output(
        command(binary::adit())
            .args(["edge", "--check", "--config"])
            .arg(site.edge.folder().join("edge.yml")),
    );
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains(&cert) && said.contains(expired), "{said}");
}

adit_tests::in_both_modes!(
    an_expired_certificate_is_told,
    a_certificate_changed_on_disk_is_picked_up,
    certificates_are_chosen_by_name
);
