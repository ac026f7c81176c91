//! Things break and come back: connections, connectors, edges, the network between them.

use std::io::Write as _;
use std::time::{Duration, Instant};

use adit_tests::binary::{self, IoMode};
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::scripted::Scripted;
use adit_tests::process::{Process, command};
use adit_tests::relay::{Impairment, Relay};
use adit_tests::site::connector::CONNECT_LIMIT;
use adit_tests::site::{HOST, Site, SiteSettings};

/// How long a visitor may wait for the answer that a second replica gives after the first has died: a dead
/// connection is noticed after the idle timeout of 5 s.
const RETRY_LIMIT: Duration = Duration::from_secs(15);

/// Twice the silence after which a connection is lost that owes an answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

fn a_request_moves_on_when_its_replica_dies(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut first = site.serve(&tunnel, &nginx.url());
    let second = site.connector(&tunnel).service(&nginx.url()).start();
    second.wait_connections(4);
    first.process.kill();
    // Some of these are sent to the dead replica, which cannot say so; they are answered by the living one.
    let visits: Vec<_> = (0..16)
        .map(|_| site.visit("/h").arg("--max-time").arg("30").start())
        .collect();
    let start = Instant::now();
    for visit in visits {
        let response = visit.finish();
        assert_eq!(response.status, 200, "{response:?}");
    }
    assert!(start.elapsed() < RETRY_LIMIT, "{:?}", start.elapsed());
    deadline::until_true("the dead connections to be gone", deadline::STEP, || {
        (site.edge.metrics().sum("edge_tunnel_connections", &[]) - 4.0).abs() < 0.5
    });
}

/// Requests follow one another while one of two replicas is killed. Those that were sent to it move on at
/// once, and no later one is sent there. So a `POST` that comes after the first doubt is safe as well.
fn a_killed_replica_is_left_at_once(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut first = site.serve(&tunnel, &nginx.url());
    let second = site.connector(&tunnel).service(&nginx.url()).start();
    second.wait_connections(4);
    let visit = || {
        let start = Instant::now();
        let response = site.visit("/h").arg("--max-time").arg("30").run();
        assert_eq!(response.status, 200, "{response:?}");
        start.elapsed()
    };
    for _ in 0..8 {
        visit();
    }
    first.process.kill();
    let mut slowest = Duration::ZERO;
    for _ in 0..32 {
        slowest = slowest.max(visit());
    }
    // Four connections can be found late one after the other at most; before, each cost 5 s.
    assert!(slowest < SILENCE_LIMIT / 4, "{slowest:?}");
    assert!(site.edge.metrics().sum("edge_tunnel_doubts_total", &[]) > 0.5);
}

