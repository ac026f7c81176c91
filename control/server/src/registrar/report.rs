//! What an edge tells of itself after it attached: everything that lives on it, in parts.
//!
//! The list was made before it arrives. Meanwhile connections may have registered: they belong to this
//! session and stay. Others may have left: they are remembered until the list is complete, so that no part
//! brings them back.

use adit_control_api::edge_link::{Connection, RegisterOutcome, Rejection};
use adit_control_api::snapshot::RouteSnapshot;

use super::{Effect, Reason, Registrar, Report, SessionEnded, SessionId, Slot, Verdict, live_mut, verdict};

impl Registrar {
    /// One part of an edge's report of what lives on it. Its edge has checked the secrets already.
    ///
    /// # Errors
    /// [`SessionEnded`].
    pub fn handle_report(
        &mut self,
        id: SessionId,
        part: Vec<Connection>,
        first: bool,
        last: bool,
        snapshot: &RouteSnapshot,
    ) -> Result<(Vec<Rejection>, Vec<Effect>), SessionEnded> {
        let session = self.sessions.get_mut(&id).ok_or(SessionEnded)?;
        if first || session.report.is_none() {
            session.report = Some(Report::default());
        }
        let (mut rejected, mut effects) = (Vec::new(), Vec::new());
        for connection in part {
            let key = connection.key.clone();
            let verdict = self.judge_report(id, &connection, snapshot);
            let Some(verdict) = verdict else { continue };
            let (verdict, caused) = self.admit(id, connection, snapshot, verdict);
            effects.extend(caused);
            match verdict.outcome() {
                RegisterOutcome::Accepted(_) => {}
                RegisterOutcome::Refused(refused) => rejected.push(Rejection { key, refused }),
            }
        }
        if last {
            self.finish_report(id);
        }
        Ok((rejected, effects))
    }

    /// A verdict on a reported connection; `None` when it needs none, because it has left since.
    fn judge_report(
        &self,
        id: SessionId,
        connection: &Connection,
        snapshot: &RouteSnapshot,
    ) -> Option<Verdict> {
        let key = &connection.key;
        let report = self.sessions.get(&id)?.report.as_ref()?;
        if report.gone.contains(&key.connection) {
            return None;
        }
        let held = self
            .tunnels
            .get(&key.tunnel)
            .and_then(|held| held.get(&key.connector));
        let held = held.and_then(|replica| replica.connections.get(&key.index));
        if held.is_some_and(|live| {
            live.connection.key != *key
                && live.pending_since.is_none()
                && live.connection.opened_at > connection.opened_at
        }) {
            return Some(Verdict::Refused(Reason::Replaced));
        }
        Some(verdict::judge_owner(snapshot, connection))
    }

    /// Forgets what the edge had before this session and neither reported nor registered in it.
    fn finish_report(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.report = None;
        let edge = session.edge.clone();
        let slots: Vec<Slot> = self.slots.get(&edge).into_iter().flatten().copied().collect();
        for slot in slots {
            if live_mut(&mut self.tunnels, &slot).is_some_and(|live| live.session != id) {
                self.remove(&slot);
            }
        }
    }
}
