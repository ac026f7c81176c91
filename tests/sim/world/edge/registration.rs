//! How a connector's connection comes to serve: control decides while it answers, else the edge by itself.
//!
//! As `adit_edge::control_link::service` and `adit_edge::registration` do it.

use std::time::{Duration, Instant};

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{
    Connection, ConnectionKey, Disconnect, EdgeInfo, REGISTER_DEADLINE, RegisterOutcome,
};
use adit_control_api::snapshot::{Applied, RouteSnapshot};
use adit_edge::decide_alone;
use adit_proto::directory::{Live, Slot};
use adit_wire::ConnectionId;
use bytes::Bytes;
use quinn_proto::StreamId;
use uuid::Uuid;

use super::super::cable::{ToControl, ToEdge};
use super::super::clock::ms;
use super::super::control;
use super::super::fault::Fault;
use super::super::host::LinkId;
use super::super::ledger::Ledger;
use super::Edge;

/// How long a new snapshot may wait to be on the edge's disk.
pub(super) const SAVE_PAUSE: Duration = ms(300);

/// Longest pause before an edge dials control again.
const REDIAL_MAX: Duration = Duration::from_secs(5);

/// The edge's side of its tie to control.
#[derive(Default)]
pub(in super::super) struct Tie {
    /// Control has let this edge in.
    pub(in super::super) is_attached: bool,
    /// Said, and not on the cable yet.
    pub(in super::super) outbox: Vec<ToControl>,
    /// When to dial, and the pause before the next try.
    pub(in super::super) dial_at: Option<Instant>,
    pub(super) pause: Duration,
}

/// A registration that waits for control's word.
pub(super) struct Pending {
    pub(super) link: LinkId,
    pub(super) stream: StreamId,
    pub(super) slot: Slot,
    pub(super) connection: Connection,
    pub(super) until: Instant,
}

impl Edge {
    /// The edge describes itself to control.
    pub(in super::super) fn info(&self) -> EdgeInfo {
        EdgeInfo {
            name: format!("edge-{}", self.number),
            colo: "LAB".into(),
            region: "WEU".into(),
            run: Uuid::from_u128(self.run.into()),
            generation: self.snapshot.generation,
            version: "0".into(),
        }
    }

    /// A connector asks to serve.
    pub(super) fn register(
        &mut self,
        now: Instant,
        (link, stream): (LinkId, StreamId),
        slot: Slot,
        ledger: &mut Ledger,
    ) {
        self.order += 1;
        let id = ConnectionId(Uuid::from_u64_pair(self.run, self.order));
        let key = ConnectionKey {
            tunnel: slot.tunnel,
            connector: slot.connector,
            index: slot.index,
            connection: id,
        };
        let connection = control::connection(key, now - super::super::clock::beginning());
        let pending = Pending {
            link,
            stream,
            slot,
            connection,
            until: now + REGISTER_DEADLINE,
        };
        if self.tie.is_attached {
            let asked = ToControl::Register(pending.connection.clone(), self.secret);
            self.tie.outbox.push(asked);
            self.pending.insert(id, pending);
        } else {
            self.decide_alone(now, id, pending, ledger);
        }
    }

    /// Control does not answer.
    pub(super) fn decide_alone(
        &mut self,
        now: Instant,
        id: ConnectionId,
        pending: Pending,
        ledger: &mut Ledger,
    ) {
        let tunnel = pending.slot.tunnel;
        let living = self.living.values().filter(|living| living.key.tunnel == tunnel);
        let mut replicas: Vec<_> = living.map(|living| living.key.connector).collect();
        replicas.sort_unstable();
        replicas.dedup();
        let outcome = decide_alone(&self.snapshot, &pending.connection, &self.secret, &replicas);
        self.conclude(now, id, pending, &outcome, ledger);
    }

    fn conclude(
        &mut self,
        now: Instant,
        id: ConnectionId,
        pending: Pending,
        outcome: &RegisterOutcome,
        ledger: &mut Ledger,
    ) {
        let Pending {
            link,
            stream,
            slot,
            connection,
            ..
        } = pending;
        let RegisterOutcome::Accepted(_) = outcome else {
            self.host.write(link, stream, &Bytes::from_static(b"refused\n"));
            // Control may still accept what it has not decided in time.
            return self.tell(ToControl::Unregister(connection.key));
        };
        let Some(session) = self.sessions.get_mut(&link) else {
            // It was lost meanwhile: nobody serves what control has just counted.
            return self.tell(ToControl::Unregister(connection.key));
        };
        session.place = Some((id, slot));
        self.living.insert(id, connection);
        self.host
            .write(link, stream, &Bytes::from_static(b"registered\n"));
        self.joined += 1;
        let loser = self.directory.join(Live {
            id,
            slot,
            order: self.joined,
            core: 0,
            is_draining: false,
            is_doubted: false,
            carries_trailers: false,
            is_of_ours: false,
            handle: link,
        });
        if let Some(loser) = loser.filter(|loser| !loser.is_draining) {
            self.host.close(now, loser.handle);
        }
        self.come_back(now, slot.tunnel, ledger);
    }

