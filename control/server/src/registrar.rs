//! Which connections may serve, and which do. Pure: events and the time in, answers and [`Effect`]s out.
//!
//! ```text
//!             register / report accepted
//!   (nothing) ──────────────────────────► attached ──── detach ───► pending ── PENDING_MAX ──► (nothing)
//!       ▲  ▲                                │   ▲                      │
//!       │  └── unregister, tunnel deleted ──┘   └──── edge reports ────┘
//!       └───── replaced by a newer connection of the slot
//! ```
//! A slot is (tunnel, connector, index) and holds one connection. A reconnect replaces the old one, wherever
//! it lived. An edge's link may drop while its connections serve on. They stay known as pending until the
//! edge attaches again and reports what lives. Nothing here is stored: after a restart of control the edges'
//! reports rebuild it, so an acknowledged registration is never lost.
//!
//! Does not: keep secrets (digests come with the snapshot), or send anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{ConfigurationState, Connection, ConnectionKey, Disconnect, EdgeInfo};
use adit_control_api::snapshot::RouteSnapshot;
use adit_control_api::{ConnIndex, ConnectionId, ConnectorId, TunnelId};

mod report;
mod verdict;

pub use verdict::{Reason, Verdict, judge_secret};

/// How long connections of an edge out of sight stay known.
pub const PENDING_MAX: Duration = Duration::from_secs(60);

/// Connections one edge may register: a bound against a mad edge, far above what one machine holds.
pub const CONNECTIONS_PER_EDGE_MAX: usize = 500_000;

/// Edges attached at once.
pub const EDGES_MAX: usize = 1_000;

/// One attachment of one edge. A later attachment of the same edge has another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// Something to tell an attached edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Whom.
    pub session: SessionId,
    /// What.
    pub disconnect: Disconnect,
}

/// A connection as it is known.
#[derive(Debug, Clone)]
pub struct Live {
    /// What its edge told of it.
    pub connection: Connection,
    /// The edge's site.
    pub colo: Arc<str>,
    /// When its edge went out of sight; `None` while attached.
    pub pending_since: Option<Instant>,
    edge: Arc<str>,
    session: SessionId,
}

/// A running connector.
#[derive(Debug, Default)]
pub struct Replica {
    /// Its connections by slot.
    pub connections: BTreeMap<ConnIndex, Live>,
    /// The configuration it brought itself.
    pub local_configuration: Option<Arc<[u8]>>,
    /// What became of control's at it.
    pub configuration: Option<ConfigurationState>,
}

/// Too many edges are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{EDGES_MAX} edges are attached, which is the limit")]
pub struct TooManyEdges;

/// The session was ended by a later attachment of the same edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended; attach again")]
pub struct SessionEnded;

/// All that is known of connections and edges.
#[derive(Debug, Default)]
pub struct Registrar {
    tunnels: BTreeMap<TunnelId, BTreeMap<ConnectorId, Replica>>,
    sessions: BTreeMap<SessionId, Session>,
    current: BTreeMap<Arc<str>, SessionId>,
    slots: BTreeMap<Arc<str>, BTreeSet<Slot>>,
    next_session: u64,
}

#[derive(Debug)]
struct Session {
    edge: Arc<str>,
    colo: Arc<str>,
    /// Present until the edge's report is complete.
    report: Option<Report>,
}

#[derive(Debug, Default)]
struct Report {
    /// Unregistered while the report was under way: a later part may still name them.
    gone: BTreeSet<ConnectionId>,
}

type Slot = (TunnelId, ConnectorId, ConnIndex);

impl Registrar {
    /// An edge attaches. Returns its session and the one that ends by it.
    ///
    /// # Errors
    /// [`TooManyEdges`].
    pub fn handle_attach(
        &mut self,
        edge: &EdgeInfo,
        now: Instant,
    ) -> Result<(SessionId, Option<SessionId>), TooManyEdges> {
        let name: Arc<str> = edge.name.as_str().into();
        let previous = self.current.get(&name).copied();
        if previous.is_none() && self.current.len() >= EDGES_MAX {
            return Err(TooManyEdges);
        }
        if let Some(previous) = previous {
            self.handle_detach(previous, now);
        }
        self.next_session += 1;
        let id = SessionId(self.next_session);
        let colo = edge.colo.as_str().into();
        self.current.insert(name.clone(), id);
        self.sessions.insert(
            id,
            Session {
                edge: name,
                colo,
                report: Some(Report::default()),
            },
        );
        Ok((id, previous))
    }

    /// An edge's link is gone; its connections become pending.
    pub fn handle_detach(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.current.remove(&session.edge);
        for slot in self.slots.get(&session.edge).into_iter().flatten() {
            if let Some(live) = live_mut(&mut self.tunnels, slot) {
                live.pending_since = Some(now);
            }
        }
    }

