//! What is known of one connection, and the tasks that wait for it to change.
//!
//! Does not: act on the endpoint or the pump ([`connection`](super) does).

use std::collections::BTreeSet;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Side, StreamEvent, StreamId, VarInt};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::super::endpoint::EndpointState;
use super::super::outcome::ConnectionError;
use super::super::waiting::Queue;
use super::super::watch::Watch;
use super::super::window::Windows;
use super::credit::{Credit, StreamCredit};

pub(crate) struct ConnectionState {
    pub(crate) proto: quinn_proto::Connection,
    /// Stream ids are counted up by either side, so the hash need not withstand an attacker.
    pub(crate) streams: FxHashMap<StreamId, StreamWaiters>,
    pub(crate) error: Option<ConnectionError>,
    pub(super) is_connected: bool,
    /// Counts as half-open until the handshake ends.
    pub(super) is_half_open: bool,
    /// quinn-proto has forgotten the handle; nothing may be sent under it any more.
    pub(super) is_drained: bool,
    pub(super) timer: Option<Instant>,
    pub(super) watch: Watch,
    /// Halves of streams in tasks' hands, but for those that live as long as the connection.
    pub(super) exchange_halves: usize,
    /// Times that the peer was late with an answer.
    pub(super) doubts: u64,
    /// Rung when a peer that was late is heard.
    pub(super) cleared: Rc<Notify>,
    /// Turns of the pump that had to do with this connection.
    pub(super) turns: u64,
    /// Writers that may go on, with the bytes each was [served](StreamWaiters::served), in reverse order of
    /// waiting. Empty between turns.
    pub(super) writable: Vec<(u64, Waker)>,
    /// The least that a writer was served that waited for its turn; never falls.
    pub(super) served_floor: u64,
    /// How far the peer may send ahead on its streams.
    pub(crate) windows: Windows,
    /// What is known of how far we may.
    pub(super) credit: Credit,
    /// Streams whose writers wait for the peer to tell that something was read.
    pub(super) held_back: BTreeSet<StreamId>,
    /// How often the peer has told that.
    pub(super) grants: u64,
    pub(super) waiters: Waiters,
}

#[derive(Default)]
pub(super) struct Waiters {
    pub(super) connected: Queue,
    pub(super) open: Queue,
    pub(super) accept: Queue,
    pub(super) datagram: Queue,
    pub(super) closed: Queue,
    pub(super) doubted: Queue,
    pub(super) turned: Queue,
}

impl Waiters {
    /// Everybody.
    pub(super) fn len(&self) -> usize {
        let all = [
            &self.connected,
            &self.open,
            &self.accept,
            &self.datagram,
            &self.closed,
            &self.doubted,
            &self.turned,
        ];
        all.into_iter().map(Queue::len).sum()
    }
}

/// Tasks waiting on one stream.
#[derive(Default)]
pub(crate) struct StreamWaiters {
    pub(crate) read: Option<Waker>,
    pub(crate) write: Option<Waker>,
    pub(crate) stopped: Option<Waker>,
    /// Bytes that the writer was served when it began to wait.
    pub(crate) served: u64,
}

impl ConnectionState {
    /// Returns whether it was half-open.
    pub(super) fn end_half_open(&mut self, endpoint: &mut EndpointState) -> bool {
        let was = std::mem::take(&mut self.is_half_open);
        endpoint.half_open -= usize::from(was);
        was
    }

    /// Tells the peer, if it can hear, that the connection is over.
    pub(super) fn give_up(&mut self, now: Instant) {
        let reason = Bytes::from_static(b"no answer in time");
        self.proto.close(now, VarInt::from_u32(0), reason);
    }

    /// One half of a stream has left its task's hands.
    pub(crate) fn end_half(&mut self, id: StreamId) {
        self.exchange_halves -= usize::from(is_exchange(id));
        self.held_back.remove(&id);
    }

