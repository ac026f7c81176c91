//! What the suite is asked to do: flags as written, and the settings they resolve to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit};
use serde::{Serialize, Serializer};

/// Descriptors that a proxy needs beside its connections, of which each visitor may take two.
const DESCRIPTORS_SPARE: u32 = 500;

/// Arguments of `suite`.
#[derive(Debug, clap::Args)]
pub(crate) struct Suite {
    /// Fewer scenarios and fewer, shorter rounds. Shows within five minutes that everything works, and the
    /// rough ratios.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Run these scenarios only.
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    pub(crate) only: Vec<ScenarioName>,
    /// Measure these subjects only.
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',')]
    pub(crate) subjects: Vec<SubjectName>,
    /// Folder for report.json, report.md and the plots.
    #[arg(long, value_name = "DIR", default_value = "bench-report")]
    pub(crate) out: PathBuf,
    /// Write the JSON here as well.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// A connector binary with cloudflared's command line, to run on our edge beside our own.
    #[arg(long, value_name = "PATH")]
    pub(crate) connector_bin: Option<PathBuf>,
    /// Folder with other tunnels as `cargo install --root` leaves them (bin/rathole).
    #[arg(long, value_name = "DIR")]
    pub(crate) peers: Option<PathBuf>,
    /// Folder with the built prototype forwarder `fwd`.
    #[arg(long, value_name = "DIR")]
    pub(crate) lab: Option<PathBuf>,
    /// Rounds per scenario; 5, or 3 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,
    /// Offered requests per second in every fixed-rate load, in place of the calibrated rate.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,
}

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum ScenarioName {
    /// 1 KB requests on keep-alive HTTP/1.1 connections over TLS.
    RequestsH1,
    /// 1 KB requests on HTTP/2 connections over TLS.
    RequestsH2,
    /// A new TLS connection for each 1 KB request.
    Handshakes,
    /// One large transfer each way over TLS.
    #[value(name = "bulk-1")]
    Bulk1,
    /// 64 transfers side by side, each way, over TLS.
    #[value(name = "bulk-64")]
    Bulk64,
    /// One request at a time on an idle machine: the latency that a subject adds.
    Latency,
    /// Small messages back and forth over WebSocket.
    #[value(name = "websocket")]
    WebSocket,
    /// The delay of each event of a stream.
    Events,
    /// An idle connector: CPU and bytes on the wire.
    IdleConnector,
    /// Many idle visitors: memory of each.
    IdleVisitors,
    /// Many idle tunnel connections: memory of each.
    IdleTunnels,
    /// Memory growth over a long transfer.
    Memory,
    /// Bare bytes over one connection each way, beside other forwarders and the floor.
    Tcp,
    /// Transfers and requests over long and lossy ways.
    Impaired,
    /// Many transfers and small requests on one tunnel connection over a narrow link.
    Sharing,
    /// One core against more.
    Cores,
}

/// What a short run measures when nothing is named: each budget that a minute can say something about.
const QUICK: [ScenarioName; 6] = [
    ScenarioName::RequestsH1,
    ScenarioName::RequestsH2,
    ScenarioName::Bulk1,
    ScenarioName::Latency,
    ScenarioName::IdleVisitors,
    ScenarioName::Tcp,
];

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum SubjectName {
    /// Our edge and connector with io_uring.
    AditUring,
    /// Our edge and connector without io_uring.
    AditPortable,
    /// Our edge and connector with io_uring, tunnelling over HTTP/2; only if it is asked for.
    AditHttp2,
    /// Our edge and the connector binary given.
    Stock,
    /// Our edge and the connector binary given, tunnelling over HTTP/2; only if it is asked for.
    StockHttp2,
    /// No proxy at all.
    Direct,
    /// nginx as a TLS reverse proxy to a TLS origin.
    Nginx,
    /// haproxy as a TLS reverse proxy to a TLS origin.
    Haproxy,
    /// rathole with its Noise transport.
    RatholeNoise,
    /// rathole with its TLS transport.
    RatholeTls,
    /// The prototype forwarder of --lab.
    LabHybrid,
    /// Encryption, UDP and TCP alone.
    Floor,
}

