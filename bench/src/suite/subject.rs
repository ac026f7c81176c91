//! The subjects: what stands between load and origin, started fresh for each scenario.

mod adit;
mod origin;
mod proxy;

use std::any::Any;
use std::fs;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use adit_driver::kernel::IoMode;
use adit_tests::process::children_of;
use anyhow::{Result, anyhow};

use super::Bench;
use super::options::SubjectName;

pub(crate) use self::origin::Origin;

/// The hostname every subject serves.
pub(crate) const HOST: &str = adit_tests::site::HOST;

/// A started subject; dropped, it ends.
pub(crate) struct Running {
    /// Which one.
    pub(crate) name: SubjectName,
    /// Where visitors speak TLS.
    pub(crate) https: SocketAddr,
    /// The root that signed its certificate.
    pub(crate) root: PathBuf,
    /// Names and ids of its processes; several may bear one name.
    pub(crate) processes: Vec<(String, u32)>,
    /// Its command lines.
    pub(crate) commands: Vec<String>,
    /// What ends when this drops.
    _parts: Box<dyn Any>,
}

impl Running {
    /// Starts a subject in front of `origin`.
    pub(crate) fn start(bench: &Bench, name: SubjectName, origin: &Origin) -> Result<Self> {
        // The harness panics when something does not start; one subject less is no reason to stop the run.
        let started = catch_unwind(AssertUnwindSafe(|| match name {
            SubjectName::AditUring => adit::start(bench, name, IoMode::Uring, origin),
            SubjectName::AditPortable => adit::start(bench, name, IoMode::Portable, origin),
            SubjectName::Stock => adit::start_stock(bench, name, origin),
            SubjectName::Direct => Ok(origin.as_subject(name)),
            SubjectName::Nginx => proxy::nginx(bench, name, origin),
        }));
        started.unwrap_or_else(|panic| Err(anyhow!("{}", message(&*panic))))
    }

    fn new(name: SubjectName, https: SocketAddr, root: PathBuf, processes: Vec<(String, u32)>) -> Self {
        let commands = processes.iter().map(|(_, pid)| command_line(*pid)).collect();
        Self {
            name,
            https,
            root,
            processes,
            commands,
            _parts: Box::new(()),
        }
    }

    fn keeping(self, parts: impl Any) -> Self {
        Self {
            _parts: Box::new(parts),
            ..self
        }
    }

    /// Ids of the processes called `name`.
    pub(crate) fn pids(&self, name: &str) -> Vec<u32> {
        let ours = self.processes.iter().filter(|(process, _)| process == name);
        ours.map(|(_, pid)| *pid).collect()
    }

    /// Names of its processes, once each.
    pub(crate) fn process_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.processes.iter().map(|(name, _)| name.clone()).collect();
        names.dedup();
        names
    }
}

/// A process and those it started, all under one name.
fn family(name: &str, pid: u32) -> Vec<(String, u32)> {
    std::iter::once(pid)
        .chain(children_of(pid))
        .map(|pid| (name.to_owned(), pid))
        .collect()
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}

/// The command line of a process; programs without their folders.
fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut words: Vec<&str> = text.split('\0').filter(|word| !word.is_empty()).collect();
    // A program that wrote its own line, as nginx does, has it all in one word.
    if let Some(program) = words.first_mut().filter(|word| !word.contains(' ')) {
        *program = program.rsplit('/').next().unwrap_or_default();
    }
    words.join(" ")
}
