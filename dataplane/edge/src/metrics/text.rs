//! Writes the counters of all cores in the Prometheus text format.

mod ejections;
mod interim;
mod strays;
mod visitors;

use std::fmt::Write as _;
use std::sync::Arc;

use adit_proto::exchange::error_code::ErrorCode;

use super::{BUCKETS, CoreMetrics, Counter};
use crate::access_log::LogMetrics;
use crate::control_link::ServiceMetrics;
use crate::memory;

/// What a scrape reads.
pub(crate) struct Scrape<'a> {
    pub(crate) cores: &'a [Arc<CoreMetrics>],
    pub(crate) service: &'a ServiceMetrics,
    pub(crate) log: &'a LogMetrics,
    /// What each certificate is for, its file, and when it ends as Unix time.
    pub(crate) certificates: &'a [(&'static str, String, i64)],
}

type PerCore = (&'static str, Kind, &'static str, fn(&CoreMetrics) -> &Counter);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

use Kind::{Counter as C, Gauge as G};

/// Shown per core, so that an uneven load is seen.
const PER_CORE: &[PerCore] = &[
    (
        "edge_visitor_connections_total",
        C,
        "Visitors' connections accepted.",
        |m| &m.visitor_connections_accepted,
    ),
    (
        "edge_visitor_connections",
        G,
        "Visitors' connections open.",
        |m| &m.visitor_connections_open,
    ),
    (
        "edge_visitor_connections_refused_total",
        C,
        "Visitors' connections closed at the limit.",
        |m| &m.visitor_connections_refused,
    ),
    (
        "edge_address_connections_refused_total",
        C,
        "Visitors' connections closed at the limit of their address.",
        |m| &m.address_connections_refused,
    ),
    (
        "edge_tls_handshakes_failed_total",
        C,
        "TLS handshakes of visitors that failed or took too long.",
        |m| &m.tls_handshakes_failed,
    ),
    (
        "edge_proxy_headers_refused_total",
        C,
        "Connections of trusted proxies closed because their PROXY header was missing, broken or late.",
        |m| &m.proxy_headers_refused,
    ),
    (
        "edge_heads_timed_out_total",
        C,
        "Connections closed because a request head took too long.",
        |m| &m.heads_timed_out,
    ),
    (
        "edge_http2_floods_ended_total",
        C,
        "Visitors' HTTP/2 connections ended because of too many resets or idle frames.",
        |m| &m.floods_ended,
    ),
    ("edge_exchanges_total", C, "Exchanges started.", |m| {
        &m.exchanges_started
    }),
    ("edge_exchanges_in_flight", G, "Exchanges under way.", |m| {
        &m.exchanges_in_flight
    }),
    (
        "edge_exchanges_waiting",
        G,
        "Exchanges that wait for a tunnel that has just lost its last connection.",
        |m| &m.exchanges_waiting,
    ),
    (
        "edge_exchanges_waited_total",
        C,
        "Exchanges that waited for a tunnel and went on when it was back.",
        |m| &m.exchanges_waited,
    ),
    (
        "edge_memory_bytes",
        G,
        "Bytes accounted to exchanges under way.",
        |m| &m.memory_bytes,
    ),
    (
        "edge_stream_windows_grown_bytes",
        G,
        "Bytes by which windows of streams have grown, of the whole process on core 0.",
        |m| &m.windows_grown_bytes,
    ),
    (
        "edge_stream_windows_refused_total",
        C,
        "Windows of streams that were not let grow, of the whole process on core 0.",
        |m| &m.windows_refused,
    ),
    (
        "edge_memory_share_bytes",
        G,
        "Bytes that exchanges of this core may hold before new ones are refused.",
        |m| &m.memory_share_bytes,
    ),
    (
        "edge_share_entries",
        G,
        "Visitors' addresses and tunnels whose shares are counted.",
        |m| &m.shares_entries,
    ),
    (
        "edge_exchange_retries_total",
        C,
        "Attempts after the first.",
        |m| &m.retries,
    ),
    (
        "edge_bytes_from_visitors_total",
        C,
        "Body bytes received from visitors.",
        |m| &m.bytes_from_visitors,
    ),
    (
        "edge_bytes_to_visitors_total",
        C,
        "Body bytes sent to visitors.",
        |m| &m.bytes_to_visitors,
    ),
    (
        "edge_access_log_dropped_total",
        C,
        "Access log lines dropped because the writer was behind.",
        |m| &m.access_log_dropped,
    ),
    (
        "edge_tunnel_connections_total",
        C,
        "Tunnel connections accepted.",
        |m| &m.tunnel_connections_accepted,
    ),
    (
        "edge_tunnel_connections",
        G,
        "Registered tunnel connections.",
        |m| &m.tunnel_connections_open,
    ),
    (
        "edge_tunnel_http2_connections",
        G,
        "Registered tunnel connections over HTTP/2.",
        |m| &m.tunnel_http2_connections_open,
    ),
    (
        "edge_tunnel_http2_refused_total",
        C,
        "Connectors over TCP turned away at a limit.",
        |m| &m.tunnel_http2_refused,
    ),
    (
        "edge_tunnel_tls_handshakes_failed_total",
        C,
        "TLS handshakes of connectors over TCP that failed or took too long.",
        |m| &m.tunnel_tls_failed,
    ),
    (
        "edge_registrations_accepted_total",
        C,
        "Registrations accepted.",
        |m| &m.registrations_accepted,
    ),
    (
        "edge_registrations_refused_total",
        C,
        "Registrations refused.",
        |m| &m.registrations_refused,
    ),
    (
        "edge_registrations_timed_out_total",
        C,
        "Connections without registration in time.",
        |m| &m.registrations_timed_out,
    ),
    (
        "edge_registrations_crowded_total",
        C,
        "QUIC connections closed because too many have not registered.",
        |m| &m.registrations_crowded,
    ),
    (
        "edge_side_streams_total",
        C,
        "RPC streams opened by connectors.",
        |m| &m.side_streams,
    ),
    (
        "edge_datagrams_dropped_total",
        C,
        "Datagrams of connectors that lead nowhere.",
        |m| &m.datagrams_dropped,
    ),
    (
        "edge_handshakes_half_open",
        G,
        "QUIC handshakes under way.",
        |m| &m.handshakes_half_open,
    ),
    (
        "edge_handshakes_refused_total",
        C,
        "QUIC handshakes refused at a limit.",
        |m| &m.handshakes_refused,
    ),
    ("edge_quic_retries_total", C, "QUIC Retry packets sent.", |m| {
        &m.quic_retries_sent
    }),
    (
        "edge_quic_resets_total",
        C,
        "Stateless resets sent: connectors told that this edge does not know their connection, as after a restart.",
        |m| &m.quic_resets_sent,
    ),
    (
        "edge_icmp_unreachable_total",
        C,
        "Times the network said of a connector that its port or the way to it is not there, which makes the edge ask.",
        |m| &m.icmp_unreachable,
    ),
    (
        "edge_tunnel_doubts_total",
        C,
        "Times a connector was late with an answer, so that its connection got no new exchange.",
        |m| &m.tunnel_doubts,
    ),
    (
        "edge_udp_datagrams_received_total",
        C,
        "UDP datagrams received.",
        |m| &m.udp_datagrams_received,
    ),
    (
        "edge_udp_sends_total",
        C,
        "UDP sends, each of one or more datagrams.",
        |m| &m.udp_sends,
    ),
    (
        "edge_udp_send_errors_total",
        C,
        "UDP sends refused by the kernel.",
        |m| &m.udp_send_errors,
    ),
];

