//! What QUIC measures on the tunnel connections.

use adit_driver::quic::FrameCounts;

use super::page::Page;
use super::sum;
use crate::metrics::{Counter, SlotMetrics};
use crate::metrics_server::View;

/// One slot of one core.
struct SlotView<'a> {
    index: String,
    metrics: &'a SlotMetrics,
}

/// A number of a slot that has one line.
type Number = (&'static str, &'static str, fn(&SlotMetrics) -> f64);

const NUMBERS: [Number; 6] = [
    ("quic_client_min_rtt", "gauge", |slot| {
        millis(slot.rtt_min_micros.get())
    }),
    ("quic_client_smoothed_rtt", "gauge", |slot| {
        millis(slot.rtt_micros.get())
    }),
    ("quic_client_mtu", "gauge", |slot| slot.mtu.get() as f64),
    ("quic_client_congestion_window", "gauge", |slot| {
        slot.congestion_window.get() as f64
    }),
    ("quic_client_sent_bytes", "counter", |slot| {
        slot.sent_bytes.get() as f64
    }),
    ("quic_client_receive_bytes", "counter", |slot| {
        slot.received_bytes.get() as f64
    }),
];

pub(super) fn render(page: &mut Page, view: &View) {
    page.single(
        "quic_client_total_connections",
        "counter",
        sum(view, |core| &core.connections_dialled),
    );
    page.single(
        "quic_client_closed_connections",
        "counter",
        sum(view, |core| &core.connections_closed),
    );
    let slots = slots(view);
    for (name, kind, read) in NUMBERS {
        page.family(name, kind);
        for slot in &slots {
            page.line(name, &[("conn_index", &slot.index)], read(slot.metrics));
        }
    }
    page.family("quic_client_lost_packets", "counter");
    for slot in &slots {
        // The library tells how many were lost, not by which rule it found that out.
        let labels = [
            ("conn_index", slot.index.as_str()),
            ("reason", "unknown_loss_reason"),
        ];
        page.line(
            "quic_client_lost_packets",
            &labels,
            slot.metrics.lost_packets.get(),
        );
    }
    frames(page, "quic_client_sent_frames", &slots, |slot| &slot.sent_frames);
    frames(page, "quic_client_received_frames", &slots, |slot| {
        &slot.received_frames
    });
}

/// Slots that have had a connection. Each lives on one core, so none comes twice.
fn slots(view: &View) -> Vec<SlotView<'_>> {
    (0..=u8::MAX)
        .flat_map(|index| {
            let here = view
                .metrics
                .iter()
                .filter_map(move |core| core.slot(index.into()));
            here.filter(|slot| slot.is_used()).map(move |metrics| SlotView {
                index: index.to_string(),
                metrics,
            })
        })
        .collect()
}

fn frames(
    page: &mut Page,
    name: &str,
    slots: &[SlotView<'_>],
    read: impl Fn(&SlotMetrics) -> &[Counter; FrameCounts::TYPES.len()],
) {
    page.family(name, "counter");
    for slot in slots {
        for (kind, count) in FrameCounts::TYPES.into_iter().zip(read(slot.metrics)) {
            if count.get() > 0 {
                let labels = [("conn_index", slot.index.as_str()), ("frame_type", kind)];
                page.line(name, &labels, count.get());
            }
        }
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}
