//! What is known of one connection, and the tasks that wait for it to change.
//!
//! Does not: act on the endpoint or the pump ([`connection`](super) does).

use std::collections::VecDeque;
use std::task::{Context, Waker};
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Side, StreamEvent, StreamId, VarInt};
use rustc_hash::FxHashMap;

use super::super::endpoint::EndpointState;
use super::super::outcome::ConnectionError;
use super::super::watch::Watch;

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
    /// Turns of the pump that had to do with this connection.
    pub(super) turns: u64,
    /// Writers that may go on, with what they were [served](StreamWaiters::served), the latest to wait first; empty
    /// between turns.
    pub(super) writable: Vec<(u64, Waker)>,
    /// The least that a writer was served that waited for its turn; never falls.
    pub(super) served_floor: u64,
    pub(super) waiters: Waiters,
}

#[derive(Default)]
pub(super) struct Waiters {
    pub(super) connected: Vec<Waker>,
    pub(super) open: VecDeque<Waker>,
    pub(super) accept: Vec<Waker>,
    pub(super) datagram: Vec<Waker>,
    pub(super) closed: Vec<Waker>,
    pub(super) doubted: Vec<Waker>,
    pub(super) turned: Vec<Waker>,
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
    }

    pub(super) fn fail(&mut self, error: ConnectionError) {
        self.error.get_or_insert(error);
        wake_all(&mut self.waiters.connected);
        wake_all(&mut self.waiters.accept);
        wake_all(&mut self.waiters.datagram);
        wake_all(&mut self.waiters.closed);
        for waker in self.waiters.open.drain(..) {
            waker.wake();
        }
        for waiters in self.streams.values_mut() {
            for waker in [waiters.read.take(), waiters.write.take(), waiters.stopped.take()] {
                wake(waker);
            }
        }
    }

    /// Has the writer of `id` wait, which was served so many bytes; returns them, but at least the floor: who comes anew
    /// or writes seldom goes before those that always wait, but not for longer than it takes to catch up with them.
    pub(crate) fn park_writer(&mut self, id: StreamId, served: u64, cx: &Context<'_>) -> u64 {
        let waiters = self.streams.entry(id).or_default();
        park(&mut waiters.write, cx);
        waiters.served = served.max(self.served_floor);
        waiters.served
    }

    /// Wakes the writers that may go on: the one that was served least first, and of equals the one that has waited
    /// longest.
    ///
    /// quinn-proto names streams that waited for the connection's window in the order of a stack. Woken in that order
    /// the latest would take what has become free every time, and the others would starve; woken in the order of a
    /// queue, a small answer would wait until all transfers have had their turn.
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
            StreamEvent::Opened { .. } => wake_all(&mut self.waiters.accept),
            StreamEvent::Available { .. } => {
                for waker in self.waiters.open.drain(..) {
                    waker.wake();
                }
            }
            StreamEvent::Readable { id } => {
                wake(self.streams.get_mut(&id).and_then(|waiters| waiters.read.take()));
            }
            StreamEvent::Writable { id } => {
                if let Some(waiters) = self.streams.get_mut(&id)
                    && let Some(waker) = waiters.write.take()
                {
                    self.writable.push((waiters.served, waker));
                }
            }
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

pub(super) fn wake_all(wakers: &mut Vec<Waker>) {
    for waker in wakers.drain(..) {
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
