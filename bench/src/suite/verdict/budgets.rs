//! The budgets: what is limited to how much, which figure of ours it is, and what it is held against.

use crate::suite::options::{ScenarioName, SubjectName};
use crate::suite::series::TOTAL;

/// A figure of our subject in a scenario.
pub(super) struct Ours {
    pub(super) scenario: ScenarioName,
    pub(super) figure: &'static str,
    pub(super) process: &'static str,
}

/// What our figure is held against.
pub(super) enum Against {
    /// Nothing: it stands for itself.
    Alone,
    /// It is divided by the same figure of another subject and process.
    Ratio(SubjectName, &'static str),
    /// The same figure of another subject is taken off.
    Over(SubjectName),
    /// It is divided by another figure of our own.
    Own(&'static str),
}

pub(super) struct Budget {
    pub(super) what: &'static str,
    pub(super) limits: (f64, f64),
    pub(super) unit: &'static str,
    pub(super) ours: Ours,
    pub(super) against: Against,
}

const STEADY: &str = "steady.cpu_us_per_request";
const BUSY: &str = "busy.cpu_us_per_request";
const DOWN: &str = "down.cpu_ms_per_gb";
const UP: &str = "up.cpu_ms_per_gb";

const TCP_LAB: (f64, f64) = (1.1, 0.9);
const TCP_RATHOLE: (f64, f64) = (1.0, 0.7);
const CORES: (f64, f64) = (1.1, 1.1);
const LINK: (f64, f64) = (20.0, 10.0);
const FAIR: (f64, f64) = (2.0, 1.2);
const BESIDE: (f64, f64) = (1.0, 0.5);

const CONNECTOR_REQUEST: (f64, f64) = (1.0 / 6.0, 1.0 / 12.0);
const CONNECTOR_BULK: (f64, f64) = (0.4, 0.25);
const EDGE_REQUEST: (f64, f64) = (1.0, 0.6);

const fn ours(scenario: ScenarioName, figure: &'static str, process: &'static str) -> Ours {
    Ours {
        scenario,
        figure,
        process,
    }
}

const fn budget(
    what: &'static str,
    limits: (f64, f64),
    unit: &'static str,
    ours: Ours,
    against: Against,
) -> Budget {
    Budget {
        what,
        limits,
        unit,
        ours,
        against,
    }
}

const STOCK: Against = Against::Ratio(SubjectName::Stock, "connector");
const NGINX: Against = Against::Ratio(SubjectName::Nginx, TOTAL);

/// Every budget; the limits are what must be kept and what is aimed at.
pub(super) const BUDGETS: [Budget; 30] = [
    budget(
        "edge CPU per GB of TCP down / prototype forwarder",
        TCP_LAB,
        "",
        ours(ScenarioName::Tcp, DOWN, "edge"),
        Against::Ratio(SubjectName::LabHybrid, "edge"),
    ),
    budget(
        "edge CPU per GB of TCP up / prototype forwarder",
        TCP_LAB,
        "",
        ours(ScenarioName::Tcp, UP, "edge"),
        Against::Ratio(SubjectName::LabHybrid, "edge"),
    ),
    budget(
        "connector CPU per GB of TCP down / prototype forwarder",
        TCP_LAB,
        "",
        ours(ScenarioName::Tcp, DOWN, "connector"),
        Against::Ratio(SubjectName::LabHybrid, "connector"),
    ),
    budget(
        "connector CPU per GB of TCP up / prototype forwarder",
        TCP_LAB,
        "",
        ours(ScenarioName::Tcp, UP, "connector"),
        Against::Ratio(SubjectName::LabHybrid, "connector"),
    ),
    budget(
        "edge CPU per GB of TCP down / rathole server with Noise",
        TCP_RATHOLE,
        "",
        ours(ScenarioName::Tcp, DOWN, "edge"),
        Against::Ratio(SubjectName::RatholeNoise, "server"),
    ),
    budget(
        "edge CPU per GB of TCP up / rathole server with Noise",
        TCP_RATHOLE,
        "",
        ours(ScenarioName::Tcp, UP, "edge"),
        Against::Ratio(SubjectName::RatholeNoise, "server"),
    ),
    budget(
        "connector CPU per GB of TCP down / rathole client with Noise",
        TCP_RATHOLE,
        "",
        ours(ScenarioName::Tcp, DOWN, "connector"),
        Against::Ratio(SubjectName::RatholeNoise, "client"),
    ),
    budget(
        "connector CPU per GB of TCP up / rathole client with Noise",
        TCP_RATHOLE,
        "",
        ours(ScenarioName::Tcp, UP, "connector"),
        Against::Ratio(SubjectName::RatholeNoise, "client"),
    ),
    budget(
        "connector CPU per 1 KB request, fixed rate / stock connector on our edge",
        CONNECTOR_REQUEST,
        "",
        ours(ScenarioName::RequestsH1, STEADY, "connector"),
        STOCK,
    ),
    budget(
        "the same, as fast as answers come",
        CONNECTOR_REQUEST,
        "",
        ours(ScenarioName::RequestsH1, BUSY, "connector"),
        STOCK,
    ),
    budget(
        "connector CPU per GB down / stock connector on our edge",
        CONNECTOR_BULK,
        "",
        ours(ScenarioName::Bulk1, DOWN, "connector"),
        STOCK,
    ),
    budget(
        "connector CPU per GB up / stock connector on our edge",
        CONNECTOR_BULK,
        "",
        ours(ScenarioName::Bulk1, UP, "connector"),
        STOCK,
    ),
    budget(
        "edge CPU per 1 KB TLS request, fixed rate / nginx, TLS to TLS",
        EDGE_REQUEST,
        "",
        ours(ScenarioName::RequestsH1, STEADY, "edge"),
        NGINX,
    ),
    budget(
        "the same, as fast as answers come",
        EDGE_REQUEST,
        "",
        ours(ScenarioName::RequestsH1, BUSY, "edge"),
        NGINX,
    ),
    budget(
        "p50 that the whole tunnel adds to a direct request, idle",
        (350.0, 200.0),
        " us",
        ours(ScenarioName::Latency, "steady.p50_us", ""),
        Against::Over(SubjectName::Direct),
    ),
    budget(
        "resident memory of the edge per idle tunnel connection",
        (48.0, 24.0),
        " KiB",
        ours(ScenarioName::IdleTunnels, "rss_kib_per_tunnel_connection", "edge"),
        Against::Alone,
    ),
    budget(
        "resident memory of the edge per idle visitor",
        (24.0, 12.0),
        " KiB",
        ours(ScenarioName::IdleVisitors, "rss_kib_per_visitor", "edge"),
        Against::Alone,
    ),
    budget(
        "growth of the edge's memory over a long transfer",
        (16.0, 0.0),
        " MiB",
        ours(ScenarioName::Memory, "rss_growth_mib", "edge"),
        Against::Alone,
    ),
    budget(
        "growth of the connector's memory over a long transfer",
        (16.0, 0.0),
        " MiB",
        ours(ScenarioName::Memory, "rss_growth_mib", "connector"),
        Against::Alone,
    ),
    budget(
        "CPU of an idle connector, of one core",
        (0.1, 0.1),
        " %",
        ours(ScenarioName::IdleConnector, "idle_cpu_percent", "connector"),
        Against::Alone,
    ),
    budget(
        "bytes on the wire of an idle connector, both ways",
        (1.0, 1.0),
        " MB/day",
        ours(ScenarioName::IdleConnector, "wire_mb_per_day", ""),
        Against::Alone,
    ),
    budget(
        "unused of 300 Mbit/s at 100 ms round trip, one transfer down",
        LINK,
        " %",
        ours(
            ScenarioName::Impaired,
            "100 ms 0 % 300 Mbit/s: down.unused_percent",
            "",
        ),
        Against::Alone,
    ),
    budget(
        "the same, up",
        LINK,
        " %",
        ours(
            ScenarioName::Impaired,
            "100 ms 0 % 300 Mbit/s: up.unused_percent",
            "",
        ),
        Against::Alone,
    ),
    budget(
        "mean / slowest rate of 64 transfers down on one connection",
        FAIR,
        "",
        ours(
            ScenarioName::Sharing,
            "beside downloads: down.mean_to_slowest",
            "",
        ),
        Against::Alone,
    ),
    budget(
        "the same, up",
        FAIR,
        "",
        ours(ScenarioName::Sharing, "beside uploads: up.mean_to_slowest", ""),
        Against::Alone,
    ),
    budget(
        "p99 of requests beside them, down / (3 x alone + one round trip)",
        BESIDE,
        "",
        ours(ScenarioName::Sharing, "beside downloads: p99_to_limit", ""),
        Against::Alone,
    ),
    budget(
        "the same, up",
        BESIDE,
        "",
        ours(ScenarioName::Sharing, "beside uploads: p99_to_limit", ""),
        Against::Alone,
    ),
    budget(
        "CPU per 1 KB request, two cores / one core",
        CORES,
        "",
        ours(ScenarioName::Cores, "2 cores: steady.cpu_us_per_request", TOTAL),
        Against::Own("1 core: steady.cpu_us_per_request"),
    ),
    budget(
        "CPU per GB down, two cores / one core",
        CORES,
        "",
        ours(ScenarioName::Cores, "2 cores: down.cpu_ms_per_gb", TOTAL),
        Against::Own("1 core: down.cpu_ms_per_gb"),
    ),
    budget(
        "CPU per GB up, two cores / one core",
        CORES,
        "",
        ours(ScenarioName::Cores, "2 cores: up.cpu_ms_per_gb", TOTAL),
        Against::Own("1 core: up.cpu_ms_per_gb"),
    ),
];
