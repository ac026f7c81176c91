//! The task that moves a core's QUIC: datagrams in, events out to tasks, packets out to the network.
//!
//! One turn: receive a bounded batch, run expired timers, wake tasks, let them run once so that what they
//! write travels with the acknowledgements, then build and send packets of every touched connection.
//! Then sleep until a datagram, a touch or a deadline.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{DatagramEvent, EcnCodepoint, Incoming, Transmit};

use super::cid;
use super::connection::ConnectionCell;
use super::endpoint::{
    CONNECTIONS_MAX, EndpointCell, EndpointState, HALF_OPEN_MAX, HALF_OPEN_RETRY_MARK, StrayPacket,
};
use super::reset::is_reset_of;
use crate::kernel::IoMode;
use crate::time;
use crate::udp::{Batch, Sent, Udp, Unreachable};

/// Sends of one connection per turn, each of up to 64 KiB, so that it cannot starve the others.
const TRANSMITS_PER_TURN_MAX: usize = 8;

/// Answers built by the endpoint itself (Retry, version negotiation, refusals) per turn.
const ANSWERS_PER_TURN_MAX: usize = 256;

/// Strays taken per turn.
const STRAYS_PER_TURN_MAX: usize = 256;

struct Pump {
    cell: Rc<EndpointCell>,
    io: Udp,
    /// Packets under construction; one buffer serves all, because a send copies it into the kernel.
    buffer: Vec<u8>,
    answers: Vec<(Transmit, Vec<u8>)>,
    sleep: time::Sleep,
}

/// Ends the process when the pump panics: the core would go on without its QUIC, half alive, and nobody would
/// restart it.
struct OrNothing;

impl Drop for OrNothing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "the QUIC pump of a core panicked; the process ends so that it can be started anew"
            );
            std::process::abort();
        }
    }
}

/// Runs for as long as the core does. A panic in here aborts the process.
pub(crate) async fn run(cell: Rc<EndpointCell>, io: Udp) {
    let _or_nothing = OrNothing;
    let mut pump = Pump {
        cell,
        io,
        buffer: Vec::with_capacity(crate::udp::GSO_BYTES_MAX),
        answers: Vec::new(),
        sleep: time::sleep_until(Instant::now()),
    };
    loop {
        let now = Instant::now();
        let mut has_more = pump.receive(now);
        pump.expire(now);
        if pump.dispatch() {
            tokio::task::yield_now().await;
        }
        pump.answer().await;
        has_more |= pump.transmit().await;
        has_more |= pump.heed_network(now);
        pump.copy_counts();
        if has_more {
            turn(pump.cell.context.io).await;
        } else {
            pump.wait().await;
        }
    }
}

/// Lets every other task run and the kernel take what they queued.
async fn turn(io: IoMode) {
    match io {
        // Yielding would not look for completions: the runtime does that once its tasks have nothing to do.
        IoMode::Uring => crate::ring::runtime::turn().await,
        IoMode::Portable => tokio::task::yield_now().await,
    }
}

impl Pump {
    fn receive(&mut self, now: Instant) -> bool {
        let Self {
            cell, io, answers, ..
        } = self;
        let cell = &*cell;
        let mut has_more = io.receive(&mut |batch| on_batch(cell, now, &batch, answers));
        let mut state = cell.state.borrow_mut();
        for _ in 0..STRAYS_PER_TURN_MAX {
            let Some(stray) = state.strays.pop_front() else {
                break;
            };
            cell.count(|stats| stats.strays_received += 1);
            on_datagram(cell, &mut state, now, stray, answers);
        }
        has_more |= !state.strays.is_empty();
        has_more
    }

