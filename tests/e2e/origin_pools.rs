//! Several addresses behind one rule: which of them serves, what happens when some fail, and how much any is
//! asked to do.

use std::time::{Duration, Instant};

use adit_proto::exchange::error_code::ErrorCode;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::origin::scripted::Scripted;
use adit_tests::origin::{refused_address, tcp};
use adit_tests::site::connector::Connector;
use adit_tests::site::{HOST, Site, SiteSettings, error_code};
use adit_tests::visitor::raw::Raw;
use adit_tests::visitor::websocket::Client;

/// Rules that send [`HOST`] to `service` with these keys of `originRequest`.
fn rules(service: &str, keys: &str) -> String {
    format!(
        "  - hostname: {HOST}\n    service: {service}\n    originRequest: {keys}\n  - service: http_status:404\n"
    )
}

/// A site with two cores, as limits must hold over all of them.
fn serve(io: IoMode, service: &str, keys: &str) -> (Site, Connector) {
    let site = SiteSettings::new(io).cores(2).start();
    let tunnel = site.tunnel("lab");
    let connector = site.connector(&tunnel).ingress(&rules(service, keys)).start();
    connector.wait_connections(4);
    (site, connector)
}

fn addresses(connector: &Connector, state: &str) -> f64 {
    connector
        .metrics()
        .sum("connector_origin_addresses", &[("state", state)])
}

fn count(connector: &Connector, name: &str) -> f64 {
    connector.metrics().sum(&format!("connector_origin_{name}"), &[])
}

/// Three servers that say who they are at `/who`.
fn three() -> Vec<Nginx> {
    let servers: Vec<Nginx> = (0..3).map(|_| Nginx::start()).collect();
    for (number, server) in servers.iter().enumerate() {
        std::fs::write(server.root().join("who"), number.to_string()).expect("a fresh file");
    }
    servers
}

/// How often each of three servers answers.
fn asked(site: &Site, times: usize) -> [usize; 3] {
    let mut counts = [0; 3];
    for _ in 0..times {
        let answer = site.visit("/who").run();
        assert_eq!(answer.status, 200, "{answer:?}");
        let who: usize = answer.text().parse().expect("a number");
        counts[who] += 1;
    }
    counts
}

fn a_dead_address_is_left_out_until_it_is_back(io: IoMode) {
    let mut servers = three();
    let keys = format!(
        "{{originAddresses: ['{}', '{}'], maxFails: 2, failTimeout: 1s}}",
        servers[1].address(),
        servers[2].address()
    );
    let (site, mut connector) = serve(io, &servers[0].url(), &keys);
    site.wait_served();
    let counts = asked(&site, 30);
    assert!(counts.iter().all(|count| (8..=12).contains(count)), "{counts:?}");

    servers[1].kill();
    let counts = asked(&site, 30);
    assert_eq!(counts[1], 0);
    // What a request carries is not lost with the address that refused the connection.
    let digest = site.visit("/discard").post(vec![b'x'; 100_000]).run();
    assert_eq!(digest.word("length"), "100000");
    connector
        .process
        .wait_line("An address of an origin fails and is left out", deadline::STEP);
    assert!(count(&connector, "ejections_total") >= 1.0 && count(&connector, "retries_total") >= 1.0);

    servers[1].start_again();
    deadline::until_true("the address to be used again", deadline::STEP, || {
        asked(&site, 3)[1] > 0
    });
    assert_eq!(addresses(&connector, "up"), 3.0);
    let counts = asked(&site, 30);
    assert!(counts.iter().all(|count| (8..=12).contains(count)), "{counts:?}");

    // All gone: each is asked all the same, and the log says so.
    servers.iter_mut().for_each(Nginx::kill);
    for _ in 0..6 {
        let answer = site.visit("/who").run();
        assert_eq!(error_code(&answer), Some(ErrorCode::OriginUnreachable));
    }
    connector
        .process
        .wait_line("No address of an origin seems to work", deadline::STEP);
    servers[2].start_again();
    assert_eq!(asked(&site, 1), [0, 0, 1], "the first request after it is back");
}

fn what_an_origin_may_have_seen_is_not_sent_twice(io: IoMode) {
    let (one, other) = (Scripted::start(), Scripted::start());
    let keys = format!(
        "{{originAddresses: ['{}'], maxFails: 0, keepAliveConnections: 0}}",
        other.address()
    );
    let (site, _connector) = serve(io, &one.url(), &keys);
    site.wait_served();
    let requests = || one.requests() + other.requests();
    let before = requests();
    for (method, body, sent) in [("POST", "x", 1), ("PUT", "x", 1), ("GET", "", 2)] {
        let before = requests();
        let visit = site.visit("/hangup").method(method);
        let visit = if body.is_empty() { visit } else { visit.post(body) };
        let answer = visit.method(method).run();
        assert_eq!(
            error_code(&answer),
            Some(ErrorCode::OriginUnreachable),
            "{method}"
        );
        assert_eq!(requests() - before, sent, "{method}");
    }
    assert!(requests() > before);
}

