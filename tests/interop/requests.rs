//! Requests through the stock connector: methods, lengths, headers, big bodies.

use adit_tests::binary::IoMode;
use adit_tests::content::{self, Content};
use adit_tests::origin::nginx::{Nginx, SHORT_HEADERS};
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::connector::{Credentials, Program};
use adit_tests::site::control::result;
use adit_tests::site::{HOST, Site, SiteSettings};

use crate::{Over, over_both};

fn four_connections_register_and_requests_pass(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("four_connections_register_and_requests_pass") else {
        return;
    };
    let (nginx, site) = (Nginx::start(), SiteSettings::new(io).cores(2).start());
    let tunnel = site.tunnel("lab");
    let mut connector = crate::serve(stock, &site, &tunnel, &nginx.url(), over);
    for index in 0..4 {
        connector.process.wait_line(
            &format!("Registered tunnel connection connIndex={index}"),
            adit_tests::deadline::STEP,
        );
    }
    assert_eq!(site.control.connection_count(&tunnel), 4);
    for visit in [Site::visit as fn(&Site, &str) -> _, Site::visit_tls] {
        assert_eq!(visit(&site, "/").run().text(), "served by nginx\n");
        let head = visit(&site, "/h").method("HEAD").run();
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some("1024")),
            "{head:?}"
        );
        let known = visit(&site, "/discard").post("12345").run();
        assert_eq!(known.text(), "length=5 transfer= received=5", "{known:?}");
        let unknown = visit(&site, "/discard").post_unsized("12345").run();
        assert_eq!(
            unknown.text(),
            "length= transfer=chunked received=5",
            "{unknown:?}"
        );
        for status in [204, 304, 404, 500] {
            assert_eq!(visit(&site, &format!("/status/{status}")).run().status, status);
        }
        let big = visit(&site, "/headers").run();
        assert_eq!(
            big.headers
                .iter()
                .filter(|(name, _)| name.starts_with("x-short-"))
                .count(),
            SHORT_HEADERS
        );
    }
    // Over HTTP/2 such headers tell the connector what a request is; from a visitor they tell nothing.
    for line in [
        "Proxy-Connection-Upgrade: update-configuration",
        "Proxy-Src: visitor",
    ] {
        let steering = site.visit("/").header(&format!("Cf-Cloudflared-{line}")).run();
        assert_eq!(steering.text(), "served by nginx\n", "{steering:?}");
    }
    let told = site.visit_tls("/tell").run();
    assert_eq!(
        (told.line("host"), told.line("x-forwarded-proto")),
        (HOST.to_owned(), "https".to_owned())
    );
    assert_eq!(told.line("cf-connecting-ip"), "127.0.0.1");
    let load = site.load_tls("/h").width(8, 16).requests(2000);
    assert_eq!((load.succeeded, load.failed), (2000, 0), "{}", load.text);
}

fn big_bodies_pass_both_ways(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("big_bodies_pass_both_ways") else {
        return;
    };
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let _connector = crate::serve(stock, &site, &tunnel, &origin.url(), over);
    let mebibytes = std::env::var("ADIT_BULK_MIB")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or(64);
    let bytes = mebibytes << 20;
    let (file, target) = (site.folder().join("body"), site.folder().join("received"));
    let sha256 = Content::write(1, bytes, &file).expect("room for the body");
    let time = (60 + mebibytes).to_string();

    let done = site
        .visit(&format!("/bytes?count={bytes}&seed=1"))
        .arg("--max-time")
        .arg(&time)
        .into_file(&target)
        .run();
    assert_eq!((done.status, done.exit), (200, 0), "{}", done.error);
    let mut received = std::fs::File::open(&target).expect("curl wrote it");
    assert_eq!(
        content::sha256_of(&mut received).expect("it can be read"),
        (bytes, sha256.clone())
    );

    let up = site
        .visit_tls("/digest")
        .arg("--max-time")
        .arg(&time)
        .upload("POST", &file)
        .run();
    assert_eq!((up.word("bytes"), up.word("sha256")), (bytes.to_string(), sha256));
}

fn tokens_and_refusals(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("tokens_and_refusals") else {
        return;
    };
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let program = Program::Stock(stock);
    let token = site.control.token(&tunnel);
    let by_token = site
        .connector_of(program.clone(), &tunnel)
        .credentials(Credentials::Token(token));
    let by_token = by_token.run_flags(over.flags());
    let connector = by_token.run_flags(["--url", &nginx.url()]).start();
    connector.wait_connections(4);
    site.wait_served();
    assert_eq!(site.visit("/").run().text(), "served by nginx\n");

    let text = std::fs::read(&tunnel.credentials).expect("credentials");
    let mut forged: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    forged["TunnelSecret"] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into();
    let forged = site.write("forged.json", &forged.to_string());
    let thief = site
        .connector_of(program, &tunnel)
        .credentials(Credentials::File(forged));
    let mut thief = thief.run_flags(over.flags()).service("http_status:418").start();
    thief
        .process
        .wait_line("Retrying connection in up to", adit_tests::deadline::STEP);
    assert_eq!(thief.ready().map(|(count, _)| count), Some(0));
    for _ in 0..10 {
        assert_eq!(site.visit("/").run().status, 200);
    }
}

fn a_configuration_is_pushed(io: IoMode, over: Over) {
    let Some(stock) = crate::stock("a_configuration_is_pushed") else {
        return;
    };
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let path = format!("/accounts/{{account}}/cfd_tunnel/{}/configurations", tunnel.id);
    let config = format!(r#"{{"config":{{"ingress":[{{"service":"{}"}}]}}}}"#, nginx.url());
    let stored = site
        .control
        .rest("PUT", &path)
        .header("Content-Type: application/json");
    result(&stored.arg("--data").arg(config).run());
    let token = site.control.token(&tunnel);
    let connector = site.connector_of(Program::Stock(stock), &tunnel);
    let mut connector = connector
        .credentials(Credentials::Token(token))
        .run_flags(over.flags())
        .start();
    connector
        .process
        .wait_line("Updated to new configuration", adit_tests::deadline::STEP);
    connector.wait_connections(4);
    site.wait_served();
    assert_eq!(site.visit("/").run().text(), "served by nginx\n");
}

over_both!(
    four_connections_register_and_requests_pass,
    big_bodies_pass_both_ways,
    tokens_and_refusals,
    a_configuration_is_pushed,
);
