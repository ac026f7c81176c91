//! Big bodies: whole, unchanged, and without memory growing in edge or connector.

use std::time::Duration;

use adit_tests::binary::IoMode;
use adit_tests::content::{self, Content};
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::process::Process;
use adit_tests::relay::{Impairment, Relay};
use adit_tests::site::{HOST, Site, SiteSettings};

/// What edge and connector may each grow by while a body of any size passes.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// Size of the big bodies: `ADIT_BULK_MIB`, else what a run of all tests has time for.
fn bulk_bytes() -> u64 {
    let mebibytes = std::env::var("ADIT_BULK_MIB")
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    mebibytes.unwrap_or(128) << 20
}

/// Runs `transfer` and checks that no process grew by more than allowed at any time.
fn without_growth(processes: [&Process; 2], transfer: impl FnOnce()) {
    let before = processes.map(|process| {
        process.forget_peak();
        process.memory().resident
    });
    transfer();
    for (process, before) in processes.into_iter().zip(before) {
        let growth = process.memory().peak.saturating_sub(before);
        assert!(
            growth < GROWTH_BYTES_MAX,
            "{} grew by {} KiB",
            process.name(),
            growth >> 10
        );
    }
}

fn downloads_and_uploads_are_whole_and_cost_no_memory(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &origin.url());
    let bytes = bulk_bytes();
    let file = site.folder().join("body");
    let sha256 = Content::write(1, bytes, &file).expect("room for the body");
    let target = site.folder().join("received");
    let processes = [&site.edge.process, &connector.process];
    let time = Duration::from_secs(30 + (bytes >> 20)).as_secs().to_string();

    // The first exchanges fill pools and buffers once; growth is counted from there.
    assert_eq!(site.visit_tls("/bytes?count=8000000").run().body.len(), 8_000_000);

    for query in ["", "&chunked"] {
        let path = format!("/bytes?count={bytes}&seed=1{query}");
        for visit in [Site::visit as fn(&Site, &str) -> _, Site::visit_tls] {
            without_growth(processes, || {
                let done = visit(&site, &path)
                    .arg("--max-time")
                    .arg(&time)
                    .into_file(&target)
                    .run();
                assert_eq!((done.status, done.exit), (200, 0), "{}", done.error);
            });
            let mut received = std::fs::File::open(&target).expect("curl wrote it");
            assert_eq!(
                content::sha256_of(&mut received).expect("it can be read"),
                (bytes, sha256.clone())
            );
        }
    }
    for framing in ["length", "chunked"] {
        for visit in [Site::visit as fn(&Site, &str) -> _, Site::visit_tls] {
            without_growth(processes, || {
                let upload = visit(&site, "/digest")
                    .arg("--max-time")
                    .arg(&time)
                    .upload("POST", &file);
                let upload = if framing == "chunked" {
                    upload.header("Transfer-Encoding: chunked")
                } else {
                    upload
                };
                let done = upload.run();
                assert_eq!((done.status, done.exit), (200, 0), "{}", done.error);
                assert_eq!(
                    (done.word("bytes"), done.word("sha256")),
                    (bytes.to_string(), sha256.clone())
                );
            });
        }
    }
}

fn a_slow_visitor_holds_back_the_origin(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &origin.url());
    let processes = [&site.edge.process, &connector.process];
    assert_eq!(site.visit("/bytes?count=8000000").run().body.len(), 8_000_000);
    without_growth(processes, || {
        let bytes = 100_000_000;
        let path = format!("/bytes?count={bytes}&seed=3");
        let slow = site.visit(&path).arg("--limit-rate").arg("4M").start();
        deadline::until_true("the slow visitor to receive", deadline::STEP, || {
            slow.received() > 4_000_000
        });
        // Others are not held up by it.
        assert_eq!(site.visit("/bytes?count=20000000").run().body.len(), 20_000_000);
        slow.abort();
    });
}

fn bodies_survive_loss_delay_and_reordering(io: IoMode) {
    let (origin, site) = (Scripted::start(), SiteSettings::new(io).cores(2).start());
    let tunnel = site.tunnel("lab");
    let bad = Impairment {
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(3),
        loss: 0.01,
        duplicate: 0.01,
        ..Impairment::default()
    };
    let relay = Relay::start(site.edge.addresses.tunnel, 42, bad);
    let connector = site
        .connector(&tunnel)
        .edge(relay.address())
        .service(&origin.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    let bytes = 4_000_000;
    let (down, up) = (Content::sha256(5, bytes), Content::sha256(6, bytes));
    let file = site.folder().join("body");
    Content::write(6, bytes, &file).expect("room for the body");
    for _ in 0..2 {
        let mut done = site.visit(&format!("/bytes?count={bytes}&seed=5")).run();
        assert_eq!(done.exit, 0, "{}", done.error);
        assert_eq!(
            content::sha256_of(&mut done.body.as_slice())
                .expect("in memory")
                .1,
            down
        );
        done = site.visit("/digest").upload("POST", &file).run();
        assert_eq!(done.word("sha256"), up);
    }
    let (forwarded, lost) = relay.counts();
    assert!(
        lost * 300 > forwarded,
        "{lost} lost of {forwarded}: the network was bad"
    );
    assert_eq!(site.visit_host(HOST, "/seen").run().status, 200);
}

adit_tests::in_both_modes!(
    downloads_and_uploads_are_whole_and_cost_no_memory,
    a_slow_visitor_holds_back_the_origin,
    bodies_survive_loss_delay_and_reordering,
);
