//! SIGTERM lets what runs finish: in the connector, in the edge, within the grace period.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::scripted::Scripted;
use adit_tests::site::{HOST, Site, SiteSettings};
use adit_tests::visitor::curl::Curl;
use adit_tests::visitor::raw::Raw;
use nix::sys::signal::Signal;

fn a_connector_finishes_what_it_has(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut connector = site.serve(&tunnel, &origin.url());
    let held = site.visit("/hold?gate=slow").start();
    let mut dripping = Raw::connect(site.edge.http());
    dripping.send(format!(
        "GET /drip?gate=drops&count=3 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    ));
    origin.open("drops", 1);
    dripping.read_until("drop 0\n", deadline::STEP);
    origin.wait_mark("slow", 1, deadline::STEP);

    connector.process.signal(Signal::SIGTERM);
    let ready = format!("http://{}/ready", connector.metrics_address());
    deadline::until_true("balancers to be sent away", deadline::STEP, || {
        Curl::get(&ready).run().status == 503
    });
    // It takes no new exchange: the edge has nobody left to ask.
    deadline::until_true("new visitors to be sent elsewhere", deadline::STEP, || {
        site.visit("/seen").run().status == 503
    });
    assert!(connector.process.exited().is_none(), "it still works");
    origin.open("drops", 2);
    dripping.read_until("drop 2\n", deadline::STEP);
    origin.open("slow", 1);
    let response = held.finish();
    assert_eq!((response.status, response.text().as_str()), (200, "held"));
    assert!(connector.process.wait_exit(deadline::STEP).success());
    deadline::until_true("control to know", deadline::STEP, || {
        site.control.connection_count(&tunnel) == 0
    });
}

fn a_connector_does_not_wait_beyond_its_grace_period(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut connector = site
        .connector(&tunnel)
        .lines("grace-period: 1s\n")
        .service(&origin.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    let held = site.visit("/hold?gate=never").start();
    origin.wait_mark("never", 1, deadline::STEP);
    assert!(connector.process.terminate(Duration::from_secs(10)).success());
    let response = held.finish();
    assert!(response.status == 502 || response.status == 503, "{response:?}");
}

fn a_service_manager_is_told(io: IoMode) {
    let site = Site::start(io);
    let tunnel = site.tunnel("lab");
    let path = site.folder().join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket in the temp dir");
    manager
        .set_read_timeout(Some(deadline::STEP))
        .expect("a time limit");
    let hear = || {
        let mut told = [0; 256];
        let length = manager.recv(&mut told).expect("word from the connector");
        String::from_utf8_lossy(&told[..length]).trim().to_owned()
    };
    let mut settings = site.connector(&tunnel).service("http_status:204");
    settings.notify_socket = Some(path);
    let mut connector = settings.start();
    assert_eq!(hear(), "READY=1");
    assert!(connector.metrics().sum("cloudflared_tunnel_ha_connections", &[]) > 0.5);
    assert!(connector.process.terminate(deadline::STEP).success());
    assert_eq!(hear(), "STOPPING=1");
}

fn an_idle_connector_leaves_at_once(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut connector = site.serve(&tunnel, &origin.url());
    // Far less than the grace period of 30 s.
    assert!(connector.process.terminate(Duration::from_secs(10)).success());
}

fn an_edge_finishes_what_it_has(io: IoMode) {
    let (origin, mut site) = (Scripted::start(), SiteSettings::new(io).cores(2).start());
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let plain = site.visit("/hold?gate=slow").start();
    let tls = site.visit_tls("/hold?gate=slow").start();
    origin.wait_mark("slow", 2, deadline::STEP);
    site.edge.process.signal(Signal::SIGTERM);
    deadline::until_true("new visitors to be refused", deadline::STEP, || {
        let new = site.visit("/seen").arg("--connect-timeout").arg("2").run();
        new.exit != 0 || new.status == 503
    });
    assert!(site.edge.process.exited().is_none(), "it still works");
    origin.open("slow", 2);
    for held in [plain, tls] {
        let response = held.finish();
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "held"),
            "{response:?}"
        );
    }
    assert!(site.edge.process.wait_exit(deadline::STEP).success());
}

fn an_edge_does_not_wait_beyond_its_grace_period(io: IoMode) {
    let origin = Scripted::start();
    let mut site = SiteSettings::new(io).edge_lines("grace-period: 1s\n").start();
    let tunnel = site.tunnel("lab");
    let _connector = site.serve(&tunnel, &origin.url());
    let held = site.visit("/hold?gate=never").start();
    // A visitor who keeps an idle connection does not hold the edge up either.
    let mut idle = Raw::connect(site.edge.http());
    idle.send(format!("GET /seen HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    idle.read_until("\r\n\r\n", deadline::STEP);
    origin.wait_mark("never", 1, deadline::STEP);
    assert!(site.edge.process.terminate(Duration::from_secs(10)).success());
    let response = held.finish();
    assert!(response.exit != 0 || response.status >= 500, "{response:?}");
}

fn draining_one_replica_under_load_fails_nothing(io: IoMode) {
    let (nginx, site) = (
        adit_tests::origin::nginx::Nginx::start(),
        SiteSettings::new(io).cores(2).start(),
    );
    let tunnel = site.tunnel("lab");
    let _stays = site.serve(&tunnel, &nginx.url());
    let mut leaves = site.connector(&tunnel).service(&nginx.url()).start();
    leaves.wait_connections(4);
    let mut load = site.load("/h").width(16, 1).run_for(Duration::from_secs(6));
    for _ in 0..2 {
        deadline::until_true("the replica to be asked", deadline::STEP, || {
            load.is_done() || leaves.metrics().sum("cloudflared_tunnel_total_requests", &[]) > 50.0
        });
        assert!(leaves.process.terminate(deadline::STEP).success());
        leaves.start_again();
        leaves.wait_connections(4);
    }
    let outcome = load.finish();
    assert_eq!(outcome.failed, 0, "{}", outcome.text);
    assert_eq!(outcome.done, outcome.succeeded, "{}", outcome.text);
    assert_eq!(Curl::get(&nginx.url()).run().status, 200);
}

adit_tests::in_both_modes!(
    a_connector_finishes_what_it_has,
    a_connector_does_not_wait_beyond_its_grace_period,
    a_service_manager_is_told,
    an_idle_connector_leaves_at_once,
    an_edge_finishes_what_it_has,
    an_edge_does_not_wait_beyond_its_grace_period,
    draining_one_replica_under_load_fails_nothing,
);
