//! What every task of one core of the edge shares.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use adit_driver::core::CoreContext;
use adit_driver::time::now;
use adit_proto::exchange::retry::Budget;
use adit_proto::shares::Scarcity;
use arc_swap::Guard;

use crate::access_log::AccessLog;
use crate::config::{Config, Current, LiveConfig};
use crate::control_link::ServiceHandle;
use crate::drain::Drain;
use crate::management::Management;
use crate::memory::{Memory, Shortage};
use crate::metrics::CoreMetrics;
use crate::shares::Shares;
use crate::tunnels::Tunnels;

/// What every task of one core shares.
pub(crate) struct Core {
    pub(crate) context: CoreContext,
    /// As at the start; what can change since is [`Core::live`].
    pub(crate) config: Arc<Config>,
    pub(crate) live: LiveConfig,
    pub(crate) tunnels: Rc<Tunnels>,
    pub(crate) metrics: Arc<CoreMetrics>,
    pub(crate) log: AccessLog,
    pub(crate) retries: Cell<Budget>,
    pub(crate) drain: Drain,
    pub(crate) management: Management,
    pub(crate) shares: Shares,
    memory: Memory,
}

impl Core {
    pub(crate) fn new(
        context: CoreContext,
        live: LiveConfig,
        tunnels: Rc<Tunnels>,
        metrics: Arc<CoreMetrics>,
        log: AccessLog,
        service: Option<ServiceHandle>,
    ) -> Rc<Self> {
        let config = live.start().clone();
        let management = Management::new(&config, service);
        let memory = Memory::new(config.limits.memory_bytes, context.count);
        metrics.memory_share_bytes.set(memory.share());
        let shares = Shares::new(config.limits.shares, context.count);
        Rc::new(Self {
            context,
            config,
            live,
            tunnels,
            metrics,
            log,
            retries: Cell::default(),
            drain: Drain::default(),
            management,
            shares,
            memory,
        })
    }

    /// Accounts memory to an exchange; false when the budget is used up.
    pub(crate) fn admit(&self, bytes: u64) -> bool {
        let admitted = self.memory.admit(bytes, now());
        match admitted {
            Ok(()) => self.metrics.memory_bytes.set(self.memory.accounted()),
            Err(Shortage::Held) => self.metrics.refused_for_held.add(1),
            Err(Shortage::Resident) => self.metrics.refused_for_resident.add(1),
        }
        admitted.is_ok()
    }

    /// Accounts what exchanges have come to hold.
    pub(crate) fn hold(&self, bytes: u64) {
        self.memory.hold(bytes);
        self.metrics.memory_bytes.set(self.memory.accounted());
    }

    /// Bytes that exchanges may still hold.
    pub(crate) fn memory_free(&self) -> u64 {
        self.memory.free()
    }

    /// How scarce they are.
    pub(crate) fn memory_scarcity(&self) -> Scarcity {
        Scarcity::of(self.memory.accounted(), self.memory.share())
    }

    /// Gives accounted memory back.
    pub(crate) fn release(&self, bytes: u64) {
        self.memory.release(bytes);
        self.metrics.memory_bytes.set(self.memory.accounted());
    }

    /// Puts those limits in force that the core keeps itself.
    pub(crate) fn follow(&self, current: &Current) {
        let limits = &current.limits;
        self.memory.set_budget(limits.memory_bytes);
        self.metrics.memory_share_bytes.set(self.memory.share());
        self.shares.set(limits.shares);
        self.tunnels.set(limits.reconnect_wait, current.ejection);
    }

    /// This core's share of the visitors' connections.
    pub(crate) fn visitors_max(&self) -> usize {
        self.live()
            .limits
            .visitor_connections
            .div_ceil(self.context.count)
    }

    /// What of the configuration can change while the edge runs, as it is at this moment.
    pub(crate) fn live(&self) -> Guard<Arc<Current>> {
        self.live.current()
    }
}