/// Renders everything.
pub(crate) fn render(scrape: &Scrape<'_>) -> String {
    let mut out = String::with_capacity(16 << 10);
    for &(name, kind, help, of) in PER_CORE.iter().chain(interim::PER_CORE) {
        head(&mut out, name, kind.as_str(), help);
        for (core, metrics) in scrape.cores.iter().enumerate() {
            line(
                &mut out,
                format_args!("{name}{{core=\"{core}\"}} {}", of(metrics).get()),
            );
        }
    }
    strays::render(&mut out, scrape.cores);
    refusals(&mut out, scrape.cores);
    visitors::render(&mut out, scrape.cores);
    errors(&mut out, scrape.cores);
    ejections::render(&mut out, scrape.cores);
    statuses(&mut out, scrape.cores);
    durations(&mut out, scrape.cores);
    service(&mut out, scrape);
    out
}

fn refusals(out: &mut String, cores: &[Arc<CoreMetrics>]) {
    let name = "edge_memory_refused_total";
    head(out, name, "counter", "Exchanges refused for want of memory.");
    for (core, metrics) in cores.iter().enumerate() {
        let (held, resident) = (&metrics.refused_for_held, &metrics.refused_for_resident);
        for (reason, counter) in [("held", held), ("resident", resident)] {
            let labels = format_args!("{{core=\"{core}\",reason=\"{reason}\"}}");
            line(out, format_args!("{name}{labels} {}", counter.get()));
        }
    }
}

