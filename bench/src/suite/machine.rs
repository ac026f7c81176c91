//! What the run ran on: machine, kernel, commit and the versions of every program involved.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use adit_tests::binary;
use serde::Serialize;

use super::Bench;
use super::options::SubjectName;
use super::tool::{first_line, line_with};

/// The facts a reader needs before the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Kernel release and version.
    pub(crate) kernel: String,
    /// Model of the CPUs.
    pub(crate) cpu: String,
    /// How many this process may use.
    pub(crate) cpus: usize,
    /// Memory in GiB.
    pub(crate) memory_gib: f64,
    /// MTU of the loopback, over which everything went.
    pub(crate) loopback_mtu: String,
    /// Load average at the end.
    pub(crate) load_average: String,
    /// Commit of the sources, with `+` when they were changed since.
    pub(crate) commit: String,
    /// Version of each program.
    pub(crate) versions: BTreeMap<String, String>,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look(bench: &Bench) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = field(&read("/proc/cpuinfo"), "model name");
        let memory: f64 = field(&read("/proc/meminfo"), "MemTotal")
            .split_whitespace()
            .next()
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0.0);
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu,
            cpus: bench.layout.all.len(),
            memory_gib: (memory / f64::from(1 << 20) * 10.0).round() / 10.0,
            loopback_mtu: line_with("ip", &["link", "show", "lo"], " mtu ")
                .and_then(|line| Some(line.split_once(" mtu ")?.1.split_whitespace().next()?.to_owned()))
                .unwrap_or_else(|| "unknown".to_owned()),
            load_average: read("/proc/loadavg").trim().to_owned(),
            commit: commit(),
            versions: versions(bench),
        }
    }
}

/// The value behind `name` in a `name : value` file.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

fn commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let Some(hash) = first_line("git", &["-C", folder, "rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = first_line(
        "git",
        &["-C", folder, "status", "--porcelain", "--untracked-files=no"],
    );
    if changed.is_some() { hash + "+" } else { hash }
}

fn versions(bench: &Bench) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut ask = |name: &str, path: &Path, argument: &str| {
        if let Some(line) = first_line(path, &[argument]) {
            versions.insert(name.to_owned(), line);
        }
    };
    ask("adit", binary::adit(), "version");
    ask("rustc", Path::new("rustc"), "--version");
    if bench.settings.subjects.contains(&SubjectName::Nginx) {
        ask("nginx", Path::new("nginx"), "-v");
    }
    if bench.settings.subjects.contains(&SubjectName::Haproxy) {
        ask("haproxy", Path::new("haproxy"), "-v");
    }
    if let Some(path) = &bench.settings.connector_bin {
        ask("stock connector", path, "--version");
    }
    if let Some(peers) = &bench.settings.peers {
        let version = line_with(peers.join("bin/rathole"), &["--version"], "Build Version");
        versions.extend(version.map(|line| ("rathole".to_owned(), line)));
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_what_stands_behind_its_colon() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n";
        assert_eq!(field(text, "model name"), "Some CPU @ 2 GHz");
        assert_eq!(field(text, "flags"), "");
    }
}
