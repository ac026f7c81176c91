//! What rules with several addresses or limits count; one for the process, as their state is.

use super::Counter;

/// Counters of all origins together.
#[derive(Debug, Default)]
pub(crate) struct OriginMetrics {
    /// Addresses left out after failures.
    pub(crate) ejections: Counter,
    /// Exchanges that went on to another address.
    pub(crate) retries: Counter,
    /// Exchanges that waited for room.
    pub(crate) waited: Counter,
    /// Exchanges refused because as many waited as may.
    pub(crate) refused_full: Counter,
    /// Exchanges refused after having waited.
    pub(crate) refused_late: Counter,
    /// Checks that found an address well.
    pub(crate) checks_ok: Counter,
    /// Checks that found it not well.
    pub(crate) checks_failed: Counter,
}
