//! What tasks learn of a peer that is late with an answer.

use std::rc::Rc;
use std::time::Instant;

use super::super::endpoint::EndpointState;
use super::super::outcome::ConnectionError;
use super::super::watch::Verdict;
use super::{Connection, ConnectionCell, ConnectionState};

impl Connection {
    /// Waits until the peer is late with an answer, or sees us at a new address: its connections on other
    /// cores may have died or moved with this one. Never ends if the connection ends before.
    pub async fn doubted(&self) {
        let before = self.0.state.borrow().doubts;
        let doubted = self.until(
            |waiters| &mut waiters.doubted,
            |state| (state.doubts > before).then_some(()),
        );
        doubted.await;
    }

    /// Whether the peer is late with an answer. What it was sent may be lost, and what it is sent next as
    /// well.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        let state = self.0.state.borrow();
        state.error.is_none() && state.watch.is_in_doubt()
    }

    /// Waits until the peer is not late any more. Never ends if the connection ends before.
    pub async fn cleared(&self) {
        let bell = self.0.state.borrow().cleared.clone();
        loop {
            // Taken before the look, so that no change is missed.
            let rung = bell.notified();
            if !self.0.state.borrow().watch.is_in_doubt() {
                return;
            }
            rung.await;
        }
    }
}

impl ConnectionCell {
    /// The network says that the peer is not there.
    pub(crate) fn unreachable(self: &Rc<Self>, now: Instant, is_port: bool, endpoint: &mut EndpointState) {
        let mut state = self.state.borrow_mut();
        if state.error.is_some() || state.proto.is_closed() {
            return;
        }
        let verdict = state.watch.unreachable(now, is_port);
        self.obey(verdict, now, &mut state, endpoint);
        drop(state);
        self.touch();
    }

    pub(super) fn obey(
        &self,
        verdict: Verdict,
        now: Instant,
        state: &mut ConnectionState,
        endpoint: &mut EndpointState,
    ) {
        match verdict {
            Verdict::Nothing => {}
            Verdict::Ping => state.proto.ping(),
            Verdict::Doubt => {
                state.proto.ping();
                state.doubts += 1;
                state.waiters.doubted.wake_all();
            }
            Verdict::Lost => {
                state.end_half_open(endpoint);
                state.fail(ConnectionError::silent());
                let is_worth_asking = state.proto.side().is_server() && state.watch.linger();
                if !is_worth_asking {
                    state.give_up(now);
                }
            }
        }
    }
}

impl ConnectionState {
    /// Notes what a turn has brought, and wakes whom that concerns. Returns whether the peer was heard.
    pub(super) fn note(&mut self, now: Instant, stats: &quinn_proto::ConnectionStats) -> bool {
        let was_doubted = self.watch.is_in_doubt();
        let is_heard = self
            .watch
            .note(now, stats.path.rtt, &stats.frame_tx, &stats.frame_rx);
        if was_doubted && is_heard {
            self.cleared.notify_waiters();
        }
        if self.watch.has_moved(&stats.frame_rx) {
            // Its neighbours have as well, and the peer learns that only when they speak.
            self.doubts += 1;
            self.waiters.doubted.wake_all();
        }
        is_heard
    }
}
