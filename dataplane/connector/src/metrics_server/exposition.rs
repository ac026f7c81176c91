//! Counters as Prometheus reads them: names that cloudflared's dashboards know, then ours.
//!
//! Left out is what this connector has no equivalent of: sessions of UDP and ICMP, and what only Go's runtime
//! and QUIC library know. As in cloudflared, a metric with labels has a line only for what has occurred.

mod calls;
mod page;
mod quic;

use super::View;
use super::process::Process;
use crate::metrics::{CONNECT_BUCKETS, CoreMetrics, Counter};
use crate::status::Status;
use page::Page;

/// The text of `/metrics`.
pub(super) fn render(view: &View) -> String {
    let mut page = Page::default();
    page.family("build_info", "gauge");
    let build = [("type", "adit"), ("version", env!("CARGO_PKG_VERSION"))];
    page.line("build_info", &build, 1);
    requests(&mut page, view);
    let status = view.status.borrow();
    connections(&mut page, view, &status);
    registrations(&mut page, view, &status);
    let version = i64::from(view.settings.ingress.load().version);
    page.family("cloudflared_orchestration_config_version", "gauge");
    page.line::<&str>("cloudflared_orchestration_config_version", &[], version);
    calls::render(&mut page, view);
    quic::render(&mut page, view);
    process(&mut page, &Process::read());
    ours(&mut page, view, &status);
    page.finish()
}

/// Adds up what the cores count.
fn sum(view: &View, read: impl Fn(&CoreMetrics) -> &Counter) -> u64 {
    let counts = view.metrics.iter().map(|core| read(core).get());
    counts.fold(0, u64::saturating_add)
}

fn requests(page: &mut Page, view: &View) {
    let concurrent = view.metrics.iter().map(|core| core.concurrent_requests.get());
    page.single(
        "cloudflared_tunnel_total_requests",
        "counter",
        sum(view, |core| &core.requests),
    );
    page.single(
        "cloudflared_tunnel_concurrent_requests_per_tunnel",
        "gauge",
        concurrent.fold(0, u64::saturating_add),
    );
    page.single(
        "cloudflared_tunnel_request_errors",
        "counter",
        sum(view, |core| &core.request_errors),
    );
    let open = view.metrics.iter().map(|core| core.tcp_sessions_open.get());
    page.single(
        "cloudflared_tcp_active_sessions",
        "gauge",
        open.fold(0, u64::saturating_add),
    );
    page.single(
        "cloudflared_tcp_total_sessions",
        "counter",
        sum(view, |core| &core.tcp_sessions),
    );
    page.single(
        "connector_interim_answers_dropped_total",
        "counter",
        sum(view, |core| &core.interim_dropped),
    );
    connects(page, view);
    let name = "cloudflared_tunnel_response_by_code";
    page.family(name, "counter");
    for (status, count) in responses(view).filter(|(_, count)| *count > 0) {
        page.line(name, &[("status_code", status.to_string())], count);
    }
}

fn connects(page: &mut Page, view: &View) {
    let name = "cloudflared_proxy_connect_latency";
    page.family(name, "histogram");
    let counts: [u64; CONNECT_BUCKETS.len() + 1] =
        std::array::from_fn(|place| sum(view, |core| &core.connects.buckets[place]));
    let millis = sum(view, |core| &core.connects.millis);
    page.histogram(name, &[], CONNECT_BUCKETS, &counts, millis);
    page.single(
        "cloudflared_proxy_connect_streams_errors",
        "counter",
        sum(view, |core| &core.connects.errors),
    );
}

/// The responses of all cores by status.
fn responses(view: &View) -> impl Iterator<Item = (u16, u64)> {
    let mut cores: Vec<_> = view.metrics.iter().map(|core| core.responses.iter()).collect();
    std::iter::from_fn(move || {
        let counts: Option<Vec<_>> = cores.iter_mut().map(Iterator::next).collect();
        let counts = counts?;
        let (status, _) = counts.first()?;
        let count = counts
            .iter()
            .fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        Some((*status, count))
    })
}

fn connections(page: &mut Page, view: &View, status: &Status) {
    let registered = u64::try_from(status.connections().count()).unwrap_or(u64::MAX);
    page.single("cloudflared_tunnel_ha_connections", "gauge", registered);
    let name = "cloudflared_tunnel_server_locations";
    page.family(name, "gauge");
    let now = status
        .connections()
        .map(|(index, connection)| (index, connection.location.as_str(), 1));
    let earlier = status
        .earlier_locations()
        .map(|(index, location)| (index, location, 0));
    for (index, location, is_now) in now.chain(earlier) {
        let index = index.0.to_string();
        let labels = [("connection_id", index.as_str()), ("edge_location", location)];
        page.line(name, &labels, is_now);
    }
    page.family("tunnel_ids", "gauge");
    for (index, _) in status.connections() {
        let labels = [
            ("tunnel_id", view.settings.tunnel_id.to_string()),
            ("ha_conn_id", index.0.to_string()),
        ];
        page.line("tunnel_ids", &labels, 1);
    }
}

