//! Calls of both sides, by method, for the methods that were called.

use super::page::Page;
use crate::metrics::{Counter, LATENCY_BUCKETS, RpcMethod};
use crate::metrics_server::View;

/// One method's calls on all cores.
struct Calls {
    operations: u64,
    failures: u64,
    buckets: [u64; LATENCY_BUCKETS.len() + 1],
    micros: u64,
}

impl Calls {
    fn of(view: &View, method: RpcMethod) -> Self {
        let cores = || view.metrics.iter().map(|core| core.rpc.of(method));
        let add = |sum: u64, counter: &Counter| sum.saturating_add(counter.get());
        Self {
            operations: cores().fold(0, |sum, calls| add(sum, &calls.operations)),
            failures: cores().fold(0, |sum, calls| add(sum, &calls.failures)),
            buckets: std::array::from_fn(|place| {
                cores().fold(0, |sum, calls| add(sum, &calls.buckets[place]))
            }),
            micros: cores().fold(0, |sum, calls| add(sum, &calls.micros)),
        }
    }
}

pub(super) fn render(page: &mut Page, view: &View) {
    for side in ["client", "server"] {
        let methods = RpcMethod::ALL.into_iter().filter(|method| method.side() == side);
        let called: Vec<_> = methods
            .map(|method| (method.labels(), Calls::of(view, method)))
            .filter(|(_, calls)| calls.operations > 0)
            .collect();
        let name = format!("cloudflared_rpc_{side}_operations");
        page.family(&name, "counter");
        for ((handler, method), calls) in &called {
            page.line(
                &name,
                &[("handler", handler), ("method", method)],
                calls.operations,
            );
        }
        let name = format!("cloudflared_rpc_{side}_failures");
        page.family(&name, "counter");
        for ((handler, method), calls) in called.iter().filter(|(_, calls)| calls.failures > 0) {
            page.line(&name, &[("handler", handler), ("method", method)], calls.failures);
        }
        let name = format!("cloudflared_rpc_{side}_latency_secs");
        page.family(&name, "histogram");
        for ((handler, method), calls) in &called {
            let labels = [("handler", *handler), ("method", *method)];
            let seconds = calls.micros as f64 / 1e6;
            page.histogram(&name, &labels, LATENCY_BUCKETS, &calls.buckets, seconds);
        }
    }
}
