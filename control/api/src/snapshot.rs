//! All routes and tunnels at one moment, and the difference between two moments.
//!
//! Control plans a [`RouteSnapshot`] and numbers it. An edge holds exactly one, on disk too. It replaces it
//! by a newer one, or patches it by a [`SnapshotDelta`]. Generations only grow. Receivers obey two rules:
//!
//! * a full snapshot with a generation below the held one is dropped ([`RouteSnapshot::replace`]);
//! * a delta applies only to the generation it starts from; an older one is dropped, a later one is a gap and
//!   the receiver asks for a full snapshot ([`RouteSnapshot::apply`]).
//!
//! So replays and races cannot move an edge backwards, and `apply(delta)` gives the same state as the full
//! snapshot of that generation.

use std::collections::BTreeMap;

use adit_wire::hostname::HostPattern;
use adit_wire::ids::{AccountTag, TunnelId};
use serde::{Deserialize, Serialize};

use crate::digest::SecretDigest;
use crate::management::ManagementKey;
use crate::persistent::PersistentMap;

/// Largest snapshot in its JSON form. A million routes fit; more is refused by control before it is sent.
pub const SNAPSHOT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Replicas a tunnel may have when nothing else is configured.
pub const REPLICAS_MAX_DEFAULT: u32 = 100;

/// Everything an edge needs to serve visitors and to admit connectors without asking control.
///
/// A copy is cheap and shares what it does not change, so a step from one snapshot to the next costs what the
/// step touches.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RouteSnapshot {
    /// Number of this state; grows with every change and never goes back. 0 = nothing received yet.
    pub generation: u64,
    /// What serves each hostname.
    pub routes: PersistentMap<HostPattern, RouteTarget>,
    /// Every living tunnel.
    pub tunnels: PersistentMap<TunnelId, TunnelEntry>,
    /// What tokens for the management service of connectors are verified with; none are good without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_key: Option<ManagementKey>,
}

/// What a hostname leads to. Pools join when load balancing does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteTarget {
    /// All replicas of one tunnel.
    Tunnel(TunnelId),
    /// Something that a newer control knows and this program does not, kept as it came. Only its own hostname
    /// cannot be served.
    #[serde(untagged)]
    Newer(serde_json::Value),
}

impl RouteTarget {
    /// The tunnel it leads to, if that is known here.
    pub const fn tunnel(&self) -> Option<TunnelId> {
        match self {
            Self::Tunnel(tunnel) => Some(*tunnel),
            Self::Newer(_) => None,
        }
    }
}

/// One tunnel as an edge knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TunnelEntry {
    /// The account that owns it.
    pub account: AccountTag,
    /// Its name, for logs.
    pub name: String,
    /// Digest of the secret its connectors present.
    pub secret_digest: SecretDigest,
    /// Whether control holds the ingress rules and the edge pushes them after registration.
    pub remotely_managed: bool,
    /// Version of the remote configuration; -1 when there is none.
    pub config_version: i32,
    /// How many replicas may be connected at once.
    pub replicas_max: u32,
}

/// The difference between two snapshots.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SnapshotDelta {
    /// Generation the receiver must hold.
    pub from: u64,
    /// Generation the receiver holds afterwards.
    pub to: u64,
    /// Routes that are new or lead elsewhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routes_set: BTreeMap<HostPattern, RouteTarget>,
    /// Routes that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes_removed: Vec<HostPattern>,
    /// Tunnels that are new or changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tunnels_set: BTreeMap<TunnelId, TunnelEntry>,
    /// Tunnels that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnels_removed: Vec<TunnelId>,
    /// The key for tokens, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_key: Option<ManagementKey>,
}

/// What became of a snapshot or delta that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The held state is now the offered one.
    Yes,
    /// It was not newer than the held state and changed nothing.
    Stale,
}

/// A delta starts from a generation that the receiver does not hold: it needs a full snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("delta starts from generation {from}, but generation {held} is held")]
pub struct DeltaGap {
    /// Generation held by the receiver.
    pub held: u64,
    /// Generation the delta starts from.
    pub from: u64,
}

impl RouteSnapshot {
    /// Takes a full snapshot unless it is older than the held one.
    ///
    /// An equal generation is taken. After control has lost its store, the same number may name another
    /// state, and control's is the later one.
    pub fn replace(&mut self, offered: Self) -> Applied {
        if offered.generation < self.generation {
            return Applied::Stale;
        }
        *self = offered;
        Applied::Yes
    }

    /// Patches the held state.
    ///
    /// # Errors
    /// [`DeltaGap`] when the delta is newer but does not start from the held generation. Nothing changes
    /// then.
    pub fn apply(&mut self, delta: SnapshotDelta) -> Result<Applied, DeltaGap> {
        if delta.to <= self.generation {
            return Ok(Applied::Stale);
        }
        if delta.from != self.generation {
            return Err(DeltaGap {
                held: self.generation,
                from: delta.from,
            });
        }
        for pattern in &delta.routes_removed {
            self.routes.remove_mut(pattern);
        }
        for tunnel in &delta.tunnels_removed {
            self.tunnels.remove_mut(tunnel);
        }
        for (pattern, target) in delta.routes_set {
            self.routes.insert_mut(pattern, target);
        }
        for (tunnel, entry) in delta.tunnels_set {
            self.tunnels.insert_mut(tunnel, entry);
        }
        self.management_key = delta.management_key.or(self.management_key);
        self.generation = delta.to;
        Ok(Applied::Yes)
    }

    /// What turns this state into `newer`.
    pub fn delta_to(&self, newer: &Self) -> SnapshotDelta {
        SnapshotDelta {
            from: self.generation,
            to: newer.generation,
            routes_set: changed(&self.routes, &newer.routes, |a, b| a == b),
            routes_removed: missing(&self.routes, &newer.routes),
            tunnels_set: changed(&self.tunnels, &newer.tunnels, TunnelEntry::same),
            tunnels_removed: missing(&self.tunnels, &newer.tunnels),
            management_key: newer
                .management_key
                .filter(|key| self.management_key != Some(*key)),
        }
    }

    /// Whether both hold the same routes and tunnels, whatever their generations.
    pub fn same_content(&self, other: &Self) -> bool {
        self.routes == other.routes
            && self.management_key == other.management_key
            && self.tunnels.size() == other.tunnels.size()
            && self
                .tunnels
                .iter()
                .zip(&other.tunnels)
                .all(|(a, b)| a.0 == b.0 && a.1.same(b.1))
    }
}

impl TunnelEntry {
    fn same(&self, other: &Self) -> bool {
        self.account == other.account
            && self.name == other.name
            && self.secret_digest.matches(&other.secret_digest)
            && self.remotely_managed == other.remotely_managed
            && self.config_version == other.config_version
            && self.replicas_max == other.replicas_max
    }
}

fn changed<K: Ord + Clone, V: Clone>(
    old: &PersistentMap<K, V>,
    new: &PersistentMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> BTreeMap<K, V> {
    new.iter()
        .filter(|(key, value)| old.get(key).is_none_or(|held| !same(held, value)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn missing<K: Ord + Clone, V>(old: &PersistentMap<K, V>, new: &PersistentMap<K, V>) -> Vec<K> {
    old.keys().filter(|key| !new.contains_key(key)).cloned().collect()
}

#[cfg(test)]
mod tests;
