//! Counters and gauges in Prometheus' text form.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::registrar::Reason;

/// Counts since start.
#[derive(Default)]
pub(crate) struct Metrics {
    accepted: AtomicU64,
    refused: [AtomicU64; Reason::CODES.len()],
    requests: [AtomicU64; 5],
    commits_failed: AtomicU64,
    commits_raced: AtomicU64,
    orders_overflowed: AtomicU64,
    resyncs: AtomicU64,
    accepts_failed: AtomicU64,
    requests_timed_out: AtomicU64,
    quick_made: AtomicU64,
    quick_refused: AtomicU64,
    reloads_applied: AtomicU64,
    reloads_refused: AtomicU64,
    root_not_after: AtomicU64,
}

/// Values at the moment of a scrape.
pub(crate) struct Gauges {
    pub(crate) generation: u64,
    pub(crate) tunnels: usize,
    pub(crate) routes: usize,
    pub(crate) quick_tunnels: usize,
    pub(crate) edges: usize,
    pub(crate) attached: usize,
    pub(crate) pending: usize,
}

impl Metrics {
    pub(crate) fn registration_accepted(&self) {
        count(&self.accepted);
    }

    pub(crate) fn registration_refused(&self, code: &str) {
        if let Some(index) = Reason::CODES.iter().position(|known| *known == code) {
            count(&self.refused[index]);
        }
    }

    pub(crate) fn request_answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        count(&self.requests[class]);
    }

    pub(crate) fn quick_made(&self) {
        count(&self.quick_made);
    }

    pub(crate) fn quick_refused(&self) {
        count(&self.quick_refused);
    }

    /// The root of the private CA ends then, in seconds of Unix time.
    pub(crate) fn root_ends(&self, at: u64) {
        self.root_not_after.store(at, Ordering::Relaxed);
    }

    pub(crate) fn reloaded(&self, is_applied: bool) {
        count(if is_applied {
            &self.reloads_applied
        } else {
            &self.reloads_refused
        });
    }

    pub(crate) fn commit_failed(&self) {
        count(&self.commits_failed);
    }

    pub(crate) fn commit_raced(&self) {
        count(&self.commits_raced);
    }

    pub(crate) fn orders_overflowed(&self) {
        count(&self.orders_overflowed);
    }

    pub(crate) fn resynced(&self) {
        count(&self.resyncs);
    }

    pub(crate) fn accept_failed(&self) {
        count(&self.accepts_failed);
    }

    pub(crate) fn request_timed_out(&self) {
        count(&self.requests_timed_out);
    }

    /// The page for a scrape.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let mut page = Page::default();
        self.render_gauges(gauges, &mut page);
        self.render_counters(&mut page);
        page.text
    }

    fn render_gauges(&self, gauges: &Gauges, page: &mut Page) {
        for (name, help, value) in [
            (
                "control_generation",
                "Number of the current route snapshot.",
                gauges.generation,
            ),
            ("control_tunnels", "Living tunnels.", gauges.tunnels as u64),
            (
                "control_routes",
                "Hostnames that lead to a tunnel.",
                gauges.routes as u64,
            ),
            (
                "control_quick_tunnels",
                "Quick tunnels that are not over.",
                gauges.quick_tunnels as u64,
            ),
            ("control_edges", "Attached edges.", gauges.edges as u64),
        ] {
            page.head(name, "gauge", help);
            page.line(name, "", value);
        }
        let name = "control_certificate_not_after_seconds";
        page.head(name, "gauge", "When a certificate ends, as Unix time.");
        page.line(name, "{certificate=\"root\"}", read(&self.root_not_after));
        let name = "control_connections";
        page.head(
            name,
            "gauge",
            "Connections of connectors, by whether their edge is attached.",
        );
        page.line(name, "{state=\"attached\"}", gauges.attached as u64);
        page.line(name, "{state=\"pending\"}", gauges.pending as u64);
    }

    fn render_counters(&self, page: &mut Page) {
        let name = "control_registrations_total";
        page.head(name, "counter", "Registrations judged, by outcome.");
        page.line(name, "{outcome=\"accepted\"}", read(&self.accepted));
        for (code, counter) in Reason::CODES.iter().zip(&self.refused) {
            page.line(name, &format!("{{outcome=\"{code}\"}}"), read(counter));
        }
        let name = "control_api_requests_total";
        page.head(name, "counter", "REST requests answered, by class of status.");
        for (class, counter) in (1..).zip(&self.requests) {
            page.line(name, &format!("{{status=\"{class}xx\"}}"), read(counter));
        }
        let name = "control_config_reloads_total";
        page.head(name, "counter", "Signals to read control.yml again, by outcome.");
        page.line(name, "{result=\"applied\"}", read(&self.reloads_applied));
        page.line(name, "{result=\"refused\"}", read(&self.reloads_refused));
        for (name, help, counter) in [
            (
                "control_store_failures_total",
                "Writes the store did not take.",
                &self.commits_failed,
            ),
            (
                "control_store_races_total",
                "Writes decided again because the store had changed meanwhile.",
                &self.commits_raced,
            ),
            (
                "control_edge_overflows_total",
                "Edges cut off because they fell behind.",
                &self.orders_overflowed,
            ),
            (
                "control_edge_resyncs_total",
                "Full snapshots that edges asked for.",
                &self.resyncs,
            ),
            (
                "control_accept_failures_total",
                "Connections that could not be accepted.",
                &self.accepts_failed,
            ),
            (
                "control_api_timeouts_total",
                "REST requests that took too long.",
                &self.requests_timed_out,
            ),
            (
                "control_quick_tunnels_created_total",
                "Quick tunnels made.",
                &self.quick_made,
            ),
            (
                "control_quick_tunnels_refused_total",
                "Quick tunnels refused, mostly because a limit was reached.",
                &self.quick_refused,
            ),
        ] {
            page.head(name, "counter", help);
            page.line(name, "", read(counter));
        }
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
