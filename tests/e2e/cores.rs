//! Two cores are really used. A connection stays on its core whatever its client's port. Visitors on either
//! core reach tunnels on the other. The edge's own counters prove it.

use std::collections::BTreeMap;

use adit_driver::cpus::Cpus;
use adit_tests::binary::IoMode;
use adit_tests::deadline;
use adit_tests::origin::nginx::Nginx;
use adit_tests::process::cpus_of;
use adit_tests::relay::{Impairment, Relay};
use adit_tests::site::connector::Connector;
use adit_tests::site::edge::EdgeSettings;
use adit_tests::site::{Site, SiteSettings};

/// Tunnels until one is on each core: so many on one core would be one chance in 2^23.
const TUNNELS_MAX: usize = 24;

/// Replicas in these tests: with four connections each, all on one of two cores would be one chance in 2^15.
const REPLICAS: usize = 4;

struct Scene {
    _nginx: Nginx,
    site: Site,
    relay: Relay,
    connectors: Vec<Connector>,
}

/// Four replicas behind a relay, on an edge with two cores.
fn scene(io: IoMode) -> Scene {
    let (nginx, site) = (Nginx::start(), SiteSettings::new(io).cores(2).start());
    let tunnel = site.tunnel("lab");
    let relay = Relay::start(site.edge.addresses.tunnel, 7, Impairment::default());
    let start = |_| {
        site.connector(&tunnel)
            .edge(relay.address())
            // Nobody can reach a connector at its new ports before it speaks, which it does with this.
            .lines("idle-ping-interval: 1s\n")
            .service(&nginx.url())
            .start()
    };
    let connectors: Vec<Connector> = (0..REPLICAS).map(start).collect();
    for connector in &connectors {
        connector.wait_connections(4);
    }
    site.wait_served();
    Scene {
        _nginx: nginx,
        site,
        relay,
        connectors,
    }
}

/// Registered connections by core, once there are `count`: the edge looks once a second.
fn spread(site: &Site, count: f64) -> BTreeMap<String, f64> {
    deadline::until(
        &format!("{count} connections in the metrics"),
        deadline::STEP,
        || {
            let by_core = site.edge.metrics().by("edge_tunnel_connections", "core");
            ((by_core.values().sum::<f64>() - count).abs() < 0.5).then_some(by_core)
        },
    )
}

fn strays(site: &Site) -> f64 {
    site.edge.metrics().sum("edge_stray_datagrams_total", &[])
}

fn connections_live_on_both_cores_and_stay_after_a_rebinding(io: IoMode) {
    let scene = scene(io);
    let site = &scene.site;
    let names = site.edge.process.threads();
    let before = spread(site, 16.0);
    assert_eq!(before.len(), 2, "{before:?}");
    assert!(
        before.values().all(|count| *count >= 1.0),
        "both cores have connections: {before:?} ({names:?})"
    );
    assert!(
        strays(site) < 0.5,
        "the kernel steers every packet from the first one on"
    );

    let received = |site: &Site| {
        site.edge
            .metrics()
            .by("edge_udp_datagrams_received_total", "core")
    };
    for round in 0..3 {
        let (at, sources) = (received(site), scene.relay.sources());
        // One socket per core of each of the four connectors carries its connections.
        assert!(scene.relay.rebind() >= 4, "each connector has sockets of its own");
        assert!(
            sources.iter().all(|old| !scene.relay.sources().contains(old)),
            "every source port is new"
        );
        let load = site.load("/h").width(16, 1).requests(1000);
        assert_eq!(
            (load.succeeded, load.failed),
            (1000, 0),
            "round {round}: {}",
            load.text
        );
        let busy = || {
            received(site)
                .iter()
                .all(|(core, count)| *count > at[core] + 10.0)
        };
        deadline::until_true("packets on both cores in the metrics", deadline::STEP, busy);
        assert_eq!(spread(site, 16.0), before, "no connection was lost or moved");
    }
    assert!(
        strays(site) < 0.5,
        "packets of a moved client still land on their core"
    );
    for connector in &scene.connectors {
        assert_eq!(connector.ready().map(|(count, _)| count), Some(4));
    }
}

fn a_visitor_on_either_core_reaches_a_tunnel_on_the_other(io: IoMode) {
    let (nginx, site) = (Nginx::start(), SiteSettings::new(io).cores(2).start());
    // Each tunnel has one connection, so it lives on one core, which chance chooses. Tunnels are added until
    // there is one on each core.
    let (mut connectors, mut hosts) = (Vec::new(), Vec::new());
    for number in 0..TUNNELS_MAX {
        let (name, host) = (format!("only{number}"), format!("only{number}.example.test"));
        let tunnel = site
            .control
            .create(&name, &site.folder().join(format!("{name}.json")));
        site.control.route(&tunnel, &host);
        let connector = site
            .connector(&tunnel)
            .lines("ha-connections: 1\n")
            .service(&nginx.url())
            .start();
        connector.wait_connections(1);
        connectors.push(connector);
        hosts.push(host);
        let by_core = spread(&site, hosts.len() as f64);
        if by_core.values().all(|count| *count >= 1.0) {
            break;
        }
        assert!(number + 1 < TUNNELS_MAX, "all on one core: {by_core:?}");
    }
    for host in &hosts {
        deadline::until_true(&format!("{host} to be served"), deadline::STEP, || {
            site.visit_host(host, "/").run().status == 200
        });
    }
    let visitors = || site.edge.metrics().by("edge_visitor_connections_total", "core");
    let before = visitors();
    // The kernel spreads visitors by chance: they come until each core has had some of every host's.
    deadline::until_true("visitors on both cores", deadline::STEP * 3, || {
        for host in &hosts {
            for _ in 0..20 {
                assert_eq!(site.visit_host(host, "/").run().text(), "served by nginx\n");
            }
        }
        let after = visitors();
        after.iter().all(|(core, count)| *count >= before[core] + 20.0)
    });
}

