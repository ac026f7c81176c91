//! Counters as Prometheus reads them: names that cloudflared's dashboards know, then ours.

use std::fmt::Write as _;

use super::View;
use crate::metrics::CoreMetrics;

/// The text of `/metrics`.
pub(super) fn render(view: &View) -> String {
    let mut page = Page(String::new());
    let sum = |read: fn(&CoreMetrics) -> u64| -> u64 {
        view.metrics
            .iter()
            .map(|core| read(core))
            .fold(0, u64::saturating_add)
    };
    page.family("build_info", "gauge");
    page.line("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.single(
        "cloudflared_tunnel_total_requests",
        "counter",
        sum(|core| core.requests.get()),
    );
    page.single(
        "cloudflared_tunnel_concurrent_requests_per_tunnel",
        "gauge",
        sum(|core| core.concurrent_requests.get()),
    );
    page.single(
        "cloudflared_tunnel_request_errors",
        "counter",
        sum(|core| core.request_errors.get()),
    );
    let status = view.status.borrow();
    page.single(
        "cloudflared_tunnel_ha_connections",
        "gauge",
        as_u64(status.ready_count()),
    );
    page.family("cloudflared_tunnel_server_locations", "gauge");
    for (index, connection) in status.connections() {
        let labels = [
            ("connection_id", index.0.to_string()),
            ("edge_location", connection.location.clone()),
        ];
        page.line("cloudflared_tunnel_server_locations", &labels, 1);
    }
    page.family("cloudflared_tunnel_tunnel_register_success", "counter");
    let name = "cloudflared_tunnel_tunnel_register_success";
    page.line(name, &[("rpcName", "registerConnection")], status.registrations());
    let version = i64::from(view.settings.ingress.load().version);
    page.family("cloudflared_orchestration_config_version", "gauge");
    page.line::<&str>("cloudflared_orchestration_config_version", &[], version);
    page.single(
        "connector_connection_failures_total",
        "counter",
        status.failures(),
    );
    page.family("connector_responses_total", "counter");
    for class in 1..=5 {
        let count = view
            .metrics
            .iter()
            .flat_map(|core| core.responses.iter())
            .filter(|(of, _)| *of == class)
            .map(|(_, count)| count)
            .fold(0, u64::saturating_add);
        page.line(
            "connector_responses_total",
            &[("class", format!("{class}xx"))],
            count,
        );
    }
    page.0
}

struct Page(String);

impl Page {
    fn single(&mut self, name: &str, kind: &str, value: u64) {
        self.family(name, kind);
        self.line::<&str>(name, &[], value);
    }

    fn family(&mut self, name: &str, kind: &str) {
        self.push(format_args!("# TYPE {name} {kind}\n"));
    }

    fn line<L: AsRef<str>>(&mut self, name: &str, labels: &[(&str, L)], value: impl std::fmt::Display) {
        self.push(format_args!("{name}"));
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.push(format_args!("{before}{label}=\"{}\"", escape(text.as_ref())));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{after} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a String cannot fail");
    }
}

/// Label values may hold anything but these three.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