    /// A connector registers at an edge with this digest of its secret.
    ///
    /// # Errors
    /// [`SessionEnded`].
    pub fn handle_register(
        &mut self,
        id: SessionId,
        connection: Connection,
        secret: &SecretDigest,
        snapshot: &RouteSnapshot,
    ) -> Result<(Verdict, Vec<Effect>), SessionEnded> {
        if !self.sessions.contains_key(&id) {
            return Err(SessionEnded);
        }
        let verdict = judge_secret(snapshot, &connection, secret);
        Ok(self.admit(id, connection, snapshot, verdict))
    }

    /// A connection is gone. Another connection in its slot stays.
    ///
    /// # Errors
    /// [`SessionEnded`].
    pub fn handle_unregister(&mut self, id: SessionId, key: &ConnectionKey) -> Result<(), SessionEnded> {
        let session = self.sessions.get_mut(&id).ok_or(SessionEnded)?;
        if let Some(report) = &mut session.report
            && report.gone.len() < CONNECTIONS_PER_EDGE_MAX
        {
            report.gone.insert(key.connection);
        }
        let edge = session.edge.clone();
        let slot = (key.tunnel, key.connector, key.index);
        let known = live_mut(&mut self.tunnels, &slot);
        if known.is_some_and(|live| live.connection.key == *key && live.edge == edge) {
            self.remove(&slot);
        }
        Ok(())
    }

    /// A connector has told its own configuration. Unknown replicas are ignored: they have left meanwhile.
    pub fn handle_local_configuration(
        &mut self,
        tunnel: TunnelId,
        connector: ConnectorId,
        config: Arc<[u8]>,
    ) {
        if let Some(replica) = self
            .tunnels
            .get_mut(&tunnel)
            .and_then(|held| held.get_mut(&connector))
        {
            replica.local_configuration = Some(config);
        }
    }

    /// A replica has taken or refused control's configuration. Unknown replicas are ignored, as above.
    pub fn handle_configuration_told(
        &mut self,
        tunnel: TunnelId,
        connector: ConnectorId,
        state: ConfigurationState,
    ) {
        if let Some(replica) = self
            .tunnels
            .get_mut(&tunnel)
            .and_then(|held| held.get_mut(&connector))
        {
            replica.configuration = Some(state);
        }
    }

    /// Forgets a tunnel's connections, or one replica's, and has their edges close them.
    pub fn handle_cleanup(
        &mut self,
        tunnel: TunnelId,
        connector: Option<ConnectorId>,
        reason: &str,
    ) -> Vec<Effect> {
        let replicas = self.tunnels.get(&tunnel).into_iter().flatten();
        let slots: Vec<Slot> = replicas
            .filter(|(id, _)| connector.is_none_or(|only| only == **id))
            .flat_map(|(id, replica)| replica.connections.keys().map(|index| (tunnel, *id, *index)))
            .collect();
        let mut sessions = BTreeSet::new();
        for slot in slots {
            if let Some(live) = self.remove(&slot) {
                sessions.extend(self.current.get(&live.edge).copied());
            }
        }
        let disconnect = Disconnect {
            tunnel,
            connector,
            connection: None,
            reason: reason.into(),
        };
        sessions
            .into_iter()
            .map(|session| Effect {
                session,
                disconnect: disconnect.clone(),
            })
            .collect()
    }

    /// Forgets connections that have been pending for longer than [`PENDING_MAX`]. Returns how many.
    pub fn handle_timeout(&mut self, now: Instant) -> usize {
        let overdue: Vec<Slot> = self
            .lives()
            .filter(|(_, live)| {
                live.pending_since
                    .is_some_and(|since| now.saturating_duration_since(since) >= PENDING_MAX)
            })
            .map(|(slot, _)| slot)
            .collect();
        overdue.iter().filter(|slot| self.remove(slot).is_some()).count()
    }

    /// The replicas of a tunnel.
    pub fn replicas(&self, tunnel: TunnelId) -> impl Iterator<Item = (ConnectorId, &Replica)> {
        self.tunnels
            .get(&tunnel)
            .into_iter()
            .flatten()
            .map(|(id, replica)| (*id, replica))
    }

    /// Whether anything of the tunnel is connected, in sight or not.
    pub fn is_connected(&self, tunnel: TunnelId) -> bool {
        self.tunnels.contains_key(&tunnel)
    }

