//! Replicas that are left out: how often, why, and how many now.

use std::sync::Arc;

use adit_proto::ejection::Reason;

use super::{head, line};
use crate::metrics::{CoreMetrics, Counter};

/// Name, help and counter.
type Beside = (&'static str, &'static str, fn(&CoreMetrics) -> &Counter);

/// Failures after which nothing was done, per core.
const BESIDE: [Beside; 2] = [
    (
        "edge_ejections_withheld_total",
        "Failures after which a replica stayed in because as many are left out as may.",
        |m| &m.ejections_withheld,
    ),
    (
        "edge_ejections_forgone_total",
        "Failures that were not remembered because too many replicas fail for too many hostnames.",
        |m| &m.ejections_forgone,
    ),
];

/// How many there are now, as each core knows.
const NOW: [Beside; 2] = [
    (
        "edge_replicas_ejected",
        "Replicas left out, each counted once per hostname.",
        |m| &m.replicas_ejected,
    ),
    (
        "edge_replicas_told_down",
        "Replicas that say that checks of an origin of theirs fail.",
        |m| &m.replicas_told_down,
    ),
];

pub(super) fn render(out: &mut String, cores: &[Arc<CoreMetrics>]) {
    let name = "edge_ejections_total";
    head(
        out,
        name,
        "counter",
        "Times a replica was left out for a hostname because exchanges with its origin failed.",
    );
    for reason in Reason::ALL {
        let counters = cores
            .iter()
            .filter_map(|core| core.ejections.get(reason as usize));
        let count: u64 = counters.map(Counter::get).sum();
        let reason = reason.as_str();
        line(out, format_args!("{name}{{reason=\"{reason}\"}} {count}"));
    }
    for (name, help, of) in BESIDE {
        head(out, name, "counter", help);
        for (core, metrics) in cores.iter().enumerate() {
            let count = of(metrics).get();
            line(out, format_args!("{name}{{core=\"{core}\"}} {count}"));
        }
    }
    for (name, help, of) in NOW {
        head(out, name, "gauge", help);
        // Every core knows of all, a moment sooner or later.
        let count = cores.iter().map(|core| of(core).get()).max();
        line(out, format_args!("{name} {}", count.unwrap_or(0)));
    }
}
