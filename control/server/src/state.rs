//! What the process holds in memory: the facts and the snapshot planned from them, and the registrar.
//!
//! ```text
//! write: decide (pure) → commit (blocking thread) ──store's watch──► facts → step → publish ──► every pusher
//! edge event: registrar (pure) ─────────────────────────────────► effects ──queue──► that edge's pusher
//! ```
//! Writes take turns; a turn lasts one disk sync (`state/writing.rs`). What is published follows the store
//! and nothing else, so it does not matter which process made a commit (`state/following.rs`). Reads and
//! registrations never wait for a write: they see the last published state. A write that began goes on to
//! its end even when its caller has left.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{
    ConfigurationState, Connection, ConnectionKey, Disconnect, EdgeInfo, PART_BYTES_MAX, RegisterOutcome,
    Rejection, Rival,
};
use adit_control_api::snapshot::{RouteSnapshot, SnapshotDelta};
use adit_control_api::{ConnectorId, TunnelId};
use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

use crate::facts::{Change, Facts};
use crate::metrics::Metrics;
use crate::plan::{PlanSettings, Touched, plan, step};
use crate::registrar::{Effect, Registrar, SessionEnded, SessionId, TooManyEdges, Verdict};
use crate::store::{Revision, Store, StoreError};

mod following;
mod writing;

/// Orders waiting for one edge. When it is full the edge has to attach again, which tells it the same.
const ORDERS_MAX: usize = 1_024;

/// Deltas kept for edges that are a little behind. One further behind gets a delta made for it alone.
const DELTAS_MAX: usize = 64;

/// What these may take together.
const DELTAS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest generation taken over from an edge; above it lies room for a million writes a second for ever.
const GENERATION_MAX: u64 = u64::MAX / 2;

/// All of it.
pub(crate) struct State {
    store: Arc<dyn Store>,
    /// Held for a copy or a change, never across a wait.
    settings: Mutex<PlanSettings>,
    /// Held for the length of a write.
    turn: tokio::sync::Mutex<()>,
    published: watch::Sender<Published>,
    /// Rings when the store has answered, for a follower that waits for it to do so.
    store_answers: Arc<Notify>,
    live: Mutex<Live>,
    /// Counters of the whole process.
    pub(crate) metrics: Metrics,
}

/// One generation, as everybody sees it.
#[derive(Clone)]
pub(crate) struct Published {
    /// What is known.
    pub(crate) facts: Arc<Facts>,
    /// Where the store was when it held exactly these facts.
    revision: Revision,
    /// What edges need of it.
    pub(crate) snapshot: Arc<RouteSnapshot>,
    /// What it was planned with.
    settings: PlanSettings,
    /// The last steps that led here, each from where the one before it ended. None of those before a step
    /// that is too long for one message.
    pub(crate) deltas: VecDeque<Arc<EncodedDelta>>,
}

/// A delta in its JSON form, encoded once for all edges.
pub(crate) struct EncodedDelta {
    /// Generation it starts from.
    pub(crate) from: u64,
    /// The JSON.
    pub(crate) json: Vec<u8>,
}

impl EncodedDelta {
    /// Encodes a delta if it fits in one message.
    fn of(delta: &SnapshotDelta) -> Option<Self> {
        let json = serde_json::to_vec(delta).ok()?;
        (json.len() <= PART_BYTES_MAX).then_some(Self {
            from: delta.from,
            json,
        })
    }
}

fn bytes_of(deltas: &VecDeque<Arc<EncodedDelta>>) -> usize {
    deltas.iter().map(|delta| delta.json.len()).sum()
}

/// An edge that just attached.
pub(crate) struct Attachment {
    /// Its session.
    pub(crate) session: SessionId,
    /// What it has to do; ends when the session does.
    pub(crate) orders: mpsc::Receiver<Order>,
    /// News for it.
    pub(crate) published: watch::Receiver<Published>,
}

/// Something one edge is told besides what all are told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// To close these.
    Disconnect(Disconnect),
    /// To make way for another process of its name; the last order of a session.
    MakeWay(Rival),
}

