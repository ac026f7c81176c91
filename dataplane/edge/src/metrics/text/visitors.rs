//! What visitors sent that was no request, and what was broken off for it.

use std::sync::Arc;

use adit_proto::request_head::Fault;
use adit_proto::sent_frames::Code;

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
    by_code(
        out,
        (
            "edge_http2_resets_sent_total",
            "Streams of visitors reset, by error code of HTTP/2.",
        ),
        cores.iter().map(|core| &core.http2_resets_sent),
    );
    by_code(
        out,
        (
            "edge_http2_goaways_sent_total",
            "HTTP/2 connections of visitors told to end, by error code of HTTP/2.",
        ),
        cores.iter().map(|core| &core.http2_goaways_sent),
    );
}

fn by_code<'a>(
    out: &mut String,
    (name, help): (&str, &str),
    cores: impl Iterator<Item = &'a [Counter; Code::COUNT]>,
) {
    head(out, name, "counter", help);
    let mut counts = [0; Code::COUNT];
    for core in cores {
        for (count, counter) in counts.iter_mut().zip(core) {
            *count += counter.get();
        }
    }
    for (code, count) in Code::names().zip(counts) {
        line(out, format_args!("{name}{{code=\"{code}\"}} {count}"));
    }
}
