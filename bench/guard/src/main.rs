//! `adit-guard`: counts the instructions of the exchange path and compares them with what was accepted.
//!
//! ```text
//! check ─► one valgrind per case ─► work CASE ─► callgrind's file ─► instructions, allocations ─► baseline
//! ```
//! Instructions are counted by callgrind, not timed, so that a busy machine gives the answer of an idle one.
//! What a case does before and after its iterations is not counted.
//!
//! `bench/guard/run` builds and starts this with the settings on which the counts depend.
#![forbid(unsafe_code)]

// In the order of a run: what is counted, how, where, against what.
mod cases;
mod callgrind;
mod platform;
mod baseline;

use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use baseline::Baseline;
use platform::Platform;

// What ships allocates with it, and its instructions do not depend on the C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: adit-guard check BASELINE | accept BASELINE | work CASE";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["check", path] => check(PathBuf::from(path)),
        ["accept", path] => accept(PathBuf::from(path)),
        ["work", name] => cases::work(name).map(|()| ExitCode::SUCCESS),
        _ => bail!(USAGE),
    }
}

fn check(path: PathBuf) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let accepted = Baseline::parse(&text)?;
    let here = Platform::here()?;
    let mut out = stdout().lock();
    if accepted.platform.is_other(&here) {
        writeln!(
            out,
            "skipped: the baseline is of {}, here is {here}; accept one for this with bench/guard/run --accept",
            accepted.platform
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let comparison = accepted.compare(&count_all(here)?);
    write!(out, "{comparison}")?;
    Ok(ExitCode::from(u8::from(!comparison.is_good())))
}

fn accept(path: PathBuf) -> anyhow::Result<ExitCode> {
    let counted = count_all(Platform::here()?)?;
    // Shows what the change was, if there was a baseline.
    if let Ok(text) = std::fs::read_to_string(&path) {
        write!(stdout().lock(), "{}", Baseline::parse(&text)?.compare(&counted))?;
    }
    std::fs::write(&path, counted.to_string()).with_context(|| format!("writing {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn count_all(platform: Platform) -> anyhow::Result<Baseline> {
    let counts = cases::names().map(|name| Ok((name.to_owned(), callgrind::count(name)?)));
    Ok(Baseline {
        platform,
        counts: counts.collect::<anyhow::Result<_>>()?,
    })
}
