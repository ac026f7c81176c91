//! What byte forwarding is compared with beside other tunnels: a bare forwarder from a folder of prototypes,
//! and the floor.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::scenario::Measured;
use super::series::{Figure, TOTAL};
use super::tool;
use crate::floor::FloorReport;

/// Limit for one measurement.
const LIMIT: Duration = Duration::from_secs(60);

/// The forwarder's design that uses the I/O our io_uring mode uses.
const DESIGN: &str = "hyb-evfd";

/// One round of the prototype forwarder, down and up.
pub(crate) fn lab(bench: &Bench) -> Result<Measured> {
    let folder = bench.settings.lab.as_ref().context("needs --lab")?;
    let mut measured = Measured::default();
    for way in ["down", "up"] {
        // It pins its own threads: its edge to CPU 1, everything else to CPU 0.
        let mut command = tool::program(folder.join("fwd"));
        command.env("MS", bench.settings.steady.as_millis().to_string());
        command.args([DESIGN, way, "1", "1"]);
        let text = tool::run(&mut command, &bench.layout.all, LIMIT)?;
        let [rate, edge, connector] = parse(&text).with_context(|| format!("unknown words: {text}"))?;
        measured
            .figures
            .push(Figure::new(format!("{way}.mb_per_s"), rate * 1e3));
        measured.figures.extend(sides(way, edge, connector));
        measured.commands.push(tool::line(&command));
    }
    Ok(measured)
}

/// Gigabytes per second and CPU of edge and connector per gigabyte, from a line such as
/// `fwd up n=1 hyb-evfd  0.325 GB/s; cpu ms/GB edge 2711 conn 2556; busy 99%/98%`.
fn parse(text: &str) -> Option<[f64; 3]> {
    let words: Vec<&str> = text
        .split([' ', ';', '\n'])
        .filter(|word| !word.is_empty())
        .collect();
    let at = |word: &str| words.iter().position(|found| *found == word);
    let number = |index: usize| words.get(index)?.parse().ok();
    Some([
        number(at("GB/s")?.checked_sub(1)?)?,
        number(at("edge")? + 1)?,
        number(at("conn")? + 1)?,
    ])
}

/// One round of the floor.
pub(crate) fn floor(bench: &Bench) -> Result<Measured> {
    let layout = &bench.layout;
    let cpus: Vec<String> = layout
        .load
        .iter()
        .chain(&layout.edge)
        .map(usize::to_string)
        .collect();
    let mut command = tool::program(&bench.program);
    command.arg("floor").arg("--cpus").arg(cpus.join(","));
    command
        .arg("--duration")
        .arg(format!("{}ms", bench.settings.busy.as_millis()));
    let text = tool::run(&mut command, &layout.all, LIMIT)?;
    let report: FloorReport =
        serde_json::from_str(&text).context("the report of the floor is not what we know")?;
    let (sending, receiving) = (report.sending_side(), report.receiving_side());
    let mut figures = sides("down", receiving, sending);
    figures.extend(sides("up", sending, receiving));
    for (part, value) in [
        ("seal", report.seal),
        ("open", report.open),
        ("udp send", report.udp_send),
        ("udp receive", report.udp_receive),
        ("tcp send", report.tcp_send),
        ("tcp receive", report.tcp_receive),
    ] {
        figures.push(Figure::of("part.cpu_ms_per_gb", part, value));
    }
    Ok(Measured {
        figures,
        commands: vec![tool::line(&command)],
        ..Measured::default()
    })
}

fn sides(way: &str, edge: f64, connector: f64) -> Vec<Figure> {
    let name = format!("{way}.cpu_ms_per_gb");
    vec![
        Figure::of(name.clone(), "edge", edge),
        Figure::of(name.clone(), "connector", connector),
        Figure::of(name, TOTAL, edge + connector),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_forwarder_is_read() {
        let line =
            "fwd up n=1 hyb-evfd               0.325 GB/s; cpu ms/GB edge 2711 conn 2556; busy 99%/98%\n";
        assert_eq!(parse(line), Some([0.325, 2711.0, 2556.0]));
        assert_eq!(parse("something else"), None);
    }
}