fn checks_find_what_hangs_and_what_is_in_maintenance(io: IoMode) {
    // The kernel connects, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let silent = silent
        .local_addr()
        .map(|address| (silent, address))
        .expect("bound");
    let servers = three();
    let sign = servers[2].root().join("up");
    for server in &servers {
        std::fs::write(server.root().join("up"), "").expect("a fresh file");
    }
    let keys = format!(
        "{{originAddresses: ['{}', '{}', '{}'], \
         healthCheck: {{path: /up, interval: 200ms, timeout: 500ms, expectedStatus: 200}}}}",
        servers[1].address(),
        servers[2].address(),
        silent.1
    );
    let (site, connector) = serve(io, &servers[0].url(), &keys);
    let is_down = |count: f64| {
        deadline::until_true(&format!("{count} to be down"), deadline::STEP, || {
            addresses(&connector, "down") == count
        });
    };
    is_down(1.0);
    site.wait_served();
    let start = Instant::now();
    let counts = asked(&site, 12);
    assert!(
        start.elapsed() < deadline::STEP && counts.iter().all(|count| *count >= 3),
        "{counts:?}"
    );
    std::fs::remove_file(&sign).expect("the sign");
    is_down(2.0);
    assert_eq!(asked(&site, 12)[2], 0);
    std::fs::write(&sign, "").expect("the sign");
    is_down(1.0);
    assert!(asked(&site, 12)[2] > 0);
    let checks = |result: &str| {
        let metrics = connector.metrics();
        metrics.sum("connector_origin_checks_total", &[("result", result)])
    };
    assert!(checks("ok") > 5.0 && checks("failed") > 2.0);
}

fn limits_hold_for_the_process_and_the_queue_has_an_end(io: IoMode) {
    let origin = Scripted::start();
    let keys = "{circuitBreaker: {maxRequests: 3, maxPending: 2, pendingTimeout: 2s}}";
    let (site, mut connector) = serve(io, &origin.url(), keys);
    site.wait_served();
    let hold = || site.visit("/hold?gate=end").start();
    let waiting = |count: f64| {
        deadline::until_true(&format!("{count} to wait"), deadline::STEP, || {
            self::count(&connector, "exchanges_waiting") == count
        });
    };
    let mut held: Vec<_> = (0..3).map(|_| hold()).collect();
    origin.wait_mark("end", 3, deadline::STEP);
    // Of one over TLS the edge knows at once that it leaves; in clear it might only have ended its side.
    let impatient = site.visit_tls("/hold?gate=end").start();
    held.push(hold());
    waiting(2.0);
    let refused = site.visit("/hold?gate=end").run();
    assert_eq!(error_code(&refused), Some(ErrorCode::OriginBusy), "{refused:?}");
    assert!(refused.status == 503 && refused.header("retry-after").is_some());
    assert_eq!(origin.mark("end"), 3);
    // A visitor who does not wait leaves the queue.
    impatient.abort();
    waiting(1.0);
    origin.open("end", 4);
    for answer in held {
        assert_eq!(answer.finish().text(), "held");
    }

    let held: Vec<_> = (0..3).map(|_| hold()).collect();
    origin.wait_mark("end", 7, deadline::STEP);
    let start = Instant::now();
    let late = site.visit("/seen").run();
    assert_eq!(error_code(&late), Some(ErrorCode::OriginBusy));
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    origin.open("end", 3);
    held.into_iter()
        .for_each(|answer| assert_eq!(answer.finish().status, 200));
    for reason in ["queue-full", "timeout"] {
        let metrics = connector.metrics();
        let refused = metrics.sum("connector_origin_exchanges_refused_total", &[("reason", reason)]);
        assert_eq!(refused, 1.0, "{reason}");
    }
    connector
        .process
        .wait_line("An origin is at its limit", deadline::STEP);
}

fn what_one_replica_has_no_room_for_another_takes(io: IoMode) {
    let (origin, site) = (Scripted::start(), Site::start(io));
    let tunnel = site.tunnel("lab");
    let keys = "{circuitBreaker: {maxRequests: 2, maxPending: 0}}";
    let replicas = [(); 2].map(|()| {
        let replica = site
            .connector(&tunnel)
            .ingress(&rules(&origin.url(), keys))
            .start();
        replica.wait_connections(4);
        replica
    });
    site.wait_served();
    // Four find their place whichever replica the edge asks first, and the fifth does nowhere.
    for round in 1..=3 {
        let gate = format!("end{round}");
        let path = format!("/hold?gate={gate}");
        let held: Vec<_> = (1..=4)
            .map(|count| {
                let held = site.visit(&path).start();
                origin.wait_mark(&gate, count, deadline::STEP);
                held
            })
            .collect();
        let refused = site.visit(&path).run();
        assert_eq!(error_code(&refused), Some(ErrorCode::OriginBusy), "{refused:?}");
        origin.open(&gate, 4);
        held.into_iter()
            .for_each(|answer| assert_eq!(answer.finish().text(), "held"));
    }
    let refused = replicas.each_ref().map(|replica| {
        let labels = [("reason", "queue-full")];
        let metrics = replica.metrics();
        metrics.sum("connector_origin_exchanges_refused_total", &labels)
    });
    assert!(
        refused.iter().all(|count| *count >= 3.0),
        "each was asked for the fifth: {refused:?}"
    );
}