    /// Takes note of peers that the network says are not there; returns whether there may be more of them.
    fn heed_network(&mut self, now: Instant) -> bool {
        let Self { cell, io, .. } = self;
        io.unreachable(&mut |peer, what| {
            let is_port = what == Unreachable::Port;
            cell.count(|stats| stats.unreachable += 1);
            cell.unreachable(peer, is_port, now);
            // The kernel tells any one socket of those that share the port.
            if cell.is_listening
                && cell.context.count > 1
                && let Some(sink) = &*cell.unreachable_sink.borrow()
            {
                sink(peer, is_port);
            }
        })
    }

    fn expire(&mut self, now: Instant) {
        let mut state = self.cell.state.borrow_mut();
        while let Some(&(deadline, handle)) = state.timers.first() {
            if deadline > now {
                break;
            }
            state.timers.pop_first();
            if let Some(connection) = state.connection(quinn_proto::ConnectionHandle(handle)) {
                connection.handle_timeout(now, &mut state);
                connection.touch();
            }
        }
    }

    /// Wakes the tasks of touched connections; returns whether any was woken.
    fn dispatch(&mut self) -> bool {
        let mut state = self.cell.state.borrow_mut();
        let touched = self.cell.touched.borrow();
        let mut woke_tasks = false;
        for connection in &*touched {
            woke_tasks |= connection.dispatch(&mut state).woke_tasks;
        }
        woke_tasks
    }

    async fn answer(&mut self) {
        for (transmit, contents) in std::mem::take(&mut self.answers) {
            self.send(&transmit, &contents).await;
        }
    }

    /// Sends what touched connections have; returns whether some have more.
    async fn transmit(&mut self) -> bool {
        let now = Instant::now();
        let count = self.cell.touched.borrow().len();
        for _ in 0..count {
            let Some(connection) = self.next_touched() else {
                break;
            };
            if self.transmit_one(now, &connection).await {
                connection.touch();
            }
            let mut state = self.cell.state.borrow_mut();
            connection.dispatch(&mut state);
            connection.rearm(now, &mut state);
        }
        !self.cell.touched.borrow().is_empty()
    }

    fn next_touched(&self) -> Option<Rc<ConnectionCell>> {
        let connection = self.cell.touched.borrow_mut().pop_front()?;
        connection.untouch();
        Some(connection)
    }