/// The network goes dark under a tunnel's only replica. Requests that come meanwhile are not sent into it. So
/// even those that may be sent only once are answered when the path is back.
fn requests_wait_while_every_connection_is_late(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let relay = Relay::start(site.edge.addresses.tunnel, 29, Impairment::default());
    let connector = site
        .connector(&tunnel)
        .edge(relay.address())
        .service(&origin.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    relay.set_dark(true);
    let _first = site.visit("/hold?gate=first").start();
    deadline::until_true("all connections to be doubted", deadline::STEP, || {
        site.edge.metrics().sum("edge_tunnel_doubts_total", &[]) > 3.5
    });
    let waiting = site.visit("/hold?gate=waiting").post("once only").start();
    deadline::until_true("the visitor to wait", deadline::STEP, || {
        site.edge.metrics().sum("edge_exchanges_waiting", &[]) > 0.5
    });
    relay.set_dark(false);
    origin.wait_mark("waiting", 1, deadline::STEP);
    origin.open("waiting", 1);
    let response = waiting.finish();
    assert_eq!(response.text(), "held", "{response:?}");
}

/// The network to one replica goes dark while its origin holds requests: idempotent ones are asked again
/// elsewhere, others are not.
fn only_replayable_requests_are_asked_again(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let relay = Relay::start(site.edge.addresses.tunnel, 3, Impairment::default());
    let connector = site
        .connector(&tunnel)
        .edge(relay.address())
        .service(&origin.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    let get = site.visit("/hold?gate=get").start();
    let post = site.visit("/hold?gate=post").post("once only").start();
    origin.wait_mark("get", 1, deadline::STEP);
    origin.wait_mark("post", 1, deadline::STEP);
    // One connection is enough, and soon there: the held requests grow old, and no old one is asked again.
    let _second = site.connector(&tunnel).service(&origin.url()).start();
    deadline::until_true("a connection of it", deadline::STEP, || {
        site.edge.metrics().sum("edge_tunnel_connections", &[]) > 4.5
    });
    relay.set_dark(true);
    origin.wait_mark("get", 2, deadline::STEP);
    origin.open("get", 2);
    assert_eq!(get.finish().text(), "held");
    let lost = post.finish();
    assert_eq!(lost.status, 502, "{lost:?}");
    assert_eq!(origin.mark("post"), 1, "a POST is never sent twice");
}

fn a_connector_comes_back_after_every_kind_of_end(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut connector = site.serve(&tunnel, &nginx.url());
    assert!(connector.process.terminate(deadline::STEP).success());
    deadline::until_true("the edge to miss it", deadline::STEP, || {
        site.visit("/").run().status == 503
    });
    connector.start_again();
    connector.wait_connections(4);
    site.wait_served();
    connector.process.kill();
    connector.start_again();
    connector.wait_connections(4);
    deadline::until_true("the page", deadline::STEP, || site.visit("/").run().status == 200);
}

fn visitors_wait_for_a_connector_that_is_restarted(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let mut connector = site.serve(&tunnel, &nginx.url());
    assert!(connector.process.terminate(deadline::STEP).success());
    let visits: Vec<_> = (0..8).map(|_| site.visit("/").post("body").start()).collect();
    deadline::until_true("visitors to wait", deadline::STEP, || {
        site.edge.metrics().sum("edge_exchanges_waiting", &[]) > 7.5
    });
    connector.start_again();
    for visit in visits {
        // nginx was asked: it has no use for a POST.
        assert_eq!(visit.finish().status, 405);
    }
    assert!(site.edge.metrics().sum("edge_exchanges_waited_total", &[]) > 7.5);
}

fn an_edge_comes_back_after_every_kind_of_end(io: IoMode) {
    let (nginx, mut site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = site.serve(&tunnel, &nginx.url());
    for kill in [false, true] {
        if kill {
            site.edge.process.kill();
        } else {
            assert!(site.edge.process.terminate(deadline::STEP).success());
        }
        site.edge.start_again();
        deadline::until_true("the page", Duration::from_secs(40), || {
            site.visit("/").run().status == 200
        });
        connector.wait_connections(4);
        deadline::until_true("control to know", deadline::STEP, || {
            site.control.connection_count(&tunnel) == 4
        });
    }
}

fn a_path_that_returns_brings_all_connections_back(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let relay = Relay::start(site.edge.addresses.tunnel, 11, Impairment::default());
    let connector = site
        .connector(&tunnel)
        .edge(relay.address())
        .service(&nginx.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    relay.set_dark(true);
    connector.wait_connections(0);
    // A visitor waits for an answer that is late, and then for the tunnel to come back, before he is told.
    deadline::until_true("the edge to notice", 2 * deadline::STEP, || {
        site.visit("/").run().status == 503
    });
    relay.set_dark(false);
    connector.wait_connections(4);
    deadline::until_true("the page", deadline::STEP, || site.visit("/").run().status == 200);
}

/// Nobody says anything on the connections when their path goes, so the first visitor finds out. The
/// connector asks nothing and does not notice. The edge tells it once the path is back.
fn an_idle_path_that_died_is_found_by_the_first_visitor(io: IoMode) {
    let at_once = SiteSettings::new(io).edge_lines("limits: {reconnect-wait: 0s}\n");
    let (nginx, site) = (Nginx::start(), at_once.start());
    let tunnel = site.tunnel("lab");
    let relay = Relay::start(site.edge.addresses.tunnel, 17, Impairment::default());
    let connector = site
        .connector(&tunnel)
        .edge(relay.address())
        .service(&nginx.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    relay.set_dark(true);
    let start = Instant::now();
    let failed = site.visit("/").arg("--max-time").arg("30").run();
    assert!(failed.status == 502 || failed.status == 503, "{failed:?}");
    assert!(start.elapsed() < SILENCE_LIMIT, "{:?}", start.elapsed());
    deadline::until_true("all connections to be missed", SILENCE_LIMIT, || {
        site.edge.metrics().sum("edge_tunnel_connections", &[]) < 0.5
    });
    relay.set_dark(false);
    deadline::until_true("the page", SILENCE_LIMIT, || site.visit("/").run().status == 200);
    deadline::until_true("four connections", deadline::STEP, || {
        (site.edge.metrics().sum("edge_tunnel_connections", &[]) - 4.0).abs() < 0.5
    });
}

/// The connector's host says at once that nobody is at the port any more. That is doubted until the connector
/// has not answered either, for a second and not for the five of a silent network.
fn a_killed_connector_is_found_by_what_its_host_says(io: IoMode) {
    let at_once = SiteSettings::new(io)
        .cores(2)
        .edge_lines("limits: {reconnect-wait: 0s}\n");
    let (nginx, site) = (Nginx::start(), at_once.start());
    let tunnel = site.tunnel("lab");
    let mut connector = site.serve(&tunnel, &nginx.url());
    connector.process.kill();
    let start = Instant::now();
    let failed = site
        .visit("/discard")
        .arg("--max-time")
        .arg("30")
        .arg("--data")
        .arg("a=1")
        .run();
    assert!(failed.status == 502 || failed.status == 503, "{failed:?}");
    deadline::until_true("all connections to be missed", deadline::STEP, || {
        site.edge.metrics().sum("edge_tunnel_connections", &[]) < 0.5
    });
    let elapsed = start.elapsed();
    assert!(site.edge.metrics().sum("edge_icmp_unreachable_total", &[]) >= 1.0);
    assert!(elapsed < Duration::from_millis(4_500), "{elapsed:?}");
}

/// Nobody asks for anything, so the connector would say nothing to the new edge for up to 50 s. The edge
/// tells it.
fn an_edge_that_was_killed_tells_its_idle_connectors(io: IoMode) {
    let (nginx, mut site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let connector = site.connector(&tunnel).service(&nginx.url());
    let connector = connector.lines("ha-connections: 1\n").start();
    connector.wait_connections(1);
    site.wait_served();
    let list = site.edge.folder().join("peers.json");
    deadline::until_true("the connector to be on disk", deadline::STEP, || {
        std::fs::read_to_string(&list).is_ok_and(|text| text.contains("127.0.0.1"))
    });
    site.edge.process.kill();
    site.edge.start_again();
    deadline::until_true("the connection to be back", deadline::STEP, || {
        (site.edge.metrics().sum("edge_tunnel_connections", &[]) - 1.0).abs() < 0.5
    });
    assert_eq!(site.visit("/h").run().status, 200);
    site.edge.process.terminate(deadline::STEP);
    assert!(!list.exists(), "an edge that ends properly leaves nobody to tell");
}

/// A translator gives the connector new ports while nobody speaks. One PING tells the edge of one connection.
/// The edge's challenge tells the connector to speak on the others.
fn an_idle_connector_that_moved_is_found_by_one_ping(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let relay = Relay::start(site.edge.addresses.tunnel, 19, Impairment::default());
    let connector = site
        .connector(&tunnel)
        .edge(relay.address())
        .lines("idle-ping-interval: 4s\n")
        .service(&nginx.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    let registered = || site.edge.metrics().sum("edge_registrations_accepted_total", &[]);
    let before = registered();
    assert!(before > 3.5, "{before} registrations");
    for round in 0..3 {
        assert!(relay.rebind() >= 1);
        for visit in 0..8 {
            let response = site.visit("/").run();
            assert_eq!(response.status, 200, "round {round}, visit {visit}: {response:?}");
        }
    }
    assert!((registered() - before).abs() < 0.5, "no connection was made anew");
}

/// PINGs are as rare as by default, so the connections are given up before one of them tells where the
/// connector is.
fn a_visitor_waits_for_an_idle_connector_that_moved(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let relay = Relay::start(site.edge.addresses.tunnel, 23, Impairment::default());
    let connector = site
        .connector(&tunnel)
        .edge(relay.address())
        .service(&nginx.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    assert!(relay.rebind() >= 1);
    let response = site.visit("/").arg("--max-time").arg("40").run();
    assert_eq!(response.status, 200, "{response:?}");
}

fn a_flapping_path_loses_no_connection_for_good(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let relay = Relay::start(site.edge.addresses.tunnel, 13, Impairment::default());
    let connector = site
        .connector(&tunnel)
        .edge(relay.address())
        .service(&nginx.url())
        .start();
    connector.wait_connections(4);
    site.wait_served();
    for seed in 0..5 {
        // Shorter than the idle timeout: the connections survive, whatever was lost is sent again.
        relay.set_dark(true);
        let (_, lost) = relay.counts();
        let visit = site.visit("/h").start();
        deadline::until_true("something to be lost", deadline::STEP, || {
            relay.counts().1 > lost + 2
        });
        relay.set_dark(false);
        let response = visit.finish();
        assert_eq!(response.status, 200, "flap {seed}: {response:?}");
    }
    connector.wait_connections(4);
}

/// The line comes through a pipe with a name, as a script of an operator would write it.
fn a_connection_is_restarted_on_request(io: IoMode) {
    let (nginx, site) = (Nginx::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    site.control.route(&tunnel, HOST);
    let pipe = site.folder().join("commands");
    binary::succeed(command("mkfifo").arg(&pipe));
    let edge = site.edge.addresses.tunnel.to_string();
    let mut connector = command("sh");
    connector
        .args(["-c", "exec \"$@\" < \"$0\""])
        .arg(&pipe)
        .arg(binary::adit());
    connector.args([
        "tunnel",
        "--io",
        &io.to_string(),
        "--metrics",
        "127.0.0.1:0",
        "--stdin-control",
    ]);
    connector
        .args(["--edge", &edge, "--cacert"])
        .arg(site.control.ca());
    connector.args([
        "run",
        "--token",
        &site.control.token(&tunnel),
        "--url",
        &nginx.url(),
    ]);
    let mut process = Process::start("connector", &mut connector);
    // Opens when the connector reads.
    let mut commands = std::fs::OpenOptions::new()
        .write(true)
        .open(&pipe)
        .expect("a pipe");
    process.wait_line("Registered tunnel connection", deadline::STEP);
    site.wait_served();
    let before = process.mark();
    commands
        .write_all(b"help\nreconnect 50ms\n")
        .expect("somebody reads");
    process.wait_line_after(before, "Supported command", deadline::STEP);
    process.wait_line_after(
        before,
        "Restarting connection due to reconnect signal",
        deadline::STEP,
    );
    process.wait_line_after(before, "Unregistered tunnel connection", deadline::STEP);
    process.wait_line_after(before, "Registered tunnel connection", CONNECT_LIMIT);
    site.wait_served();
    // Without commands it goes on.
    drop(commands);
    assert_eq!(site.visit("/").run().status, 200);
    assert!(process.terminate(deadline::STEP).success());
}

adit_tests::in_both_modes!(
    a_killed_connector_is_found_by_what_its_host_says,
    an_edge_that_was_killed_tells_its_idle_connectors,
    a_request_moves_on_when_its_replica_dies,
    a_killed_replica_is_left_at_once,
    requests_wait_while_every_connection_is_late,
    only_replayable_requests_are_asked_again,
    a_connector_comes_back_after_every_kind_of_end,
    visitors_wait_for_a_connector_that_is_restarted,
    an_edge_comes_back_after_every_kind_of_end,
    a_path_that_returns_brings_all_connections_back,
    an_idle_path_that_died_is_found_by_the_first_visitor,
    an_idle_connector_that_moved_is_found_by_one_ping,
    a_visitor_waits_for_an_idle_connector_that_moved,
    a_flapping_path_loses_no_connection_for_good,
    a_connection_is_restarted_on_request,
);
