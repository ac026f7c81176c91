//! What visitors sent that was no request.

use std::sync::Arc;

use adit_proto::request_head::Fault;

use super::{head, line};
use crate::metrics::{CoreMetrics, Counter};

pub(super) fn render(out: &mut String, cores: &[Arc<CoreMetrics>]) {
    let name = "edge_heads_refused_total";
    head(
        out,
        name,
        "counter",
        "Heads of HTTP/1 requests refused, by reason.",
    );
    for fault in Fault::ALL {
        let counters = cores
            .iter()
            .filter_map(|core| core.heads_refused.get(fault.index()));
        let count: u64 = counters.map(Counter::get).sum();
        line(
            out,
            format_args!("{name}{{reason=\"{}\"}} {count}", fault.as_str()),
        );
    }
}