    async fn transmit_one(&mut self, now: Instant, connection: &ConnectionCell) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut has_more = true;
        for _ in 0..TRANSMITS_PER_TURN_MAX {
            buffer.clear();
            let segments_max = |mtu| self.io.segments_max(mtu);
            let Some(transmit) = connection.poll_transmit(now, segments_max, &mut buffer) else {
                has_more = false;
                break;
            };
            self.send(&transmit, &buffer).await;
        }
        self.buffer = buffer;
        has_more
    }

    async fn send(&mut self, transmit: &Transmit, contents: &[u8]) {
        while self.io.send(transmit, contents) == Sent::Blocked {
            if let Err(error) = self.io.writable().await {
                tracing::warn!(%error, "UDP socket cannot be waited for; packets count as lost");
                return;
            }
        }
        self.cell.count(|stats| stats.transmits_sent += 1);
    }

    async fn wait(&mut self) {
        let deadline = self
            .cell
            .state
            .borrow()
            .timers
            .first()
            .map(|(deadline, _)| *deadline);
        if let Some(deadline) = deadline {
            self.sleep.reset(deadline);
        }
        let Self { cell, io, sleep, .. } = self;
        poll_fn(|cx| {
            cell.set_pump(cx.waker());
            let has_work = !cell.touched.borrow().is_empty() || !cell.state.borrow().strays.is_empty();
            if has_work || io.poll_receivable(cx).is_ready() {
                return Poll::Ready(());
            }
            if deadline.is_some() {
                Pin::new(&mut *sleep).poll(cx)
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn copy_counts(&self) {
        let counts = self.io.counts();
        self.cell.count(|stats| {
            stats.truncated = counts.truncated;
            stats.send_errors = counts.send_errors;
        });
    }
}

fn on_batch(
    cell: &Rc<EndpointCell>,
    now: Instant,
    batch: &Batch<'_>,
    answers: &mut Vec<(Transmit, Vec<u8>)>,
) {
    // The one copy of the receive path: out of the kernel-filled buffer, which stays small and hot.
    let mut data = BytesMut::from(batch.data);
    let cores = cell.context.count;
    let may_stray = cell.is_listening && cores > 1;
    while !data.is_empty() {
        let datagram = data.split_to(batch.stride.min(data.len()));
        cell.count(|stats| stats.datagrams_received += 1);
        let packet = StrayPacket {
            from: batch.from,
            to_ip: batch.to_ip,
            ecn: batch.ecn.and_then(|mark| EcnCodepoint::from_bits(mark as u8)),
            data: datagram,
        };
        if may_stray
            && let Some(owner) = cid::core_of(&packet.data, cores)
            && owner != cell.context.id
            && let Some(sink) = &*cell.stray_sink.borrow()
        {
            cell.count(|stats| stats.strays_sent += 1);
            sink(owner, packet);
            continue;
        }
        on_datagram(cell, &mut cell.state.borrow_mut(), now, packet, answers);
    }
}

fn on_datagram(
    cell: &Rc<EndpointCell>,
    state: &mut EndpointState,
    now: Instant,
    packet: StrayPacket,
    answers: &mut Vec<(Transmit, Vec<u8>)>,
) {
    let mut answer = Vec::new();
    let StrayPacket {
        from,
        to_ip,
        ecn,
        data,
    } = packet;
    let first = data.first().copied();
    match state.proto.handle(now, from, to_ip, ecn, data, &mut answer) {
        Some(DatagramEvent::ConnectionEvent(handle, event)) => {
            if let Some(connection) = state.connection(handle) {
                connection.state.borrow_mut().proto.handle_event(event);
                connection.touch();
            }
        }
        Some(DatagramEvent::NewConnection(incoming)) => {
            if let Some(transmit) = on_incoming(cell, state, now, incoming, &mut answer) {
                queue(answers, transmit, answer);
            }
        }
        Some(DatagramEvent::Response(transmit)) => {
            cell.count(|stats| stats.resets_sent += u64::from(is_reset_of(first)));
            queue(answers, transmit, answer);
        }
        None => {}
    }
}

/// Answers beyond the bound are dropped: every one of them is repeated by the peer's retransmission.
fn queue(answers: &mut Vec<(Transmit, Vec<u8>)>, transmit: Transmit, contents: Vec<u8>) {
    if answers.len() < ANSWERS_PER_TURN_MAX {
        answers.push((transmit, contents));
    }
}

/// Takes, defers or refuses a new handshake; returns the packet that says so.
fn on_incoming(
    cell: &Rc<EndpointCell>,
    state: &mut EndpointState,
    now: Instant,
    incoming: Incoming,
    answer: &mut Vec<u8>,
) -> Option<Transmit> {
    if state.is_refusing || state.half_open >= HALF_OPEN_MAX || state.open_count >= CONNECTIONS_MAX {
        cell.count(|stats| stats.refused += 1);
        return Some(state.proto.refuse(incoming, answer));
    }
    // RFC 9000 §8.1.2: a Retry costs the peer a round trip and us no memory.
    let must_prove_address = state.half_open >= HALF_OPEN_RETRY_MARK && !incoming.remote_address_validated();
    if must_prove_address && incoming.may_retry() {
        cell.count(|stats| stats.retries_sent += 1);
        return state.proto.retry(incoming, answer).ok();
    }
    let server = cell.server.as_ref()?;
    let config = server.towards(incoming.remote_address());
    match state.proto.accept(incoming, now, answer, Some(config)) {
        Ok((handle, proto)) => {
            let connection = state.insert(cell, handle, proto, server.lasting());
            connection.0.touch();
            None
        }
        Err(error) => error.response,
    }
}
