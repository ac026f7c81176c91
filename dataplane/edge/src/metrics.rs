//! Counters of one core. Only that core writes them; whoever scrapes reads and sums.
//!
//! Relaxed atomics on memory that one core writes cost what plain integers do. Labels are bounded: status
//! classes, error codes and cores, never a hostname or a path. `docs/metrics.md` describes each metric.

mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adit_proto::ejection::Reason;
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::request_head::Fault;
use adit_proto::sent_frames::Code;

pub(crate) use text::{Scrape, render};

/// A number that only grows, or a gauge set by its core.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // A plain load and store would do with one writer; this keeps it right if that ever changes.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes one off a gauge.
    pub(crate) fn take(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Upper bounds of the duration buckets, seconds. From a cached answer nearby to a long download.
pub(crate) const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Per bucket, not cumulative; the last is what exceeds every bound.
    buckets: [Counter; BUCKETS.len() + 1],
    sum_us: Counter,
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BUCKETS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BUCKETS.len());
        if let Some(counter) = self.buckets.get(bucket) {
            counter.add(1);
        }
        self.sum_us
            .add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Everything one core counts.
#[derive(Debug, Default)]
pub(crate) struct CoreMetrics {
    // Visitors' connections.
    pub(crate) visitor_connections_accepted: Counter,
    pub(crate) visitor_connections_open: Counter,
    pub(crate) visitor_connections_refused: Counter,
    pub(crate) address_connections_refused: Counter,
    pub(crate) tls_handshakes_failed: Counter,
    pub(crate) proxy_headers_refused: Counter,
    pub(crate) heads_timed_out: Counter,
    /// By [`Fault::index`].
    pub(crate) heads_refused: [Counter; Fault::COUNT],
    pub(crate) floods_ended: Counter,
    /// By [`Code::index`].
    pub(crate) http2_resets_sent: [Counter; Code::COUNT],
    pub(crate) http2_goaways_sent: [Counter; Code::COUNT],
    // Exchanges.
    pub(crate) exchanges_started: Counter,
    pub(crate) exchanges_in_flight: Counter,
    pub(crate) exchanges_waiting: Counter,
    pub(crate) exchanges_waited: Counter,
    pub(crate) interim_passed: Counter,
    pub(crate) interim_dropped: Counter,
    pub(crate) memory_bytes: Counter,
    /// Of the process; set by its first core.
    pub(crate) windows_grown_bytes: Counter,
    pub(crate) windows_refused: Counter,
    pub(crate) memory_share_bytes: Counter,
    pub(crate) shares_entries: Counter,
    pub(crate) refused_for_held: Counter,
    pub(crate) refused_for_resident: Counter,
    /// By [`ErrorCode::index`].
    pub(crate) errors: [Counter; ErrorCode::COUNT],
    /// By first digit of the status, 1 to 5; the rest at 0.
    pub(crate) statuses: [Counter; 6],
    pub(crate) retries: Counter,
    /// By [`Reason`] in its order.
    pub(crate) ejections: [Counter; Reason::COUNT],
    pub(crate) ejections_withheld: Counter,
    pub(crate) ejections_forgone: Counter,
    pub(crate) replicas_ejected: Counter,
    pub(crate) replicas_told_down: Counter,
    pub(crate) bytes_from_visitors: Counter,
    pub(crate) bytes_to_visitors: Counter,
    pub(crate) durations: Histogram,
    pub(crate) access_log_dropped: Counter,
    // Tunnel connections.
    pub(crate) tunnel_connections_accepted: Counter,
    pub(crate) tunnel_connections_open: Counter,
    pub(crate) registrations_accepted: Counter,
    pub(crate) registrations_refused: Counter,
    pub(crate) registrations_timed_out: Counter,
    pub(crate) registrations_crowded: Counter,
    pub(crate) tunnel_http2_connections_open: Counter,
    pub(crate) tunnel_http2_refused: Counter,
    pub(crate) tunnel_tls_failed: Counter,
    pub(crate) tunnel_doubts: Counter,
    pub(crate) side_streams: Counter,
    pub(crate) datagrams_dropped: Counter,
    // The QUIC endpoint, copied from it once a second.
    pub(crate) handshakes_half_open: Counter,
    pub(crate) handshakes_refused: Counter,
    pub(crate) quic_retries_sent: Counter,
    pub(crate) quic_resets_sent: Counter,
    pub(crate) icmp_unreachable: Counter,
    pub(crate) udp_datagrams_received: Counter,
    pub(crate) udp_sends: Counter,
    pub(crate) udp_send_errors: Counter,
    pub(crate) strays_sent: Counter,
    pub(crate) strays_received: Counter,
}
