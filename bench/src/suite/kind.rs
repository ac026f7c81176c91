//! How each scenario measures: which subjects, how they are started, and what one round of one of them is.

use adit_tests::relay::Impairment;
use anyhow::Result;

use super::bulk::BulkShape;
use super::options::{ScenarioName, Settings, SubjectName};
use super::requests::RequestShape;
use super::scenario::Measured;
use super::series::Figure;
use super::subject::{Origin, Running, Way};
use super::{Bench, bulk, calls, idle, impaired, requests, sharing, yardstick};

/// How a scenario measures.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Requests.
    Requests(RequestShape),
    /// Transfers over TLS.
    Bulk(BulkShape),
    /// Transfers of bare bytes.
    Raw(BulkShape),
    /// Memory over a transfer.
    Growth(BulkShape),
    /// An idle connector.
    IdleConnector,
    /// Idle visitors.
    IdleVisitors,
    /// Idle tunnel connections.
    IdleTunnels,
    /// Bad networks.
    Impaired,
    /// Transfers and requests on one connection.
    Sharing,
    /// One core and more.
    Cores(BulkShape),
}

impl Kind {
    /// How this scenario measures.
    pub(crate) fn of(name: ScenarioName, settings: &Settings) -> Self {
        let bulk = |parallel, bytes| BulkShape {
            parallel,
            bytes,
            ..BulkShape::one()
        };
        match name {
            ScenarioName::RequestsH1 => Self::Requests(RequestShape::H1),
            ScenarioName::RequestsH2 => Self::Requests(RequestShape::H2),
            ScenarioName::Handshakes => Self::Requests(RequestShape::FRESH),
            ScenarioName::Latency => Self::Requests(RequestShape::ALONE),
            ScenarioName::WebSocket => Self::Requests(RequestShape::WEBSOCKET),
            ScenarioName::Events => Self::Requests(RequestShape::EVENTS),
            ScenarioName::Bulk1 => Self::Bulk(bulk(1, settings.bulk_bytes)),
            ScenarioName::Bulk64 => Self::Bulk(bulk(64, settings.bulk_bytes)),
            ScenarioName::Tcp => Self::Raw(BulkShape {
                is_raw: true,
                ..bulk(1, settings.bulk_bytes)
            }),
            ScenarioName::Memory => Self::Growth(bulk(1, settings.memory_bytes)),
            ScenarioName::IdleConnector => Self::IdleConnector,
            ScenarioName::IdleVisitors => Self::IdleVisitors,
            ScenarioName::IdleTunnels => Self::IdleTunnels,
            ScenarioName::Impaired => Self::Impaired,
            ScenarioName::Sharing => Self::Sharing,
            ScenarioName::Cores => Self::Cores(bulk(64, settings.bulk_bytes)),
        }
    }

    /// Whether each round needs subjects that have done nothing yet, or subjects of several kinds.
    pub(crate) const fn is_fresh(&self) -> bool {
        match self {
            Self::Requests(_) | Self::Bulk(_) | Self::Raw(_) | Self::Impaired | Self::Sharing => false,
            Self::Growth(_)
            | Self::IdleConnector
            | Self::IdleVisitors
            | Self::IdleTunnels
            | Self::Cores(_) => true,
        }
    }

    /// Whether a round is long enough for few of them.
    pub(crate) const fn is_long(&self) -> bool {
        self.is_fresh() || matches!(self, Self::Impaired | Self::Sharing)
    }

    /// Whether it says anything about this subject.
    pub(crate) const fn suits(&self, subject: SubjectName) -> bool {
        use SubjectName as S;
        match (self, subject) {
            (_, S::AditUring | S::AditPortable) => true,
            (Self::Requests(_) | Self::Bulk(_) | Self::Raw(_), S::AditHttp2 | S::StockHttp2) => true,
            (Self::Cores(_), _) | (_, S::AditHttp2 | S::StockHttp2) => false,
            (_, S::Stock) => true,
            (Self::Raw(_), S::Nginx | S::Haproxy) => false,
            (Self::Raw(_), _) => true,
            (_, S::RatholeNoise | S::RatholeTls | S::LabHybrid | S::Floor) => false,
            (Self::Requests(_) | Self::Bulk(_), S::Direct | S::Nginx | S::Haproxy)
            | (Self::IdleVisitors | Self::Growth(_), S::Nginx | S::Haproxy) => true,
            (Self::IdleVisitors | Self::Growth(_), S::Direct) => false,
            (
                Self::IdleConnector | Self::IdleTunnels | Self::Impaired | Self::Sharing,
                S::Direct | S::Nginx | S::Haproxy,
            ) => false,
        }
    }

    /// What lies between edge and connector.
    pub(crate) fn way(&self) -> Way {
        match self {
            Self::IdleConnector => Way::Counted,
            Self::Impaired | Self::Sharing => Way::Impaired(Impairment::default()),
            Self::Requests(_)
            | Self::Bulk(_)
            | Self::Raw(_)
            | Self::Growth(_)
            | Self::IdleVisitors
            | Self::IdleTunnels
            | Self::Cores(_) => Way::Plain,
        }
    }

