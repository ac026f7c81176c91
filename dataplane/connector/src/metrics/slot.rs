//! What QUIC measures on the connections of one slot, one after the other.
//!
//! A connection belongs to its core and a scrape does not reach it, so the core samples it now and then. What
//! is counted goes on from one connection of the slot to the next; what is measured is the latest.

use adit_driver::quic::{ConnectionStats, FrameCounts};

use super::{Counter, Gauge};

/// One slot's connections.
#[derive(Debug, Default)]
pub(crate) struct SlotMetrics {
    pub(crate) rtt_micros: Gauge,
    pub(crate) rtt_min_micros: Gauge,
    pub(crate) mtu: Gauge,
    pub(crate) congestion_window: Gauge,
    pub(crate) lost_packets: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received_bytes: Counter,
    /// In the order of [`FrameCounts::TYPES`].
    pub(crate) sent_frames: [Counter; FrameCounts::TYPES.len()],
    /// Likewise.
    pub(crate) received_frames: [Counter; FrameCounts::TYPES.len()],
}

impl SlotMetrics {
    /// Whether the slot ever had a connection.
    pub(crate) fn is_used(&self) -> bool {
        self.sent_bytes.get() > 0
    }
}

/// Carries one connection's numbers over to its slot.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    last: ConnectionStats,
}

impl Sampler {
    /// Takes over what has changed since the last sample.
    pub(crate) fn sample(&mut self, now: ConnectionStats, slot: &SlotMetrics) {
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        slot.rtt_micros.set(micros(now.rtt));
        slot.rtt_min_micros.set(micros(now.rtt_min));
        slot.mtu.set(now.mtu.into());
        slot.congestion_window.set(now.congestion_window);
        let last = std::mem::replace(&mut self.last, now);
        // A new path counts its losses from zero.
        slot.lost_packets
            .add(now.lost_packets.saturating_sub(last.lost_packets));
        slot.sent_bytes
            .add(now.sent_bytes.saturating_sub(last.sent_bytes));
        slot.received_bytes
            .add(now.received_bytes.saturating_sub(last.received_bytes));
        carry(&slot.sent_frames, &now.sent_frames, &last.sent_frames);
        carry(&slot.received_frames, &now.received_frames, &last.received_frames);
    }
}

fn carry(counters: &[Counter], now: &FrameCounts, last: &FrameCounts) {
    for (counter, (now, last)) in counters.iter().zip(now.counts().iter().zip(last.counts())) {
        counter.add(now.saturating_sub(*last));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_go_on_over_connections_and_measures_are_the_latest() {
        let slot = SlotMetrics::default();
        assert!(!slot.is_used());
        let stats = |rtt, lost_packets, sent_bytes| ConnectionStats {
            rtt: Duration::from_millis(rtt),
            lost_packets,
            sent_bytes,
            ..ConnectionStats::default()
        };
        let mut first = Sampler::default();
        first.sample(stats(5, 1, 100), &slot);
        first.sample(stats(7, 0, 150), &slot);
        Sampler::default().sample(stats(3, 2, 10), &slot);
        assert_eq!((slot.sent_bytes.get(), slot.lost_packets.get()), (160, 3));
        assert_eq!(slot.rtt_micros.get(), 3_000);
        assert!(slot.is_used());
    }
}
