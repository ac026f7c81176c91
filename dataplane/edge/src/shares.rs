//! Who holds how much of one core: visitors' addresses and tunnels, and the account of each exchange.
//!
//! An account begins with what any exchange costs ([`EXCHANGE_BYTES`]), grows by what is buffered for it, and
//! is settled when the exchange ends. All of it counts towards the core's memory, the visitor's address and
//! the tunnel.
//!
//! An entry of a table lives as long as somebody is counted in it, so the limits of connections and of memory
//! bound the tables too. Every core counts for itself: no lock, nothing shared. An address whose connections
//! the kernel spreads over the cores has a share of each. One with a single connection has that of one core.
//!
//! Costs two look-ups when an exchange begins and two when it ends.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::limits::EXCHANGES_PER_CONNECTION_MAX;
use adit_proto::shares::{AddressBlock, Scarcity, Share};
use adit_wire::TunnelId;

use crate::config::ShareLimits;
use crate::core::Core;
use crate::tunnels::Load;

/// Bytes that any exchange costs: its head, its tasks, its streams on both sides. A careful estimate. The
/// process's resident memory shows what it leaves out, and bounds admission as well.
pub(crate) const EXCHANGE_BYTES: u64 = 16 << 10;

/// The tables of one core.
pub(crate) struct Shares {
    limits: Cell<ShareLimits>,
    cores: usize,
    visitors: Table<AddressBlock>,
    tunnels: Table<TunnelId>,
}

impl Shares {
    pub(crate) fn new(limits: ShareLimits, cores: usize) -> Self {
        Self {
            limits: Cell::new(limits.of_core(cores)),
            cores,
            visitors: Table::default(),
            tunnels: Table::default(),
        }
    }

    /// Changes the limits for what comes from now on.
    pub(crate) fn set(&self, limits: ShareLimits) {
        self.limits.set(limits.of_core(self.cores));
    }

    /// Addresses and tunnels that somebody is counted for.
    pub(crate) fn entries(&self) -> usize {
        self.visitors.0.borrow().len() + self.tunnels.0.borrow().len()
    }
}

/// Holders of one kind. Never iterated.
struct Table<K>(RefCell<HashMap<K, Rc<Holding>>>);

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Copy + Eq + Hash> Table<K> {
    /// What a holder has, if anything.
    fn look<T: Default>(&self, key: K, of: impl FnOnce(&Holding) -> T) -> T {
        self.0
            .borrow()
            .get(&key)
            .map_or_else(T::default, |holding| of(holding))
    }

    fn enter(&self, key: K) -> Rc<Holding> {
        self.0.borrow_mut().entry(key).or_default().clone()
    }

    /// Forgets a holder for whom nothing is counted any more.
    fn leave(&self, key: K, holding: &Holding) {
        let is_empty = holding.exchanges.get() == 0 && holding.connections.get() == 0;
        let mut holders = self.0.borrow_mut();
        if is_empty
            && holders
                .get(&key)
                .is_some_and(|kept| std::ptr::eq(&raw const **kept, holding))
        {
            holders.remove(&key);
        }
    }
}

/// What one address or tunnel has.
#[derive(Debug, Default)]
struct Holding {
    connections: Cell<usize>,
    exchanges: Cell<usize>,
    bytes: Cell<u64>,
}

