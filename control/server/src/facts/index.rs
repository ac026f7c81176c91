//! Answers of the facts that would otherwise need a look at all of them: what an account holds, what leads to
//! a tunnel, whose names lie beneath a name.
//!
//! [`super::Facts::apply`] keeps them with each change, in O(log n). The invariant: they are what a walk over
//! all tunnels and routes would find. A test holds both against each other over random changes.

use adit_control_api::persistent::{PersistentMap, PersistentSet};
use adit_control_api::{AccountTag, HostPattern, Hostname, TunnelId};
use time::OffsetDateTime;

use super::{Route, Tunnel};

/// All indexes over tunnels and routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// What each account holds; accounts without tunnels and routes are absent.
    pub(super) holdings: PersistentMap<AccountTag, Holdings>,
    /// The patterns that lead to each tunnel.
    pub(super) led: PersistentMap<TunnelId, PersistentSet<HostPattern>>,
    /// How many patterns each account has strictly beneath a name. A route is counted once for each name
    /// that its own lies under, so once per label at most.
    pub(super) beneath: PersistentMap<Hostname, PersistentMap<AccountTag, usize>>,
    /// Quick tunnels, the first to end first.
    pub(super) quick: PersistentSet<(OffsetDateTime, TunnelId)>,
}

/// What one account holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    /// All its tunnels, with the deleted ones.
    pub(super) tunnels: PersistentSet<TunnelId>,
    /// The living ones by name.
    pub(super) living: PersistentSet<(String, TunnelId)>,
    /// The deleted ones, the oldest first.
    pub(super) deleted: PersistentSet<(OffsetDateTime, TunnelId)>,
    /// How many routes it has.
    pub(super) routes: usize,
}

impl Index {
    pub(super) fn add_tunnel(&mut self, tunnel: &Tunnel) {
        update(&mut self.holdings, &tunnel.account, |held| {
            held.tunnels.insert_mut(tunnel.id);
            match tunnel.deleted_at {
                Some(at) => held.deleted.insert_mut((at, tunnel.id)),
                None => held.living.insert_mut((tunnel.name.clone(), tunnel.id)),
            }
        });
        if let Some(at) = tunnel.expires_at {
            self.quick.insert_mut((at, tunnel.id));
        }
    }

    pub(super) fn remove_tunnel(&mut self, tunnel: &Tunnel) {
        update(&mut self.holdings, &tunnel.account, |held| {
            held.tunnels.remove_mut(&tunnel.id);
            match tunnel.deleted_at {
                Some(at) => held.deleted.remove_mut(&(at, tunnel.id)),
                None => held.living.remove_mut(&(tunnel.name.clone(), tunnel.id)),
            };
        });
        if let Some(at) = tunnel.expires_at {
            self.quick.remove_mut(&(at, tunnel.id));
        }
    }

    pub(super) fn add_route(&mut self, route: &Route) {
        update(&mut self.holdings, &route.account, |held| held.routes += 1);
        update(&mut self.led, &route.tunnel, |led| {
            led.insert_mut(route.pattern.clone());
        });
        for above in above(&route.pattern) {
            update(&mut self.beneath, &above, |counts| {
                update(counts, &route.account, |count| *count += 1);
            });
        }
    }

    pub(super) fn remove_route(&mut self, route: &Route) {
        update(&mut self.holdings, &route.account, |held| {
            held.routes = held.routes.saturating_sub(1);
        });
        update(&mut self.led, &route.tunnel, |led| {
            led.remove_mut(&route.pattern);
        });
        for above in above(&route.pattern) {
            update(&mut self.beneath, &above, |counts| {
                update(counts, &route.account, |count| *count = count.saturating_sub(1));
            });
        }
    }
}

/// The names that the pattern's own lies under, nearest first.
pub(super) fn above(pattern: &HostPattern) -> impl Iterator<Item = Hostname> {
    let (HostPattern::Exact(name) | HostPattern::Wildcard(name)) = pattern;
    name.parents().filter_map(|parent| parent.parse().ok())
}

/// Something that an index need not hold.
trait Vacant {
    fn is_vacant(&self) -> bool;
}

impl Vacant for usize {
    fn is_vacant(&self) -> bool {
        *self == 0
    }
}

impl Vacant for Holdings {
    fn is_vacant(&self) -> bool {
        self.tunnels.is_empty() && self.routes == 0
    }
}

impl<T: Ord> Vacant for PersistentSet<T> {
    fn is_vacant(&self) -> bool {
        self.is_empty()
    }
}

impl<K: Ord, V> Vacant for PersistentMap<K, V> {
    fn is_vacant(&self) -> bool {
        self.is_empty()
    }
}

/// Changes the value of a key, which is the empty one if there is none, and drops it if it became empty.
fn update<K, V>(map: &mut PersistentMap<K, V>, key: &K, change: impl FnOnce(&mut V))
where
    K: Ord + Clone,
    V: Clone + Default + Vacant,
{
    match map.get_mut(key) {
        Some(value) => {
            change(value);
            if value.is_vacant() {
                map.remove_mut(key);
            }
        }
        None => {
            let mut value = V::default();
            change(&mut value);
            if !value.is_vacant() {
                map.insert_mut(key.clone(), value);
            }
        }
    }
}
