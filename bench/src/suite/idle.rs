//! What subjects cost while nothing happens: memory per idle connection, CPU, bytes on the wire.

use std::time::Duration;

use adit_tests::process::Process;
use anyhow::{Context as _, Result};

use super::Bench;
use super::layout::on;
use super::scenario::Measured;
use super::series::Figure;
use super::subject::{Fleet, HOST, Running, Through};
use super::tool;
use crate::args::Watch;
use crate::process::{Meter, Spent, resident_kib};

/// Limit for opening all connections.
const OPEN_LIMIT: Duration = Duration::from_secs(180);

/// From the last connection opened to the measurement: what the opening left to do is done by then.
const SETTLE: Duration = Duration::from_secs(2);

/// New connections first find out what their path carries.
const SETTLE_PATH: Duration = Duration::from_secs(8);

/// Idle visitors: memory per connection and CPU.
pub(crate) fn visitors(bench: &Bench, running: &Running) -> Result<Measured> {
    let count = bench.settings.idle_visitors;
    let before = memory(running);
    let window = bench.settings.idle;
    let mut command = tool::program(&bench.program);
    command.arg("hold").arg(format!("https://{}/", running.https));
    command.args(["--host", HOST, "--cacert"]).arg(&running.root);
    command.arg("--connections").arg(count.to_string());
    command
        .arg("--duration")
        .arg(format!("{}s", (window + SETTLE).as_secs() + 30));
    let mut holder = on(&bench.layout.load, || Process::start("load", &mut command))?;
    holder.wait_line("holding", OPEN_LIMIT);
    std::thread::sleep(SETTLE);
    let spent = watch(running, window)?;
    let mut measured = Measured {
        figures: idle_cpu(running, &spent, window),
        commands: vec![tool::line(&command)],
        ..Measured::default()
    };
    for ((name, before), (_, after)) in before.iter().zip(memory(running)) {
        let each = after.saturating_sub(*before) as f64 / f64::from(count);
        measured
            .figures
            .push(Figure::of("rss_kib_per_visitor", name.clone(), each));
    }
    Ok(measured)
}

/// One idle connector with its usual connections: CPU, memory, bytes on the wire.
pub(crate) fn connector(bench: &Bench, running: &Running) -> Result<Measured> {
    let Through::Counter(wire) = &running.through else {
        anyhow::bail!("the subject was started without a counter");
    };
    let window = bench.settings.idle_connector;
    std::thread::sleep(SETTLE_PATH);
    let before = wire.counts();
    let spent = watch(running, window)?;
    let after = wire.counts();
    let days = window.as_secs_f64() / 86_400.0;
    let mut figures = idle_cpu(running, &spent, window);
    figures.push(Figure::new(
        "wire_mb_per_day",
        (after.1 - before.1) as f64 / 1e6 / days,
    ));
    figures.push(Figure::new(
        "wire_datagrams_per_s",
        (after.0 - before.0) as f64 / window.as_secs_f64(),
    ));
    for spent in &spent {
        figures.push(Figure::of(
            "rss_mib",
            spent.name.clone(),
            spent.rss_peak_kib as f64 / 1024.0,
        ));
    }
    Ok(Measured {
        figures,
        ..Measured::default()
    })
}

/// Many idle tunnel connections: memory of the edge and of connectors for each, CPU of the edge.
pub(crate) fn tunnels(bench: &Bench, running: &Running) -> Result<Measured> {
    let site = running.site.as_ref().context("only our edge has tunnels")?;
    let (count, each) = bench.settings.idle_tunnels;
    let before = resident(running, "edge");
    let fleet = Fleet::start(bench, site, count, each)?;
    std::thread::sleep(SETTLE);
    let window = bench.settings.idle;
    let spent = watch(running, window)?;
    let edge = resident(running, "edge").saturating_sub(before) as f64;
    let connectors: u64 = fleet.pids().into_iter().map(resident_kib).sum();
    let mut figures = idle_cpu(running, &spent, window);
    figures.push(Figure::of(
        "rss_kib_per_tunnel_connection",
        "edge",
        edge / f64::from(fleet.connections),
    ));
    figures.push(Figure::of(
        "rss_kib_per_tunnel_connection",
        "connector",
        connectors as f64 / f64::from(fleet.connections),
    ));
    Ok(Measured {
        figures,
        notes: vec![format!(
            "{} connections of {} connectors",
            fleet.connections,
            fleet.pids().len()
        )],
        ..Measured::default()
    })
}

fn resident(running: &Running, name: &str) -> u64 {
    running.pids(name).into_iter().map(resident_kib).sum()
}

fn memory(running: &Running) -> Vec<(String, u64)> {
    let names = running.process_names().into_iter();
    names
        .map(|name| (name.clone(), resident(running, &name)))
        .collect()
}

fn watch(running: &Running, window: Duration) -> Result<Vec<Spent>> {
    let meter = Meter::start(&Watch {
        pid: running.processes.clone(),
        matching: Vec::new(),
        json: true,
    })?;
    std::thread::sleep(window);
    let names = running.process_names();
    let mut spent = meter.stop();
    spent.retain(|spent| names.contains(&spent.name));
    Ok(spent)
}

fn idle_cpu(running: &Running, spent: &[Spent], window: Duration) -> Vec<Figure> {
    let mut figures = Vec::new();
    for name in running.process_names() {
        let of_name = || spent.iter().filter(|spent| spent.name == name);
        let cpu_us: u64 = of_name().map(|spent| spent.cpu_us).sum();
        let switches: u64 = of_name().map(|spent| spent.switches).sum();
        let percent = cpu_us as f64 * 100.0 / window.as_micros() as f64;
        figures.push(Figure::of("idle_cpu_percent", name.clone(), percent));
        figures.push(Figure::of(
            "switches_per_s",
            name,
            switches as f64 / window.as_secs_f64(),
        ));
    }
    figures
}