fn errors(out: &mut String, cores: &[Arc<CoreMetrics>]) {
    let name = "edge_exchange_errors_total";
    head(
        out,
        name,
        "counter",
        "Exchanges that did not end with the origin's own complete answer.",
    );
    for code in ErrorCode::all() {
        let count: u64 = cores
            .iter()
            .filter_map(|core| core.errors.get(code.index()))
            .map(Counter::get)
            .sum();
        let (code, side) = (code.as_str(), code.side().as_str());
        line(
            out,
            format_args!("{name}{{code=\"{code}\",side=\"{side}\"}} {count}"),
        );
    }
}

fn statuses(out: &mut String, cores: &[Arc<CoreMetrics>]) {
    let name = "edge_responses_total";
    head(out, name, "counter", "Responses by class of status.");
    for (class, label) in ["other", "1xx", "2xx", "3xx", "4xx", "5xx"]
        .into_iter()
        .enumerate()
    {
        let count: u64 = cores
            .iter()
            .filter_map(|core| core.statuses.get(class))
            .map(Counter::get)
            .sum();
        line(out, format_args!("{name}{{class=\"{label}\"}} {count}"));
    }
}

fn durations(out: &mut String, cores: &[Arc<CoreMetrics>]) {
    let name = "edge_exchange_duration_seconds";
    head(
        out,
        name,
        "histogram",
        "Time from the request head to the end of the exchange.",
    );
    let mut total = 0_u64;
    let bounds = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
    for (index, bound) in bounds.enumerate() {
        total += cores
            .iter()
            .filter_map(|core| core.durations.buckets.get(index))
            .map(Counter::get)
            .sum::<u64>();
        line(out, format_args!("{name}_bucket{{le=\"{bound}\"}} {total}"));
    }
    let sum_us: u64 = cores.iter().map(|core| core.durations.sum_us.get()).sum();
    line(
        out,
        format_args!("{name}_sum {}.{:06}", sum_us / 1_000_000, sum_us % 1_000_000),
    );
    line(out, format_args!("{name}_count {total}"));
}