/// An edge cannot attach.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// Too many are attached.
    #[error(transparent)]
    TooMany(#[from] TooManyEdges),
    /// It holds a generation that no control has made.
    #[error("generation {0} cannot be true")]
    Generation(u64),
    /// The store does not take the generation.
    #[error("control cannot raise its generation above the edge's")]
    Store,
}

#[derive(Default)]
struct Live {
    registrar: Registrar,
    links: BTreeMap<SessionId, Link>,
}

/// The way to an attached edge.
struct Link {
    orders: mpsc::Sender<Order>,
    /// The edge process at the other end.
    run: Uuid,
}

impl State {
    /// Loads the facts, starts a new generation, so that changed settings reach every edge, and follows the
    /// store from there in a task that ends with the state.
    pub(crate) fn open(store: Arc<dyn Store>, settings: PlanSettings) -> Result<Arc<Self>, StoreError> {
        let (mut facts, revision) = store.load()?;
        let next = Change::Generation(facts.generation + 1);
        let revision = store.commit(revision, std::slice::from_ref(&next))?;
        facts.apply(next);
        let watch = store.watch(revision)?;
        let snapshot = plan(&facts, settings);
        let published = Published {
            facts: Arc::new(facts),
            revision,
            snapshot: Arc::new(snapshot),
            settings,
            deltas: VecDeque::new(),
        };
        let state = Arc::new(Self {
            store,
            settings: Mutex::new(settings),
            turn: tokio::sync::Mutex::default(),
            published: watch::Sender::new(published),
            store_answers: Arc::default(),
            live: Mutex::default(),
            metrics: Metrics::default(),
        });
        tokio::spawn(following::follow(
            Arc::downgrade(&state),
            watch,
            state.store_answers.clone(),
        ));
        Ok(state)
    }

    /// The facts as last published.
    pub(crate) fn facts(&self) -> Arc<Facts> {
        self.published.borrow().facts.clone()
    }