fn a_body_crosses_cores_unchanged(io: IoMode) {
    let (origin, site) = (
        adit_tests::origin::scripted::Scripted::start(),
        SiteSettings::new(io).cores(2).start(),
    );
    let tunnel = site.tunnel("lab");
    let connector = site
        .connector(&tunnel)
        .lines("ha-connections: 1\n")
        .service(&origin.url())
        .start();
    connector.wait_connections(1);
    site.wait_served();
    let bytes = 20_000_000;
    let sha256 = adit_tests::content::Content::sha256(9, bytes);
    let file = site.folder().join("body");
    adit_tests::content::Content::write(9, bytes, &file).expect("room for the body");
    let cores = || site.edge.metrics().by("edge_visitor_connections_total", "core");
    let before = cores();
    // New visitors come until both cores have had some: one of them is not the tunnel's.
    deadline::until_true("visitors on both cores", deadline::STEP * 3, || {
        let up = site.visit("/digest").upload("POST", &file).run();
        assert_eq!(up.word("sha256"), sha256);
        let down = site.visit(&format!("/bytes?count={bytes}&seed=9")).run();
        let received = adit_tests::content::sha256_of(&mut down.body.as_slice()).expect("in memory");
        assert_eq!(received, (bytes, sha256.clone()));
        cores().iter().all(|(core, count)| *count >= before[core] + 2.0)
    });
}

/// Threads of cores by name, as `cores` says which CPU each is to have.
fn pinned(name: &str, cpus: &[&Cpus]) -> BTreeMap<String, String> {
    let threads = (0..).zip(cpus);
    threads
        .map(|(core, cpus)| (format!("{name}-{core}"), cpus.to_string()))
        .collect()
}

fn cores_are_pinned_to_the_cpus_that_are_named(io: IoMode) {
    let allowed = Cpus::allowed();
    let (first, last) = (allowed.first(1), allowed.last(1));
    // Two where there are two, the later one first.
    let both = if first == last {
        vec![&last]
    } else {
        vec![&last, &first]
    };
    let list = both
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let settings = SiteSettings::new(io).cores(u16::try_from(both.len()).expect("one or two"));
    let site = settings.edge_lines(&format!("cpus: [{list}]\n")).start();
    let pid = site.edge.process.pid();
    assert_eq!(cpus_of(pid, "adit-edge-"), pinned("adit-edge", &both));
    assert_eq!(
        cpus_of(pid, "adit")["adit"],
        allowed.to_string(),
        "what is no core is left alone"
    );

    let tunnel = site.tunnel("lab");
    let mut settings = site.connector(&tunnel).service("http_status:204");
    settings.cores = 1;
    for cpu in [&first, &last] {
        let mut settings = settings.clone();
        settings.flags.extend(["--cpus".to_owned(), cpu.to_string()]);
        let connector = settings.start();
        connector.wait_connections(4);
        let pid = connector.process.pid();
        assert_eq!(cpus_of(pid, "connector-"), pinned("connector", &[cpu]));
    }
    let connector = settings.start();
    connector.wait_connections(4);
    let default = cpus_of(connector.process.pid(), "connector-");
    assert_eq!(
        default,
        pinned("connector", &[&first]),
        "as ever without a choice"
    );
}

fn cpus_that_cannot_be_had_are_refused_with_the_reason(io: IoMode) {
    let site = Site::start(io);
    let one = Cpus::allowed().first(1);
    let edge = |lines: &str, cores| {
        let settings = EdgeSettings {
            folder: site.folder().join("refused"),
            lines: lines.to_owned(),
            cores,
            ..site.edge.settings().clone()
        };
        let mut edge = settings.spawn();
        assert_eq!(edge.wait_exit(deadline::STEP).code(), Some(1), "{}", edge.log());
        edge.log()
    };
    let told = edge("cpus: 1023\n", 1);
    assert!(
        told.contains("cpus: CPU 1023 is not one of this machine"),
        "{told}"
    );
    let told = edge("cpus: [0, \"0-1\"]\n", 1);
    assert!(told.contains("cpus: CPU 0 is named twice"), "{told}");
    let told = edge(&format!("cpus: \"{one}\"\n"), 2);
    assert!(
        told.contains(&format!("2 cores need as many CPUs, and {one} is only 1")),
        "{told}"
    );

    let tunnel = site.tunnel("lab");
    for (cpus, wanted) in [
        ("1023", "CPU 1023 is not one of this machine"),
        ("0-", "\"0-\" is no CPU"),
    ] {
        let mut settings = site.connector(&tunnel).service("http_status:204");
        settings.flags.extend(["--cpus".to_owned(), cpus.to_owned()]);
        let folder = tempfile::tempdir().expect("a temp dir");
        let mut connector = settings.spawn(folder.path());
        assert!(!connector.wait_exit(deadline::STEP).success());
        assert!(connector.log().contains(wanted), "{}", connector.log());
    }
}

adit_tests::in_both_modes!(
    cores_are_pinned_to_the_cpus_that_are_named,
    cpus_that_cannot_be_had_are_refused_with_the_reason,
    connections_live_on_both_cores_and_stay_after_a_rebinding,
    a_visitor_on_either_core_reaches_a_tunnel_on_the_other,
    a_body_crosses_cores_unchanged,
);