fn load_above_a_limit_waits_for_its_turn(io: IoMode) {
    let servers = three();
    let keys = format!(
        "{{originAddresses: ['{}', '{}'], maxConnections: 2, loadBalancing: random-two}}",
        servers[1].address(),
        servers[2].address()
    );
    let (site, connector) = serve(io, &servers[0].url(), &keys);
    site.wait_served();
    let outcome = site.load("/h").width(40, 1).requests(2_000);
    assert_eq!(outcome.succeeded, 2_000, "{outcome:?}");
    assert!(count(&connector, "exchanges_waited_total") > 0.0);
    for server in &servers {
        let log = server.access_log();
        let answered = log.iter().filter(|line| line.contains(" /h ")).count();
        assert!((400..=950).contains(&answered), "{answered}");
    }
    assert_eq!(count(&connector, "exchanges_waiting"), 0.0);
}

fn what_is_known_survives_a_reload(io: IoMode) {
    let origin = Scripted::start();
    let dead = refused_address();
    let keys = format!(
        "{{originAddresses: ['{dead}'], maxFails: 1, failTimeout: 1h, circuitBreaker: {{maxRequests: 1, maxPending: 0}}}}"
    );
    let (site, mut connector) = serve(io, &origin.url(), &keys);
    site.wait_served();
    deadline::until_true("the dead address to be met", deadline::STEP, || {
        assert_eq!(site.visit("/seen").run().status, 200);
        addresses(&connector, "ejected") == 1.0
    });
    let held = site.visit("/hold?gate=end").start();
    origin.wait_mark("end", 1, deadline::STEP);
    let more = format!("{}\n", rules(&origin.url(), &keys.replace("1h", "30m")));
    connector.rewrite(&more);
    connector
        .process
        .wait_line("Reloaded the configuration", deadline::STEP);
    assert_eq!(addresses(&connector, "ejected"), 1.0);
    // What began under the old rules still counts.
    let refused = site.visit("/seen").run();
    assert_eq!(error_code(&refused), Some(ErrorCode::OriginBusy));
    origin.open("end", 1);
    assert_eq!(held.finish().status, 200);
    for _ in 0..10 {
        assert_eq!(site.visit("/seen").run().status, 200);
    }
    assert_eq!(count(&connector, "ejections_total"), 1.0);
    // A file whose keys cannot be used changes nothing and says which.
    let mark = connector.process.mark();
    connector.rewrite(&rules(&origin.url(), "{originAddresses: ['http://a:1']}"));
    let line = connector
        .process
        .wait_line_after(mark, "The configuration was not reloaded", deadline::STEP);
    assert!(
        line.contains("originAddresses") && line.contains("host:port"),
        "{line}"
    );
}

fn websockets_and_tcp_services_find_a_living_address(io: IoMode) {
    let origin = Scripted::start();
    let echo = tcp::start(tcp::Manner::Echo);
    let (dead, too) = (refused_address(), refused_address());
    let site = SiteSettings::new(io)
        .tcp("[{listen: '127.0.0.1:0', hostname: db.example.test}]")
        .start();
    let tunnel = site.tunnel("lab");
    site.control.route(&tunnel, "db.example.test");
    let rules = format!(
        "  - hostname: db.example.test\n    service: tcp://{dead}\n    originRequest: {{originAddresses: ['{too}', '{echo}']}}\n  \
         - service: http://{dead}\n    originRequest: {{originAddresses: ['{}', '{too}']}}\n",
        origin.address()
    );
    let connector = site.connector(&tunnel).ingress(&rules).start();
    connector.wait_connections(4);
    site.wait_served();
    for _ in 0..4 {
        let mut socket = Client::open(site.edge.http(), HOST, "/ws", "").expect("a WebSocket");
        socket.send("hello");
        assert_eq!(socket.receive(), b"hello");
        socket.close();
    }
    let port = site.edge.addresses.tcp[0];
    for _ in 0..2 {
        let mut raw = Raw::connect(port);
        raw.send("over TCP");
        assert_eq!(raw.read_exactly(8, deadline::STEP), b"over TCP");
    }
}

adit_tests::in_both_modes!(
    a_dead_address_is_left_out_until_it_is_back,
    what_an_origin_may_have_seen_is_not_sent_twice,
    checks_find_what_hangs_and_what_is_in_maintenance,
    limits_hold_for_the_process_and_the_queue_has_an_end,
    what_one_replica_has_no_room_for_another_takes,
    load_above_a_limit_waits_for_its_turn,
    what_is_known_survives_a_reload,
    websockets_and_tcp_services_find_a_living_address,
);
