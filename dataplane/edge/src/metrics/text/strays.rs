//! UDP datagrams that the kernel gave to another core than theirs.

use std::sync::Arc;

use super::{head, line};
use crate::metrics::CoreMetrics;

pub(super) fn render(out: &mut String, cores: &[Arc<CoreMetrics>]) {
    let name = "edge_stray_datagrams_total";
    head(
        out,
        name,
        "counter",
        "UDP datagrams handed from one core to another.",
    );
    for (core, metrics) in cores.iter().enumerate() {
        let (sent, received) = (metrics.strays_sent.get(), metrics.strays_received.get());
        line(
            out,
            format_args!("{name}{{core=\"{core}\",direction=\"sent\"}} {sent}"),
        );
        line(
            out,
            format_args!("{name}{{core=\"{core}\",direction=\"received\"}} {received}"),
        );
    }
}