fn registrations(page: &mut Page, view: &View, status: &Status) {
    let call = ("rpcName", "registerConnection");
    let name = "cloudflared_tunnel_tunnel_register_success";
    page.family(name, "counter");
    page.line(name, &[call], status.registrations());
    let name = "cloudflared_tunnel_tunnel_register_fail";
    page.family(name, "counter");
    let failures = [
        ("dup_edge_conn", sum(view, |core| &core.registrations_duplicate)),
        ("server_error", sum(view, |core| &core.registrations_failed)),
    ];
    for (error, count) in failures {
        page.line(name, &[("error", error), call], count);
    }
    page.single(
        "cloudflared_config_local_config_pushes",
        "counter",
        sum(view, |core| &core.config_pushes),
    );
    page.single(
        "cloudflared_config_local_config_pushes_errors",
        "counter",
        sum(view, |core| &core.config_push_errors),
    );
}

fn process(page: &mut Page, process: &Process) {
    let bytes = |count: u64| count as f64;
    let numbers = [
        ("process_cpu_seconds_total", "counter", process.cpu_seconds),
        ("process_start_time_seconds", "gauge", process.start_time_seconds),
        (
            "process_resident_memory_bytes",
            "gauge",
            process.resident_bytes.map(bytes),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            process.virtual_bytes.map(bytes),
        ),
        ("process_open_fds", "gauge", process.open_files.map(bytes)),
        ("process_max_fds", "gauge", process.open_files_max.map(bytes)),
    ];
    for (name, kind, number) in numbers {
        if let Some(number) = number {
            page.single(name, kind, number);
        }
    }
}

/// Rules with several addresses or limits.
fn origins(page: &mut Page, view: &View) {
    let state = view.settings.ingress.load();
    let (mut up, mut ejected, mut down, mut waiting) = (0_u64, 0_u64, 0_u64, 0_u64);
    for counts in state.groups().map(|group| group.counts()) {
        up += counts.up;
        ejected += counts.ejected;
        down += counts.down;
        waiting += counts.waiting;
    }
    let name = "connector_origin_addresses";
    page.family(name, "gauge");
    for (side, count) in [("up", up), ("ejected", ejected), ("down", down)] {
        page.line(name, &[("state", side)], count);
    }
    page.single("connector_origin_exchanges_waiting", "gauge", waiting);
    let metrics = view.settings.groups.metrics();
    for (name, counter) in [
        ("connector_origin_exchanges_waited_total", &metrics.waited),
        ("connector_origin_retries_total", &metrics.retries),
        ("connector_origin_ejections_total", &metrics.ejections),
    ] {
        page.single(name, "counter", counter.get());
    }
    let labelled = [
        (
            "connector_origin_exchanges_refused_total",
            "reason",
            [
                ("queue-full", &metrics.refused_full),
                ("timeout", &metrics.refused_late),
            ],
        ),
        (
            "connector_origin_checks_total",
            "result",
            [("ok", &metrics.checks_ok), ("failed", &metrics.checks_failed)],
        ),
    ];
    for (name, label, counters) in labelled {
        page.family(name, "counter");
        for (value, counter) in counters {
            page.line(name, &[(label, value)], counter.get());
        }
    }
}

fn ours(page: &mut Page, view: &View, status: &Status) {
    page.single(
        "connector_connection_failures_total",
        "counter",
        status.failures(),
    );
    let name = "connector_config_reloads_total";
    page.family(name, "counter");
    let reloads = status.reloads();
    for (result, count) in [("applied", reloads.applied), ("refused", reloads.refused)] {
        page.line(name, &[("result", result)], count);
    }
    origins(page, view);
    page.single(
        "connector_live_log_lines_lost_total",
        "counter",
        view.settings.management.live_log.lost(),
    );
    let name = "connector_responses_total";
    page.family(name, "counter");
    let mut classes = [0_u64; 5];
    for (status, count) in responses(view) {
        // What is above 599 means nothing to anybody; clients take it for a 500.
        let class = usize::from(status / 100).clamp(1, classes.len());
        classes[class - 1] = classes[class - 1].saturating_add(count);
    }
    for (class, count) in (1..).zip(classes) {
        page.line(name, &[("class", format!("{class}xx"))], count);
    }
}