fn service(out: &mut String, scrape: &Scrape<'_>) {
    let (service, log) = (scrape.service, scrape.log);
    let single = [
        (
            "edge_control_attached",
            G,
            "1 while control is attached.",
            &service.link_attached,
        ),
        (
            "edge_control_attempts_total",
            C,
            "Attempts to attach to control.",
            &service.link_attempts,
        ),
        (
            "edge_registrations_decided_alone_total",
            C,
            "Registrations decided by the last snapshot because control did not answer.",
            &service.registrations_decided_alone,
        ),
        (
            "edge_snapshot_save_errors_total",
            C,
            "Snapshots not saved to disk.",
            &service.snapshot_save_errors,
        ),
        (
            "edge_snapshot_bytes_written_total",
            C,
            "Bytes written to keep the snapshot on disk.",
            &service.snapshot_bytes_written,
        ),
        (
            "edge_snapshot_generation",
            G,
            "Generation of the routes served.",
            &service.generation,
        ),
        (
            "edge_access_log_lines_total",
            C,
            "Access log lines written.",
            &log.written,
        ),
        (
            "edge_access_log_write_errors_total",
            C,
            "Access log lines lost to write errors.",
            &log.failed,
        ),
    ];
    for (name, kind, help, counter) in single {
        head(out, name, kind.as_str(), help);
        line(out, format_args!("{name} {}", counter.get()));
    }
    configuration(out, scrape);
    if let Some(resident) = memory::resident() {
        let name = "process_resident_memory_bytes";
        head(out, name, "gauge", "Resident memory of the process.");
        line(out, format_args!("{name} {resident}"));
    }
    let name = "edge_build_info";
    head(out, name, "gauge", "Always 1; the label tells the version.");
    line(
        out,
        format_args!("{name}{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    );
}

/// What was read of the configuration, and how long what it names is good.
fn configuration(out: &mut String, scrape: &Scrape<'_>) {
    let service = scrape.service;
    let name = "edge_config_reloads_total";
    head(
        out,
        name,
        "counter",
        "Signals to read edge.yml again, by outcome.",
    );
    for (result, counter) in [
        ("applied", &service.reloads_applied),
        ("refused", &service.reloads_refused),
    ] {
        line(
            out,
            format_args!("{name}{{result=\"{result}\"}} {}", counter.get()),
        );
    }
    let name = "edge_certificate_not_after_seconds";
    head(out, name, "gauge", "When a certificate ends, as Unix time.");
    for (purpose, file, not_after) in scrape.certificates {
        let file = file
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        line(
            out,
            format_args!("{name}{{use=\"{purpose}\",file=\"{file}\"}} {not_after}"),
        );
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String does not fail");
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn cores_are_summed_where_labels_would_multiply_and_shown_where_balance_matters() {
        let cores = [Arc::new(CoreMetrics::default()), Arc::new(CoreMetrics::default())];
        for core in &cores {
            core.exchanges_started.add(2);
            core.errors[ErrorCode::OriginTimeout.index()].add(1);
            core.statuses[2].add(3);
            core.durations.record(Duration::from_millis(3));
        }
        cores[1].durations.record(Duration::from_secs(500));
        let (service, log) = (ServiceMetrics::default(), LogMetrics::default());
        let text = render(&Scrape {
            cores: &cores,
            service: &service,
            log: &log,
            certificates: &[("public", "/a \"b\".pem".to_owned(), 7)],
        });
        for wanted in [
            "edge_exchanges_total{core=\"1\"} 2",
            "edge_exchange_errors_total{code=\"origin-timeout\",side=\"origin\"} 2",
            "edge_responses_total{class=\"2xx\"} 6",
            "edge_exchange_duration_seconds_bucket{le=\"0.0025\"} 0",
            "edge_exchange_duration_seconds_bucket{le=\"0.005\"} 2",
            "edge_exchange_duration_seconds_bucket{le=\"+Inf\"} 3",
            "edge_exchange_duration_seconds_sum 500.006000",
            "edge_exchange_duration_seconds_count 3",
            "edge_certificate_not_after_seconds{use=\"public\",file=\"/a \\\"b\\\".pem\"} 7",
        ] {
            assert!(text.lines().any(|line| line == wanted), "{wanted}\n{text}");
        }
    }

    #[test]
    fn every_metric_has_help_and_a_type_once() {
        let cores = [Arc::new(CoreMetrics::default())];
        let (service, log) = (ServiceMetrics::default(), LogMetrics::default());
        let text = render(&Scrape {
            cores: &cores,
            service: &service,
            log: &log,
            certificates: &[("public", "/a \"b\".pem".to_owned(), 7)],
        });
        let mut names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let count = names.len();
        names.dedup();
        assert_eq!((names.len(), text.matches("# HELP").count()), (count, count));
    }

    #[test]
    fn every_metric_is_documented() {
        let documented = include_str!("../../../../docs/metrics.md");
        let cores = [Arc::new(CoreMetrics::default())];
        let (service, log) = (ServiceMetrics::default(), LogMetrics::default());
        let text = render(&Scrape {
            cores: &cores,
            service: &service,
            log: &log,
            certificates: &[("public", "/a \"b\".pem".to_owned(), 7)],
        });
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(
                documented.contains(&format!("| `{name}` | {kind} |")),
                "{name} {kind}"
            );
        }
    }
}
