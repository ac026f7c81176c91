//! Our edge with a connector of ours, or with another connector of the same command line.

use adit_driver::kernel::IoMode;
use adit_tests::site::SiteSettings;
use adit_tests::site::connector::Program;
use anyhow::{Context as _, Result};

use super::{Origin, Running};
use crate::suite::Bench;
use crate::suite::layout::on;
use crate::suite::options::SubjectName;

/// Connections of a connector to its edge.
const CONNECTIONS: u64 = 4;

/// Edge and connector of ours.
pub(super) fn start(bench: &Bench, name: SubjectName, io: IoMode, origin: &Origin) -> Result<Running> {
    run(bench, name, io, Program::Adit, origin)
}

/// Our edge, with io_uring where it works, and the connector binary given.
pub(super) fn start_stock(bench: &Bench, name: SubjectName, origin: &Origin) -> Result<Running> {
    let path = bench
        .settings
        .connector_bin
        .clone()
        .context("needs --connector-bin")?;
    run(bench, name, IoMode::Uring, Program::Stock(path), origin)
}

fn run(bench: &Bench, name: SubjectName, io: IoMode, program: Program, origin: &Origin) -> Result<Running> {
    let settings = SiteSettings::new(io);
    let site = on(&bench.layout.edge, || settings.start())?;
    let tunnel = site.tunnel("bench");
    let connector = site.connector_of(program, &tunnel).service(&origin.url());
    let connector = on(&bench.layout.connector, || connector.start())?;
    connector.wait_connections(CONNECTIONS);
    site.wait_served();
    let processes = vec![
        ("edge".to_owned(), site.edge.process.pid()),
        ("connector".to_owned(), connector.process.pid()),
    ];
    let root = site.certificate.certificate.clone();
    Ok(Running::new(name, site.edge.https(), root, processes).keeping((connector, site)))
}
