//! Counters of one core. Only that core writes them; whoever scrapes reads and sums.
//!
//! Relaxed atomics on memory that one core writes cost what plain integers do.

use std::sync::atomic::{AtomicU64, Ordering};

use adit_proto::supervisor::SLOTS_MAX;

mod connect;
mod origin;
mod rpc;
mod slot;

pub(crate) use connect::{CONNECT_BUCKETS, ConnectMetrics};
pub(crate) use origin::OriginMetrics;
pub(crate) use rpc::{LATENCY_BUCKETS, RpcMethod, RpcMetrics};
pub(crate) use slot::{Sampler, SlotMetrics};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number of things there are at the moment.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Responses by status. A response with a status outside of what HTTP knows cannot be built.
#[derive(Debug)]
pub(crate) struct Statuses(Box<[Counter]>);

impl Statuses {
    const FIRST: u16 = 100;
    const LAST: u16 = 999;

    /// Counts a response.
    pub(crate) fn add(&self, status: u16) {
        let place = status.checked_sub(Self::FIRST).map(usize::from);
        if let Some(counter) = place.and_then(|place| self.0.get(place)) {
            counter.add(1);
        }
    }

    /// The count of every status, in order; zeros included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        (Self::FIRST..).zip(self.0.iter().map(Counter::get))
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self((Self::FIRST..=Self::LAST).map(|_| Counter::default()).collect())
    }
}

/// What one core counts.
#[derive(Debug)]
pub(crate) struct CoreMetrics {
    /// Exchanges begun.
    pub(crate) requests: Counter,
    /// Exchanges that ended without an answer of the origin.
    pub(crate) request_errors: Counter,
    /// Interim answers of origins that were too many or too large to be passed on.
    pub(crate) interim_dropped: Counter,
    /// Exchanges going on.
    pub(crate) concurrent_requests: Gauge,
    /// TCP connections to origins, carried in WebSockets or as flows, since the start.
    pub(crate) tcp_sessions: Counter,
    /// Those that are open.
    pub(crate) tcp_sessions_open: Gauge,
    /// How they came about, or did not.
    pub(crate) connects: ConnectMetrics,
    /// Responses by status.
    pub(crate) responses: Statuses,
    /// Registrations that came to nothing because the edge has such a connection already.
    pub(crate) registrations_duplicate: Counter,
    /// Registrations that came to nothing for any other reason.
    pub(crate) registrations_failed: Counter,
    /// Times the local configuration was told to an edge, or should have been.
    pub(crate) config_pushes: Counter,
    /// Those of them that failed.
    pub(crate) config_push_errors: Counter,
    /// Connections dialled.
    pub(crate) connections_dialled: Counter,
    /// Dialled connections that are over, whether or not they came about.
    pub(crate) connections_closed: Counter,
    /// Calls of either side.
    pub(crate) rpc: RpcMetrics,
    /// By slot; those of other cores stay at zero.
    slots: Box<[SlotMetrics]>,
}

impl CoreMetrics {
    /// What is measured of a slot's connections; nothing for a slot that cannot exist.
    pub(crate) fn slot(&self, index: usize) -> Option<&SlotMetrics> {
        self.slots.get(index)
    }
}

impl Default for CoreMetrics {
    fn default() -> Self {
        Self {
            requests: Counter::default(),
            request_errors: Counter::default(),
            interim_dropped: Counter::default(),
            concurrent_requests: Gauge::default(),
            tcp_sessions: Counter::default(),
            tcp_sessions_open: Gauge::default(),
            connects: ConnectMetrics::default(),
            responses: Statuses::default(),
            registrations_duplicate: Counter::default(),
            registrations_failed: Counter::default(),
            config_pushes: Counter::default(),
            config_push_errors: Counter::default(),
            connections_dialled: Counter::default(),
            connections_closed: Counter::default(),
            rpc: RpcMetrics::default(),
            slots: (0..SLOTS_MAX).map(|_| SlotMetrics::default()).collect(),
        }
    }
}