/// What a run does; resolved from [`Suite`].
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settings {
    /// Whether it is a short one.
    pub(crate) quick: bool,
    /// Scenarios in their order.
    pub(crate) scenarios: Vec<ScenarioName>,
    /// Subjects in their order.
    pub(crate) subjects: Vec<SubjectName>,
    /// Rounds per scenario.
    pub(crate) rounds: u32,
    /// Length of a load that finds out how much a subject takes.
    #[serde(serialize_with = "seconds")]
    pub(crate) busy: Duration,
    /// Length of a load at a fixed rate.
    #[serde(serialize_with = "seconds")]
    pub(crate) steady: Duration,
    /// Rounds of scenarios that start their subjects anew in each.
    pub(crate) fresh_rounds: u32,
    /// Length of a look at something idle.
    #[serde(serialize_with = "seconds")]
    pub(crate) idle: Duration,
    /// How long an idle connector is watched: a multiple of the interval of its PINGs, because else their
    /// number is chance.
    #[serde(serialize_with = "seconds")]
    pub(crate) idle_connector: Duration,
    /// Idle visitors.
    pub(crate) idle_visitors: u32,
    /// Idle connectors, and the connections of each.
    pub(crate) idle_tunnels: (u32, u32),
    /// Bytes of a large transfer, each way.
    pub(crate) bulk_bytes: u64,
    /// Bytes of a transfer over which memory must not grow, each way.
    pub(crate) memory_bytes: u64,
    /// Fixed rate, if it is not calibrated.
    pub(crate) rate: Option<u32>,
    /// The connector of [`SubjectName::Stock`].
    #[serde(skip)]
    pub(crate) connector_bin: Option<PathBuf>,
    /// Where other tunnels are.
    #[serde(skip)]
    pub(crate) peers: Option<PathBuf>,
    /// Where the prototype forwarder is.
    #[serde(skip)]
    pub(crate) lab: Option<PathBuf>,
}

impl Settings {
    /// Fills in what the flags left open.
    pub(crate) fn from_options(options: &Suite) -> Result<Self> {
        let mut subjects: Vec<SubjectName> = chosen(&options.subjects);
        match &options.connector_bin {
            Some(path) => ensure!(path.is_file(), "--connector-bin {} is no file", path.display()),
            None => {
                subjects.retain(|subject| !matches!(subject, SubjectName::Stock | SubjectName::StockHttp2));
            }
        }
        if options.subjects.is_empty() {
            subjects.retain(|subject| !matches!(subject, SubjectName::AditHttp2 | SubjectName::StockHttp2));
        }
        if options.lab.is_none() {
            subjects.retain(|subject| *subject != SubjectName::LabHybrid);
        }
        if options.peers.is_none() {
            subjects
                .retain(|subject| !matches!(subject, SubjectName::RatholeNoise | SubjectName::RatholeTls));
        }
        ensure!(!subjects.is_empty(), "no subject is left to measure");
        let (soft, _) =
            getrlimit(Resource::RLIMIT_NOFILE).context("cannot ask for the limit of descriptors")?;
        let descriptors = u32::try_from(soft).unwrap_or(u32::MAX).max(4 * DESCRIPTORS_SPARE);
        let quick = options.quick;
        let pick = |short, long| Duration::from_millis(if quick { short } else { long });
        Ok(Self {
            quick,
            scenarios: if quick && options.only.is_empty() {
                QUICK.to_vec()
            } else {
                chosen(&options.only)
            },
            subjects,
            rounds: options.rounds.unwrap_or(if quick { 3 } else { 5 }),
            busy: pick(500, 5_000),
            steady: pick(1_000, 10_000),
            fresh_rounds: options.rounds.unwrap_or(3).min(if quick { 1 } else { 3 }),
            idle: pick(3_000, 60_000),
            idle_connector: pick(50_000, 100_000),
            idle_visitors: if quick {
                2_000
            } else {
                10_000.min(descriptors / 2 - DESCRIPTORS_SPARE)
            },
            idle_tunnels: if quick { (25, 8) } else { (40, 25) },
            memory_bytes: if quick { 500_000_000 } else { 10_000_000_000 },
            bulk_bytes: if quick { 100_000_000 } else { 1_000_000_000 },
            rate: options.rate,
            connector_bin: options.connector_bin.clone(),
            peers: options.peers.clone(),
            lab: options.lab.clone(),
        })
    }
}

/// The values named, in their natural order and once each; all when none is named.
fn chosen<T: ValueEnum + Ord + Copy>(named: &[T]) -> Vec<T> {
    let all = T::value_variants();
    let wanted = |value: &&T| named.is_empty() || named.contains(value);
    all.iter().filter(wanted).copied().collect()
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn name_of(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

impl fmt::Display for ScenarioName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&name_of(self))
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&name_of(self))
    }
}

impl Serialize for ScenarioName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&name_of(self))
    }
}

impl Serialize for SubjectName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&name_of(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_named_means_all_and_the_order_is_ours() {
        assert_eq!(
            chosen::<ScenarioName>(&[]).len(),
            ScenarioName::value_variants().len()
        );
        let named = [ScenarioName::Bulk1, ScenarioName::RequestsH1, ScenarioName::Bulk1];
        assert_eq!(chosen(&named), [ScenarioName::RequestsH1, ScenarioName::Bulk1]);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        assert_eq!(ScenarioName::RequestsH1.to_string(), "requests-h1");
        assert_eq!(SubjectName::AditUring.to_string(), "adit-uring");
    }
}
