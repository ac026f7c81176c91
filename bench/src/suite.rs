//! The suite: sets subjects up side by side on this machine, measures them in turn, and writes a report.
//!
//! ```text
//! options ─► layout (who runs on which CPUs) ─► for each scenario: subjects start ─► calibration
//!     ─► rounds (A B C  C B A …) ─► series of figures ─► verdicts, report.json, report.md, plots
//! ```
//! Every measured load is a child process of this same program, so each line of a report can be repeated by
//! hand. All children belong to the thread that runs the suite and die with it.
//!
//! Does not: compare absolute values of different runs. Ratios between subjects of one run are the result.

pub(crate) mod options;
pub(crate) mod layout;
mod tool;
mod machine;
mod wire;
mod subject;
mod series;
mod sharing;
mod kind;
mod scenario;
mod requests;
mod bulk;
mod idle;
mod yardstick;
mod impaired;
mod calls;
mod company;
mod verdict;
mod markdown;
mod plot;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tempfile::TempDir;

use self::layout::Layout;
use self::machine::Machine;
use self::options::{Settings, Suite};
use self::scenario::ScenarioReport;
use self::verdict::Verdict;
use crate::report::print;

/// What every scenario works with.
#[derive(Debug)]
pub(crate) struct Bench {
    /// What the command line asked for.
    settings: Settings,
    /// Which CPUs belong to whom.
    layout: Layout,
    /// Certificates, configurations and logs of the run.
    folder: TempDir,
    /// This program, which is also load and origin.
    program: PathBuf,
}

/// The whole report.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    layout: Layout,
    settings: Settings,
    scenarios: Vec<ScenarioReport>,
    verdicts: Vec<Verdict>,
}

/// Runs the suite.
pub(crate) fn run(options: &Suite) -> Result<()> {
    let bench = Bench {
        settings: Settings::from_options(options)?,
        layout: Layout::of_this_machine()?,
        folder: tempfile::tempdir().context("cannot make a temp dir")?,
        program: std::env::current_exe().context("this program does not know its own path")?,
    };
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let mut scenarios = Vec::new();
    for name in bench.settings.scenarios.clone() {
        say(&format!("== {name}"))?;
        scenarios.push(scenario::run(&bench, name)?);
    }
    let report = Report {
        machine: Machine::look(&bench),
        layout: bench.layout.clone(),
        settings: bench.settings.clone(),
        verdicts: verdict::all(&scenarios),
        scenarios,
    };
    write(options, &report)
}

fn write(options: &Suite, report: &Report) -> Result<()> {
    let plots = plot::draw(&options.out, &report.scenarios)?;
    let text = markdown::render(report, &plots);
    let json = serde_json::to_string_pretty(report).context("cannot write JSON")? + "\n";
    let mut files = vec![
        (options.out.join("report.json"), &json),
        (options.out.join("report.md"), &text),
    ];
    if let Some(file) = &options.json {
        files.push((file.clone(), &json));
    }
    for (file, text) in files {
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    print(&text)?;
    say(&format!("report and plots are in {}", options.out.display()))
}

/// Says on standard error how far the run is.
fn say(text: &str) -> Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{text}").context("cannot write to standard error")
}