    /// Takes an edge in that dialled from `address`. Its generation may be ahead of ours if our store was
    /// lost or restored. Then ours is raised above it, so that edges never have to go back.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        edge: &EdgeInfo,
        address: &str,
    ) -> Result<Attachment, AttachError> {
        if edge.generation > GENERATION_MAX {
            return Err(AttachError::Generation(edge.generation));
        }
        if edge.generation > self.facts().generation {
            self.raise_generation(edge.generation)
                .await
                .map_err(|_| AttachError::Store)?;
        }
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let mut live = self.live();
        let (session, previous) = live.registrar.handle_attach(edge, Instant::now())?;
        if let Some(replaced) = previous.and_then(|previous| live.links.remove(&previous))
            && replaced.run != edge.run
        {
            let rival = Rival {
                edge: edge.clone(),
                address: address.to_owned(),
            };
            // With a full queue it learns only that the session has ended.
            let _ = replaced.orders.try_send(Order::MakeWay(rival));
        }
        let link = Link {
            orders: sender,
            run: edge.run,
        };
        live.links.insert(session, link);
        Ok(Attachment {
            session,
            orders,
            published: self.published.subscribe(),
        })
    }

    /// An edge's link is gone.
    pub(crate) fn detach(&self, session: SessionId) {
        let mut live = self.live();
        live.links.remove(&session);
        live.registrar.handle_detach(session, Instant::now());
    }

    /// A connector registers.
    pub(crate) fn register(
        &self,
        session: SessionId,
        connection: Connection,
        secret: &SecretDigest,
    ) -> Result<RegisterOutcome, SessionEnded> {
        let snapshot = self.published.borrow().snapshot.clone();
        let mut live = self.live();
        let (verdict, effects) = live
            .registrar
            .handle_register(session, connection, secret, &snapshot)?;
        self.carry_out(&mut live, effects);
        match verdict {
            Verdict::Accepted(_) => self.metrics.registration_accepted(),
            Verdict::Refused(reason) => self.metrics.registration_refused(reason.code()),
        }
        Ok(verdict.outcome())
    }

    /// A connection is gone.
    pub(crate) fn unregister(&self, session: SessionId, key: &ConnectionKey) -> Result<(), SessionEnded> {
        self.live().registrar.handle_unregister(session, key)
    }

    /// A part of an edge's report.
    pub(crate) fn report(
        &self,
        session: SessionId,
        part: Vec<Connection>,
        first: bool,
        last: bool,
    ) -> Result<Vec<Rejection>, SessionEnded> {
        let snapshot = self.published.borrow().snapshot.clone();
        let mut live = self.live();
        let (rejected, effects) = live
            .registrar
            .handle_report(session, part, first, last, &snapshot)?;
        self.carry_out(&mut live, effects);
        Ok(rejected)
    }

    /// A connector's own configuration.
    pub(crate) fn local_configuration(&self, tunnel: TunnelId, connector: ConnectorId, config: Arc<[u8]>) {
        self.live()
            .registrar
            .handle_local_configuration(tunnel, connector, config);
    }

    /// What became of control's configuration at a replica.
    pub(crate) fn configuration_told(
        &self,
        tunnel: TunnelId,
        connector: ConnectorId,
        state: ConfigurationState,
    ) {
        self.live()
            .registrar
            .handle_configuration_told(tunnel, connector, state);
    }

    /// Forgets connections and has their edges close them.
    pub(crate) fn cleanup(&self, tunnel: TunnelId, connector: Option<ConnectorId>, reason: &str) {
        let mut live = self.live();
        let effects = live.registrar.handle_cleanup(tunnel, connector, reason);
        self.carry_out(&mut live, effects);
    }

    /// Forgets what has been out of sight for too long.
    pub(crate) fn sweep(&self) -> usize {
        self.live().registrar.handle_timeout(Instant::now())
    }

    /// Asks the registrar.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Registrar) -> T) -> T {
        question(&self.live().registrar)
    }

    /// Plans and publishes these facts. `touched` is where they differ from the published ones, if known.
    fn publish(&self, facts: Facts, revision: Revision, touched: Option<Touched>) {
        let settings = *self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, mut deltas, same_settings) = {
            let published = self.published.borrow();
            let same_settings = published.settings == settings;
            (
                published.snapshot.clone(),
                published.deltas.clone(),
                same_settings,
            )
        };
        let patched = touched.filter(|_| same_settings).and_then(|touched| {
            let delta = step(&held, &facts, touched, settings);
            let mut snapshot = (*held).clone();
            let applied = snapshot.apply(delta.clone());
            debug_assert!(applied.is_ok(), "the step starts from the published generation");
            applied.ok().map(|_| (snapshot, delta))
        });
        let (snapshot, delta) = patched.unwrap_or_else(|| {
            let snapshot = plan(&facts, settings);
            let delta = held.delta_to(&snapshot);
            (snapshot, delta)
        });
        match EncodedDelta::of(&delta) {
            Some(delta) => deltas.push_back(Arc::new(delta)),
            // Nobody can come past this step but by a whole snapshot.
            None => deltas.clear(),
        }
        while deltas.len() > DELTAS_MAX || bytes_of(&deltas) > DELTAS_BYTES_MAX {
            deltas.pop_front();
        }
        self.published.send_replace(Published {
            facts: Arc::new(facts),
            revision,
            snapshot: Arc::new(snapshot),
            settings,
            deltas,
        });
    }

    fn carry_out(&self, live: &mut Live, effects: Vec<Effect>) {
        for Effect { session, disconnect } in effects {
            let order = Order::Disconnect(disconnect);
            let sent = live
                .links
                .get(&session)
                .is_some_and(|link| link.orders.try_send(order).is_ok());
            if !sent && live.links.remove(&session).is_some() {
                self.metrics.orders_overflowed();
            }
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // The registrar's steps do not panic half-way; what a panic elsewhere left is whole.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with all its sources, for one log field.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