    /// Connections from connector to edge.
    pub(crate) const fn connections(&self) -> u32 {
        match self {
            Self::Sharing => 1,
            Self::Requests(_)
            | Self::Bulk(_)
            | Self::Raw(_)
            | Self::Growth(_)
            | Self::IdleConnector
            | Self::IdleVisitors
            | Self::IdleTunnels
            | Self::Impaired
            | Self::Cores(_) => 4,
        }
    }

    /// Numbers of cores that a round tries one after the other.
    pub(crate) fn cores(&self, bench: &Bench) -> Vec<u16> {
        let Self::Cores(_) = self else {
            return vec![1];
        };
        let most = bench.layout.all.len();
        [1, 2, 4, 8, 16, 32]
            .into_iter()
            .filter(|count| usize::from(*count) <= most)
            .collect()
    }

    /// One round of one subject.
    pub(crate) fn measure(
        &self,
        bench: &Bench,
        origin: &Origin,
        running: &Running,
        rate: Option<u32>,
    ) -> Result<Measured> {
        let rate = rate.unwrap_or(1);
        match (self, running.name) {
            (Self::Requests(shape), _) => requests::measure(bench, shape, origin, running, rate),
            (Self::Raw(_), SubjectName::LabHybrid) => yardstick::lab(bench),
            (Self::Raw(_), SubjectName::Floor) => yardstick::floor(bench),
            (Self::Bulk(shape) | Self::Raw(shape), _) => bulk::measure(bench, shape, origin, running),
            (Self::Growth(shape), _) => bulk::growth(bench, shape, origin, running),
            (Self::IdleConnector, _) => idle::connector(bench, running),
            (Self::IdleVisitors, _) => idle::visitors(bench, running),
            (Self::IdleTunnels, _) => idle::tunnels(bench, running),
            (Self::Impaired, _) => impaired::measure(bench, origin, running),
            (Self::Sharing, _) => sharing::measure(bench, origin, running),
            (Self::Cores(shape), _) => {
                let requests = RequestShape::CORES;
                let rate = requests.rate().unwrap_or(rate);
                let mut measured = requests::measure(bench, &requests, origin, running, rate)?;
                measured.absorb("", bulk::measure(bench, shape, origin, running)?);
                // What processor time divides into is the matter of other scenarios.
                let is_kept =
                    |figure: &Figure| figure.key.process.is_empty() || figure.key.name.contains("cpu_");
                measured.figures.retain(is_kept);
                Ok(measured)
            }
        }
    }

    /// System calls of one subject, where they are counted.
    pub(crate) fn calls(&self, bench: &Bench, running: &Running, rate: Option<u32>) -> Result<Vec<Figure>> {
        match self {
            Self::Requests(shape) => calls::per_request(bench, shape, running, rate.unwrap_or(1)),
            Self::Bulk(shape) | Self::Raw(shape) => calls::per_gigabyte(bench, shape, running),
            Self::Growth(_)
            | Self::IdleConnector
            | Self::IdleVisitors
            | Self::IdleTunnels
            | Self::Impaired
            | Self::Sharing
            | Self::Cores(_) => Ok(Vec::new()),
        }
    }
}

/// What the report says about this scenario.
pub(crate) fn title(name: ScenarioName) -> &'static str {
    match name {
        ScenarioName::RequestsH1 => "GET of 1 KB on 64 keep-alive HTTP/1.1 connections over TLS",
        ScenarioName::RequestsH2 => "GET of 1 KB on 4 HTTP/2 connections over TLS, up to 16 streams on each",
        ScenarioName::Handshakes => {
            "GET of 1 KB over HTTP/1.1, each on a TLS connection of its own, up to 16 at once"
        }
        ScenarioName::Latency => "GET of 1 KB on one keep-alive HTTP/1.1 connection over TLS, one at a time",
        ScenarioName::WebSocket => "Messages of 128 bytes echoed over 64 WebSocket connections over TLS",
        ScenarioName::Events => {
            "Server-sent events, one each 10 ms on each of 16 HTTP/1.1 connections over TLS; latency is from the making \
             of an event to its arrival"
        }
        ScenarioName::Bulk1 => "One transfer over TLS, down and then up",
        ScenarioName::Bulk64 => "64 transfers at once over TLS, down and then up",
        ScenarioName::IdleConnector => {
            "One connector with its usual connections and nothing to do, after its start"
        }
        ScenarioName::IdleVisitors => "Visitors on TLS connections that did one request each and stay",
        ScenarioName::IdleTunnels => {
            "Connectors with many connections and nothing to do; the edge's CPU is for all of them"
        }
        ScenarioName::Tcp => {
            "Bare bytes on one upgraded connection without TLS towards the visitor, down and then up; edge and \
             connector on different CPUs, as the prototype forwarder has them"
        }
        ScenarioName::Impaired => {
            "One transfer over TLS each way, and GET of 1 KB at 50/s, with a round trip and loss between edge and \
             connector"
        }
        ScenarioName::Sharing => {
            "64 transfers over TLS, and GET of 1 KB at 50/s beside them, on one tunnel connection over a link of 300 Mbit/s \
             with a round trip and a queue of 20 ms"
        }
        ScenarioName::Cores => {
            "GET of 1 KB at 1000/s, and 64 transfers each way; with more than one core the subject shares the load's \
             CPUs"
        }
        ScenarioName::Memory => {
            "Memory growth over one long transfer down and one up, after a short one each way"
        }
    }
}
