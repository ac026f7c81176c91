//! The subjects: what stands between load and origin, started fresh for each scenario.

mod adit;
mod origin;
mod proxy;
mod rathole;

use std::any::Any;
use std::fs;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use adit_driver::kernel::IoMode;
use adit_tests::process::children_of;
use adit_tests::relay::{Impairment, Relay};
use adit_tests::visitor::curl::Curl;
use anyhow::{Result, anyhow};

use super::Bench;
use super::layout::Layout;
use super::options::SubjectName;
use super::wire::Wire;

pub(crate) use self::adit::{AditSite, Fleet};
pub(crate) use self::origin::Origin;
use self::rathole::Transport;

/// The hostname every subject serves.
pub(crate) const HOST: &str = adit_tests::site::HOST;

/// Seed of every impairment, so that two runs lose the same datagrams.
const SEED: u64 = 1;

/// How a subject is to be started.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// What it serves.
    pub(crate) origin: &'a Origin,
    /// Cores of each of its processes.
    pub(crate) cores: u16,
    /// What lies between edge and connector.
    pub(crate) way: Way,
    /// Connections from connector to edge.
    pub(crate) connections: u32,
    /// Whether edge and connector have different CPUs in any case. On two CPUs the connector then shares one
    /// with load and origin.
    pub(crate) is_apart: bool,
}

/// What lies between edge and connector.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    /// Nothing.
    Plain,
    /// Something that counts bytes.
    Counted,
    /// A bad network.
    Impaired(Impairment),
}

/// What lies between the edge and the connector that run.
pub(crate) enum Through {
    /// Nothing.
    Nothing,
    /// Something that counts bytes.
    Counter(Wire),
    /// A bad network.
    Relay(Relay),
}

/// A started subject; dropped, it ends.
pub(crate) struct Running {
    /// Which one.
    pub(crate) name: SubjectName,
    /// Where visitors speak TLS.
    pub(crate) https: SocketAddr,
    /// Where visitors speak plain HTTP/1.1, if anywhere.
    pub(crate) http: Option<SocketAddr>,
    /// The root that signed its certificate.
    pub(crate) root: PathBuf,
    /// Names and ids of its processes; several may bear one name.
    pub(crate) processes: Vec<(String, u32)>,
    /// Its command lines.
    pub(crate) commands: Vec<String>,
    // The order of these fields is the order in which the parts end: first who dials, then who listens.
    _parts: Box<dyn Any>,
    /// What lies between its edge and its connector.
    pub(crate) through: Through,
    /// The edge, where it is ours.
    pub(crate) site: Option<AditSite>,
}

impl<'a> Setup<'a> {
    /// The usual: one core, nothing in between.
    pub(crate) const fn plain(origin: &'a Origin) -> Self {
        Self {
            origin,
            cores: 1,
            way: Way::Plain,
            connections: 4,
            is_apart: false,
        }
    }

    /// CPUs of the edge and of the connector; with several cores all CPUs are shared by everybody.
    fn cpus(&self, layout: &Layout) -> (Vec<usize>, Vec<usize>) {
        if self.cores > 1 {
            (layout.all.clone(), layout.all.clone())
        } else if self.is_apart && layout.edge == layout.connector {
            (layout.edge.clone(), layout.load.clone())
        } else {
            (layout.edge.clone(), layout.connector.clone())
        }
    }
}

impl Through {
    /// Where the connector has to dial in place of the edge.
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Nothing => None,
            Self::Counter(wire) => Some(wire.address),
            Self::Relay(relay) => Some(relay.address()),
        }
    }
}

impl Running {
    /// Starts a subject.
    pub(crate) fn start(bench: &Bench, name: SubjectName, setup: &Setup<'_>) -> Result<Self> {
        // The harness panics when something does not start; one subject less is no reason to stop the run.
        let started = catch_unwind(AssertUnwindSafe(|| match name {
            SubjectName::AditUring | SubjectName::AditHttp2 => adit::start(bench, name, IoMode::Uring, setup),
            SubjectName::AditPortable => adit::start(bench, name, IoMode::Portable, setup),
            SubjectName::Stock | SubjectName::StockHttp2 => adit::start_stock(bench, name, setup),
            SubjectName::Direct => Ok(setup.origin.as_subject(name)),
            SubjectName::Nginx => proxy::nginx(bench, name, setup),
            SubjectName::Haproxy => proxy::haproxy(bench, name, setup),
            SubjectName::RatholeNoise => rathole::start(bench, name, Transport::Noise, setup),
            SubjectName::RatholeTls => rathole::start(bench, name, Transport::Tls, setup),
            // They run only while they are measured.
            SubjectName::LabHybrid | SubjectName::Floor => Ok(setup.origin.as_subject(name)),
        }));
        started.unwrap_or_else(|panic| Err(anyhow!("{}", message(&*panic))))
    }

    fn new(name: SubjectName, https: SocketAddr, root: PathBuf, processes: Vec<(String, u32)>) -> Self {
        let commands = processes.iter().map(|(_, pid)| command_line(*pid)).collect();
        Self {
            name,
            https,
            http: None,
            root,
            processes,
            commands,
            _parts: Box::new(()),
            through: Through::Nothing,
            site: None,
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

/// Whether a plain request to `address` is answered.
fn is_served(address: SocketAddr) -> bool {
    let response = Curl::get(&format!("http://{HOST}/")).connect_to(address).run();
    response.status == 200
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