    pub(super) fn fail(&mut self, error: ConnectionError) {
        self.error.get_or_insert(error);
        self.waiters.connected.wake_all();
        self.waiters.accept.wake_all();
        self.waiters.datagram.wake_all();
        self.waiters.closed.wake_all();
        self.waiters.open.wake_all();
        for waiters in self.streams.values_mut() {
            for waker in [waiters.read.take(), waiters.write.take(), waiters.stopped.take()] {
                wake(waker);
            }
        }
    }

    /// How many of `wanted` bytes may be written to a stream without taking from others what they need.
    pub(crate) fn room(&mut self, id: StreamId, stream: &mut StreamCredit, wanted: usize) -> usize {
        let connection = self.proto.streams().send_credit();
        // A stream that is gone says so when it is written to.
        let Ok(own) = self.proto.send_stream(id).credit() else {
            return wanted;
        };
        self.credit.room(stream, connection, own, wanted)
    }

    /// The writer of `id` waits until the peer tells that something was read.
    pub(crate) fn hold_back(&mut self, id: StreamId) {
        self.held_back.insert(id);
    }

    /// Wakes writers that were held back if the peer has announced reads since. Returns whether there were
    /// any.
    pub(super) fn release_held_back(&mut self, grants: u64) -> bool {
        if std::mem::replace(&mut self.grants, grants) == grants || self.held_back.is_empty() {
            return false;
        }
        for id in std::mem::take(&mut self.held_back) {
            self.let_write(id);
        }
        true
    }

    fn let_write(&mut self, id: StreamId) {
        if let Some(waiters) = self.streams.get_mut(&id)
            && let Some(waker) = waiters.write.take()
        {
            self.writable.push((waiters.served, waker));
        }
    }

    /// Registers the waiting writer of `id`, which was served `served` bytes so far. Returns that number,
    /// raised to the floor if it is below. The floor bounds the advantage of a new or rare writer: it goes
    /// before constant writers only until it has caught up with them.
    pub(crate) fn park_writer(&mut self, id: StreamId, served: u64, cx: &Context<'_>) -> u64 {
        let waiters = self.streams.entry(id).or_default();
        park(&mut waiters.write, cx);
        waiters.served = served.max(self.served_floor);
        waiters.served
    }

    /// Wakes the writers that may go on. The one that was served least goes first, and among equals the one
    /// that has waited longest.
    ///
    /// quinn-proto names the streams that waited for the connection's window in the order of a stack. Woken
    /// in that order, the latest would take all that has become free and the others would starve. Woken in
    /// the order of a queue, a small answer would wait until all transfers have had their turn.
    pub(super) fn wake_writers(&mut self) {
        if self.writable.len() > 1 {
            self.writable.reverse();
            self.writable.sort_by_key(|(served, _)| *served);
        }
        if let Some((least, _)) = self.writable.first() {
            self.served_floor = self.served_floor.max(*least);
        }
        for (_, waker) in self.writable.drain(..) {
            waker.wake();
        }
    }

    pub(super) fn on_stream_event(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened { .. } => self.waiters.accept.wake_all(),
            StreamEvent::Available { .. } => self.waiters.open.wake_all(),
            StreamEvent::Readable { id } => {
                wake(self.streams.get_mut(&id).and_then(|waiters| waiters.read.take()));
            }
            StreamEvent::Writable { id } => self.let_write(id),
            StreamEvent::Finished { id } => {
                wake(
                    self.streams
                        .get_mut(&id)
                        .and_then(|waiters| waiters.stopped.take()),
                );
            }
            StreamEvent::Stopped { id, .. } => {
                if let Some(waiters) = self.streams.get_mut(&id) {
                    wake(waiters.stopped.take());
                    wake(waiters.write.take());
                }
            }
        }
    }
}

/// The first stream of the dialling side is open for as long as the connection and says nothing of work.
pub(super) fn is_exchange(id: StreamId) -> bool {
    id.initiator() == Side::Server || id.index() > 0
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Registers `cx` in a slot, keeping a waker that would wake the same task. Returns the one it replaces.
pub(crate) fn park(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}