impl Holding {
    fn grow(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn shrink(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }

    fn end_exchange(&self) {
        self.exchanges.set(self.exchanges.get().saturating_sub(1));
    }

    /// How near it is to its share of the memory.
    fn scarcity(&self, share: Share, free: u64) -> Scarcity {
        let held = self.bytes.get();
        let most = (held + free) / 100 * u64::from(share.as_percent());
        Scarcity::of(held, most)
    }
}

/// A visitor's connection, counted for its address.
pub(crate) struct Place {
    core: Rc<Core>,
    block: AddressBlock,
    holding: Rc<Holding>,
}

impl Place {
    /// `None` when the address has as many as it may.
    pub(crate) fn take(core: &Rc<Core>, block: AddressBlock) -> Option<Self> {
        let shares = &core.shares;
        let taken = shares.visitors.look(block, |holding| holding.connections.get());
        if taken >= shares.limits.get().connections_per_address {
            return None;
        }
        let holding = shares.visitors.enter(block);
        holding.connections.set(taken + 1);
        Some(Self {
            core: core.clone(),
            block,
            holding,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connections = &self.holding.connections;
        connections.set(connections.get().saturating_sub(1));
        self.core.shares.visitors.leave(self.block, &self.holding);
    }
}

/// What one exchange holds, counted for its core, its visitor's address and its tunnel.
pub(crate) struct Account {
    core: Rc<Core>,
    is_admitted: bool,
    bytes: Cell<u64>,
    visitor: OnceCell<(AddressBlock, Rc<Holding>)>,
    tunnel: OnceCell<(TunnelId, Rc<Holding>)>,
    /// The tunnel connection of the last attempt.
    load: RefCell<Option<Load>>,
    has_given_way: Cell<bool>,
}

impl Account {
    /// Opens it, if the core has memory for another exchange.
    pub(crate) fn open(core: &Rc<Core>) -> Rc<Self> {
        let is_admitted = core.admit(EXCHANGE_BYTES);
        Rc::new(Self {
            core: core.clone(),
            is_admitted,
            bytes: Cell::new(if is_admitted { EXCHANGE_BYTES } else { 0 }),
            visitor: OnceCell::new(),
            tunnel: OnceCell::new(),
            load: RefCell::default(),
            has_given_way: Cell::new(false),
        })
    }

    /// Whether the core had memory for it.
    pub(crate) fn is_admitted(&self) -> bool {
        self.is_admitted
    }

    /// Counts the exchange for a visitor's address and a tunnel as well, once. `None` for a trusted proxy
    /// that does not say who asks.
    ///
    /// # Errors
    /// Whose share is used up.
    pub(crate) fn enter(&self, visitor: Option<AddressBlock>, tunnel: TunnelId) -> Result<(), ErrorCode> {
        let (shares, free, bytes) = (&self.core.shares, self.core.memory_free(), self.bytes.get());
        let has = |holding: &Holding| (holding.exchanges.get(), holding.bytes.get());
        let limits = shares.limits.get();
        if let Some(block) = visitor {
            let (exchanges, held) = shares.visitors.look(block, has);
            let is_full = exchanges >= limits.exchanges_per_address;
            if is_full || !limits.address_share.allows(held + bytes, free) {
                return Err(ErrorCode::VisitorShare);
            }
        }
        let (_, held) = shares.tunnels.look(tunnel, has);
        if !limits.tunnel_share.allows(held + bytes, free) {
            return Err(ErrorCode::TunnelShare);
        }
        let join = |holding: &Holding| {
            holding.exchanges.set(holding.exchanges.get() + 1);
            holding.grow(bytes);
        };
        if let Some(block) = visitor {
            join(
                &self
                    .visitor
                    .get_or_init(|| (block, shares.visitors.enter(block)))
                    .1,
            );
        }
        join(
            &self
                .tunnel
                .get_or_init(|| (tunnel, shares.tunnels.enter(tunnel)))
                .1,
        );
        Ok(())
    }

    /// Notes the tunnel connection that carries the exchange.
    pub(crate) fn carried_by(&self, load: &Load) {
        self.load.replace(Some(load.clone()));
    }

    /// Accounts what was buffered for the exchange.
    pub(crate) fn hold(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
        self.core.hold(bytes);
        self.each(|holding| holding.grow(bytes));
    }

    /// Gives back what was accounted.
    pub(crate) fn release(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        self.core.release(bytes);
        self.each(|holding| holding.shrink(bytes));
    }

    /// How scarce is what this exchange takes: the core's memory, its address's and its tunnel's shares, and
    /// room on the connection that carries it.
    pub(crate) fn scarcity(&self) -> Scarcity {
        let (limits, free) = (self.core.shares.limits.get(), self.core.memory_free());
        let mut scarcity = self.core.memory_scarcity();
        if let Some((_, visitor)) = self.visitor.get() {
            let exchanges = Scarcity::of(
                visitor.exchanges.get() as u64,
                limits.exchanges_per_address as u64,
            );
            scarcity = scarcity
                .max(exchanges)
                .max(visitor.scarcity(limits.address_share, free));
        }
        if let Some((_, tunnel)) = self.tunnel.get() {
            scarcity = scarcity.max(tunnel.scarcity(limits.tunnel_share, free));
        }
        if let Some(load) = &*self.load.borrow() {
            let exchanges = u64::from(load.load(Ordering::Relaxed));
            scarcity = scarcity.max(Scarcity::of(exchanges, u64::from(EXCHANGES_PER_CONNECTION_MAX)));
        }
        scarcity
    }

    /// Takes the exchange out of its address's number, because it is being ended to make room for others. So
    /// of many that are late at once, no more are ended than room is needed for. What it holds stays
    /// accounted until it is gone.
    pub(crate) fn give_way(&self) {
        if !self.has_given_way.replace(true)
            && let Some((_, visitor)) = self.visitor.get()
        {
            visitor.end_exchange();
        }
    }

    fn each(&self, change: impl Fn(&Holding)) {
        if let Some((_, holding)) = self.visitor.get() {
            change(holding);
        }
        if let Some((_, holding)) = self.tunnel.get() {
            change(holding);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let bytes = self.bytes.get();
        self.core.release(bytes);
        self.give_way();
        self.each(|holding| holding.shrink(bytes));
        let shares = &self.core.shares;
        if let Some((block, holding)) = self.visitor.get() {
            shares.visitors.leave(*block, holding);
        }
        if let Some((tunnel, holding)) = self.tunnel.get() {
            holding.end_exchange();
            shares.tunnels.leave(*tunnel, holding);
        }
    }
}