    /// Whether the session still stands.
    pub fn is_attached(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id)
    }

    /// Edges attached, connections in sight, connections pending.
    pub fn counts(&self) -> (usize, usize, usize) {
        let (attached, pending): (Vec<_>, Vec<_>) = self
            .lives()
            .map(|(_, live)| live)
            .partition(|live| live.pending_since.is_none());
        (self.sessions.len(), attached.len(), pending.len())
    }

    fn admit(
        &mut self,
        id: SessionId,
        connection: Connection,
        snapshot: &RouteSnapshot,
        verdict: Verdict,
    ) -> (Verdict, Vec<Effect>) {
        let (Verdict::Accepted(accepted), Some(entry)) =
            (verdict, snapshot.tunnels.get(&connection.key.tunnel))
        else {
            return (verdict, Vec::new());
        };
        if let Err(reason) = self.make_room(id, &connection.key, entry.replicas_max) {
            return (Verdict::Refused(reason), Vec::new());
        }
        let effects = self.insert(id, connection);
        (Verdict::Accepted(accepted), effects)
    }

    /// Checks the limits; a replica that is wholly out of sight gives way to a new one.
    fn make_room(&mut self, id: SessionId, key: &ConnectionKey, replicas_max: u32) -> Result<(), Reason> {
        let slot = (key.tunnel, key.connector, key.index);
        let edge = self.sessions.get(&id).map(|session| &session.edge);
        let held = edge.and_then(|edge| self.slots.get(edge));
        if held.is_some_and(|held| held.len() >= CONNECTIONS_PER_EDGE_MAX && !held.contains(&slot)) {
            return Err(Reason::EdgeFull);
        }
        let Some(replicas) = self.tunnels.get(&key.tunnel) else {
            return Ok(());
        };
        if replicas.contains_key(&key.connector) || replicas.len() < replicas_max as usize {
            return Ok(());
        }
        let pending = replicas
            .iter()
            .filter_map(|(id, replica)| Some((replica.pending_since()?, *id)))
            .min();
        let Some((_, connector)) = pending else {
            return Err(Reason::TooManyReplicas { replicas_max });
        };
        let indices: Vec<_> = replicas
            .get(&connector)
            .map(|replica| replica.connections.keys().copied().collect())
            .unwrap_or_default();
        for index in indices {
            self.remove(&(key.tunnel, connector, index));
        }
        Ok(())
    }

    fn insert(&mut self, id: SessionId, connection: Connection) -> Vec<Effect> {
        let Some(session) = self.sessions.get(&id) else {
            return Vec::new();
        };
        let key = connection.key.clone();
        let slot = (key.tunnel, key.connector, key.index);
        let (edge, colo) = (session.edge.clone(), session.colo.clone());
        let live = Live {
            connection,
            colo,
            pending_since: None,
            edge: edge.clone(),
            session: id,
        };
        let replica = self
            .tunnels
            .entry(key.tunnel)
            .or_default()
            .entry(key.connector)
            .or_default();
        let replaced = replica.connections.insert(key.index, live);
        let mut effects = Vec::new();
        if let Some(old) = replaced
            && old.connection.key != key
        {
            if old.edge != edge {
                forget_slot(&mut self.slots, &old.edge, &slot);
            }
            effects.extend(self.end_replaced(&old));
        }
        self.slots.entry(edge).or_default().insert(slot);
        effects
    }

    /// Has the edge of a replaced connection close it, which may not have noticed that it is dead.
    ///
    /// Not while it is pending: its edge will report what lives by then, and may yet have the newer one.
    fn end_replaced(&self, old: &Live) -> Option<Effect> {
        if old.pending_since.is_some() {
            return None;
        }
        let key = &old.connection.key;
        let disconnect = Disconnect {
            tunnel: key.tunnel,
            connector: Some(key.connector),
            connection: Some(key.connection),
            reason: "replaced by a newer connection of the same slot".into(),
        };
        let session = *self.current.get(&old.edge)?;
        Some(Effect { session, disconnect })
    }

    fn remove(&mut self, slot: &Slot) -> Option<Live> {
        let replicas = self.tunnels.get_mut(&slot.0)?;
        let replica = replicas.get_mut(&slot.1)?;
        let live = replica.connections.remove(&slot.2)?;
        if replica.connections.is_empty() {
            replicas.remove(&slot.1);
        }
        if replicas.is_empty() {
            self.tunnels.remove(&slot.0);
        }
        forget_slot(&mut self.slots, &live.edge, slot);
        Some(live)
    }

    fn lives(&self) -> impl Iterator<Item = (Slot, &Live)> {
        self.tunnels.iter().flat_map(|(tunnel, replicas)| {
            replicas.iter().flat_map(move |(connector, replica)| {
                replica
                    .connections
                    .iter()
                    .map(move |(index, live)| ((*tunnel, *connector, *index), live))
            })
        })
    }
}

impl Replica {
    /// Since when all its connections are out of sight; `None` while one is in sight.
    fn pending_since(&self) -> Option<Instant> {
        self.connections
            .values()
            .map(|live| live.pending_since)
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max()
    }
}

fn live_mut<'a>(
    tunnels: &'a mut BTreeMap<TunnelId, BTreeMap<ConnectorId, Replica>>,
    slot: &Slot,
) -> Option<&'a mut Live> {
    tunnels
        .get_mut(&slot.0)?
        .get_mut(&slot.1)?
        .connections
        .get_mut(&slot.2)
}

fn forget_slot(slots: &mut BTreeMap<Arc<str>, BTreeSet<Slot>>, edge: &Arc<str>, slot: &Slot) {
    if let Some(held) = slots.get_mut(edge) {
        held.remove(slot);
        if held.is_empty() {
            slots.remove(edge);
        }
    }
}

#[cfg(test)]
mod tests;