    /// A registered connection is gone.
    pub(super) fn left(&mut self, id: ConnectionId) {
        if let Some(connection) = self.living.remove(&id) {
            self.tell(ToControl::Unregister(connection.key));
        }
    }

    /// Tells control, if it is there; the next attachment reports everything anew.
    fn tell(&mut self, message: ToControl) {
        if self.tie.is_attached {
            self.tie.outbox.push(message);
        }
    }

    /// The cable to control has broken, or could not be laid.
    pub(in super::super) fn lose_control(&mut self, now: Instant, ledger: &mut Ledger) {
        self.tie.is_attached = false;
        self.tie.outbox.clear();
        self.tie.pause = (self.tie.pause * 2).clamp(ms(100), REDIAL_MAX);
        self.tie.dial_at = Some(now + self.tie.pause);
        for (id, pending) in std::mem::take(&mut self.pending) {
            self.decide_alone(now, id, pending, ledger);
        }
    }

    /// Control has said something.
    pub(in super::super) fn handle_control(&mut self, now: Instant, message: ToEdge, ledger: &mut Ledger) {
        match message {
            ToEdge::Attached => {
                self.tie.is_attached = true;
                self.tie.pause = Duration::ZERO;
                let living = self.living.values().cloned().collect();
                self.tell(ToControl::Report(living));
            }
            ToEdge::Snapshot(snapshot) => {
                let mut next = self.snapshot.clone();
                let applied = match self.fault {
                    Some(Fault::OldTaken) => {
                        next = snapshot;
                        Applied::Yes
                    }
                    _ => next.replace(snapshot),
                };
                self.take_snapshot(now, next, applied);
            }
            ToEdge::Delta(delta) => {
                let mut next = self.snapshot.clone();
                match next.apply(delta) {
                    Ok(applied) => self.take_snapshot(now, next, applied),
                    Err(_) => self.tell(ToControl::Resync),
                }
            }
            ToEdge::Answer(key, outcome) => {
                if let Some(pending) = self.pending.remove(&key.connection) {
                    self.conclude(now, key.connection, pending, &outcome, ledger);
                }
            }
            ToEdge::Rejected(keys) => {
                for key in keys {
                    self.disconnect(
                        now,
                        &Disconnect {
                            tunnel: key.tunnel,
                            connector: Some(key.connector),
                            connection: Some(key.connection),
                            reason: String::new(),
                        },
                    );
                }
            }
            ToEdge::Disconnect(target) => self.disconnect(now, &target),
        }
    }

    fn take_snapshot(&mut self, now: Instant, next: RouteSnapshot, applied: Applied) {
        if applied == Applied::Stale {
            return;
        }
        assert!(
            next.generation >= self.snapshot.generation,
            "generation goes back from {} to {}",
            self.snapshot.generation,
            next.generation
        );
        self.hold(next);
        self.save_at.get_or_insert(now + SAVE_PAUSE);
    }

    /// Serves from this snapshot.
    pub(super) fn hold(&mut self, snapshot: RouteSnapshot) {
        let routes = snapshot.routes.iter();
        let routes = routes.filter_map(|(pattern, target)| Some((pattern.clone(), target.tunnel()?)));
        self.routes = routes.collect();
        self.snapshot = snapshot;
    }

    fn disconnect(&mut self, now: Instant, target: &Disconnect) {
        let of = self.directory.of(target.tunnel, target.connector);
        // A single one is named because another has its slot, and is let finish if it drains.
        let named = of.filter(|live| {
            let wanted = target.connection;
            wanted.is_none_or(|wanted| wanted == live.id && !live.is_draining)
        });
        let links: Vec<_> = named.map(|live| live.handle).collect();
        for link in links {
            self.host.close(now, link);
        }
    }
}

/// What all connectors present.
pub(in super::super) type Secret = SecretDigest;
