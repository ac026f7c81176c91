//! Our edge with a connector of ours, or with another connector of the same command line.

use std::net::SocketAddr;

use adit_driver::kernel::IoMode;
use adit_tests::relay::Relay;
use adit_tests::site::connector::{Connector, ConnectorSettings, Program};
use adit_tests::site::control::Tunnel;
use adit_tests::site::{Site, SiteSettings};
use anyhow::{Context as _, Result};

use super::{Running, Setup, Through, Way};
use crate::suite::Bench;
use crate::suite::layout::on;
use crate::suite::options::SubjectName;
use crate::suite::wire::Wire;

/// An edge with its control and its tunnel, on which more connectors can be started.
pub(crate) struct AditSite {
    site: Site,
    tunnel: Tunnel,
    program: Program,
    service: String,
}

/// Many connectors of one tunnel.
pub(crate) struct Fleet {
    connectors: Vec<Connector>,
    /// Their connections together.
    pub(crate) connections: u32,
}

/// Edge and connector of ours.
pub(super) fn start(bench: &Bench, name: SubjectName, io: IoMode, setup: &Setup<'_>) -> Result<Running> {
    run(bench, name, io, Program::Adit, setup)
}

/// Our edge, with io_uring where it works, and the connector binary given.
pub(super) fn start_stock(bench: &Bench, name: SubjectName, setup: &Setup<'_>) -> Result<Running> {
    let path = bench
        .settings
        .connector_bin
        .clone()
        .context("needs --connector-bin")?;
    run(bench, name, IoMode::Uring, Program::Stock(path), setup)
}

fn run(bench: &Bench, name: SubjectName, io: IoMode, program: Program, setup: &Setup<'_>) -> Result<Running> {
    let (edge_cpus, connector_cpus) = setup.cpus(&bench.layout);
    let settings = SiteSettings::new(io).cores(setup.cores);
    let site = on(&edge_cpus, || settings.start())?;
    let service = setup.origin.url();
    let tunnel = site.tunnel("bench");
    let through = on(&bench.layout.load, || through(setup, site.edge.addresses.tunnel))??;
    let mut connector = site.connector_of(program.clone(), &tunnel).service(&service);
    if let Some(address) = through.address() {
        connector = connector.edge(address);
    }
    connector = connector.lines(&format!("ha-connections: {}\n", setup.connections));
    if matches!(name, SubjectName::AditHttp2 | SubjectName::StockHttp2) {
        connector = connector.run_flags(["--protocol", "http2"]);
    }
    let connector = on(&connector_cpus, || connector.start())?;
    connector.wait_connections(u64::from(setup.connections));
    site.wait_served();
    let processes = vec![
        ("edge".to_owned(), site.edge.process.pid()),
        ("connector".to_owned(), connector.process.pid()),
    ];
    let root = site.certificate.certificate.clone();
    let (https, http) = (site.edge.https(), site.edge.http());
    let site = AditSite {
        site,
        tunnel,
        program,
        service,
    };
    Ok(Running {
        through,
        site: Some(site),
        http: Some(http),
        ..Running::new(name, https, root, processes)
    }
    .keeping(connector))
}

fn through(setup: &Setup<'_>, edge: SocketAddr) -> Result<Through> {
    Ok(match setup.way {
        Way::Plain => Through::Nothing,
        Way::Counted => Through::Counter(Wire::start(edge)?),
        Way::Impaired(impairment) => Through::Relay(Relay::start(edge, super::SEED, impairment)),
    })
}

impl Fleet {
    /// Starts `count` connectors of the site's tunnel, each with `each` connections, and waits for all of
    /// them.
    pub(crate) fn start(bench: &Bench, site: &AditSite, count: u32, each: u32) -> Result<Self> {
        let mut connectors = Vec::new();
        for _ in 0..count {
            let base = site.site.connector_of(site.program.clone(), &site.tunnel);
            let settings = ConnectorSettings {
                // The stock connector wants more values than connections.
                edges: vec![site.site.edge.addresses.tunnel; each as usize + 1],
                lines: format!("ha-connections: {each}\n"),
                ..base.service(&site.service)
            };
            connectors.push(on(&bench.layout.connector, || settings.start())?);
        }
        // Connectors open their connections a second apart, so all of them do it at the same time.
        for connector in &connectors {
            connector.wait_connections(u64::from(each));
        }
        Ok(Self {
            connections: count * each,
            connectors,
        })
    }

    /// Process ids of the connectors.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.connectors
            .iter()
            .map(|connector| connector.process.pid())
            .collect()
    }
}
