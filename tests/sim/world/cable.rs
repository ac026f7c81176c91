//! What runs between an edge and control: a byte stream that keeps its order, waits while its path is cut,
//! and breaks when that takes too long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{Connection, ConnectionKey, Disconnect, EdgeInfo, RegisterOutcome};
use adit_control_api::snapshot::{RouteSnapshot, SnapshotDelta};

use super::clock::{earlier, ms};

/// Time that a message is under way.
const DELAY: Duration = ms(10);

/// Silence after which both sides take a cable for broken: twice the interval of control's pings.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// An edge asks or tells.
pub(super) enum ToControl {
    Attach(EdgeInfo),
    Register(Connection, SecretDigest),
    Unregister(ConnectionKey),
    Report(Vec<Connection>),
    Resync,
}

/// Control answers or tells.
pub(super) enum ToEdge {
    Attached,
    Snapshot(RouteSnapshot),
    Delta(SnapshotDelta),
    Answer(ConnectionKey, RegisterOutcome),
    Rejected(Vec<ConnectionKey>),
    Disconnect(Disconnect),
}

/// One connection.
#[derive(Default)]
pub(super) struct Cable {
    to_control: VecDeque<(Instant, ToControl)>,
    to_edge: VecDeque<(Instant, ToEdge)>,
    /// Nothing passes since then.
    cut_since: Option<Instant>,
    /// Last moment at which something was in the way.
    pub(super) disturbed_at: Option<Instant>,
}

impl Cable {
    pub(super) fn tell_control(&mut self, now: Instant, message: ToControl) {
        self.to_control.push_back((now + DELAY, message));
    }

    pub(super) fn tell_edge(&mut self, now: Instant, message: ToEdge) {
        self.to_edge.push_back((now + DELAY, message));
    }

    /// Notes whether the path is open; what waits passes as soon as it is.
    pub(super) fn note_path(&mut self, now: Instant, is_open: bool) {
        if is_open {
            self.cut_since = None;
        } else {
            self.cut_since.get_or_insert(now);
            self.disturbed_at = Some(now);
        }
    }

    /// Whether both sides have noticed that nothing passes.
    pub(super) fn is_broken(&self, now: Instant) -> bool {
        self.cut_since.is_some_and(|since| now >= since + SILENCE_MAX)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.cut_since {
            Some(since) => Some(since + SILENCE_MAX),
            None => {
                let first = self.to_control.front().map(|(due, _)| *due);
                earlier(first, self.to_edge.front().map(|(due, _)| *due))
            }
        }
    }

    pub(super) fn for_control(&mut self, now: Instant) -> Option<ToControl> {
        pop(&mut self.to_control, now, self.cut_since)
    }

    pub(super) fn for_edge(&mut self, now: Instant) -> Option<ToEdge> {
        pop(&mut self.to_edge, now, self.cut_since)
    }
}

fn pop<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant, cut: Option<Instant>) -> Option<T> {
    let is_due = cut.is_none() && queue.front().is_some_and(|(due, _)| *due <= now);
    is_due.then(|| queue.pop_front())?.map(|(_, message)| message)
}
