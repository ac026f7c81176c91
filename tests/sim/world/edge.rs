//! An edge: which connection takes an exchange, whether it is sent again and what the visitor is told is
//! decided by `proto`, as for `adit_edge::exchange_task`; this only does what it says, in virtual time.
//!
//! One core. Visitors ask by a call, without a network between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adit_control_api::edge_link::Connection;
use adit_control_api::snapshot::RouteSnapshot;
use adit_driver::quic::ResetKey;
use adit_proto::absence::Absences;
use adit_proto::directory::{Directory, ServedHosts, Slot};
use adit_proto::ejection::{Ejections, Settings};
use adit_proto::exchange::delivery::Due;
use adit_proto::exchange::edge::Policy;
use adit_proto::exchange::retry::{Budget, Failure};
use adit_proto::host_map::HostMap;
use adit_proto::limits::REGISTRATION_DEADLINE;
use adit_wire::{ConnIndex, ConnectionId, TunnelId, alpn};
use bytes::{Bytes, BytesMut};
use quinn_proto::{Side, StreamId};

use super::clock::{earlier, ms};
use super::connector::take_line;
use super::fault::Fault;
use super::host::{Event, Host, LinkId};
use super::ledger::{Ledger, Outcome};
use exchanges::{Exchange, State};
use registration::{Pending, Secret, Tie};

mod registration;
mod choice;
mod exchanges;

/// How long an answer may take to begin; shorter than by default, so that worlds are.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(20);

/// How long exchanges wait for a tunnel that has just lost its last connection.
pub(super) const RECONNECT_WAIT: Duration = Duration::from_secs(10);

/// Time for the answer to a call to arrive before an idle connection is closed.
const UNREGISTER_ANSWER_TIME: Duration = ms(200);

/// Longest time an unregistered connection may finish its exchanges in.
const GRACE: Duration = Duration::from_secs(30);

/// One process.
pub(super) struct Edge {
    number: usize,
    pub(super) host: Host,
    pub(super) directory: Directory<LinkId>,
    pub(super) routes: HostMap<TunnelId>,
    pub(super) snapshot: RouteSnapshot,
    /// When the snapshot goes to the disk, and what is there.
    save_at: Option<Instant>,
    disk: RouteSnapshot,
    pub(super) tie: Tie,
    pending: BTreeMap<ConnectionId, Pending>,
    /// Registered connections, as control is told of them.
    pub(super) living: BTreeMap<ConnectionId, Connection>,
    secret: Secret,
    sessions: BTreeMap<LinkId, Session>,
    exchanges: BTreeMap<u64, Exchange>,
    absences: Absences<()>,
    ejections: Ejections,
    budget: Budget,
    policy: Policy,
    /// Registrations asked for and made so far.
    order: u64,
    joined: u64,
    run: u64,
    seed: u64,
    fault: Option<Fault>,
}

/// One accepted connection.
struct Session {
    control: Option<StreamId>,
    heard: BytesMut,
    place: Option<(ConnectionId, Slot)>,
    /// When it must have registered.
    register_by: Instant,
    /// It has unregistered; closed once idle after the first, and in any case at the second.
    leaving: Option<(Instant, Instant)>,
    /// Whether the replica has said which hostnames it serves.
    hosts: Option<ServedHosts>,
}

impl Edge {
    pub(super) fn start(
        (number, address): (usize, SocketAddr),
        now: Instant,
        run: u64,
        disk: RouteSnapshot,
        secret: Secret,
        fault: Option<Fault>,
    ) -> Self {
        // The key is on the edge's disk.
        let key = ResetKey::new([7; ResetKey::BYTES]);
        let mut edge = Self {
            number,
            snapshot: RouteSnapshot::default(),
            save_at: None,
            disk: disk.clone(),
            tie: Tie {
                dial_at: Some(now),
                ..Tie::default()
            },
            pending: BTreeMap::new(),
            living: BTreeMap::new(),
            secret,
            joined: 0,
            host: Host::listening(address, 0xed_0000 + run, key),
            directory: Directory::default(),
            routes: HostMap::default(),
            sessions: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            absences: Absences::new(RECONNECT_WAIT, now),
            ejections: Ejections::new(Settings::default()),
            budget: Budget::default(),
            policy: Policy {
                trusted_proxies: Vec::new(),
                colo: "LAB".into(),
            },
            order: 0,
            run,
            seed: run << 40,
            fault,
        };
        edge.hold(disk);
        edge
    }

    /// The process ends at once; its visitors see their connections break. Returns what is on its disk.
    pub(super) fn crash(&mut self, now: Instant, ledger: &mut Ledger) -> RouteSnapshot {
        for (number, _) in std::mem::take(&mut self.exchanges) {
            ledger.end(now, number, Outcome::Cut);
        }
        std::mem::take(&mut self.disk)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let sessions =
            self.sessions
                .iter()
                .filter_map(|(link, session)| match (session.place, session.leaving) {
                    (None, _) => Some(session.register_by),
                    (Some(_), Some((_, over))) if self.in_flight(*link) > 0 => Some(over),
                    (Some(_), Some((idle, _))) => Some(idle),
                    (Some(_), None) => None,
                });
        let exchanges = self
            .exchanges
            .values()
            .filter_map(|exchange| match &exchange.state {
                State::Waiting { until } => Some(*until),
                State::Sent(attempt) => Some(attempt.watch.poll_timeout(attempt.at)),
                State::Answering { .. } => None,
            });
        let pending = self.pending.values().map(|pending| pending.until);
        let tie = earlier(self.tie.dial_at, self.save_at);
        let next = earlier(sessions.min(), exchanges.min());
        earlier(next, earlier(pending.min(), tie))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, ledger: &mut Ledger) {
        let due = |(link, session): (&LinkId, &Session)| {
            let is_due = match (session.place, session.leaving) {
                (None, _) => session.register_by <= now,
                (Some(_), Some((idle, over))) => over <= now || (idle <= now && self.in_flight(*link) == 0),
                (Some(_), None) => false,
            };
            is_due.then_some(*link)
        };
        let links: Vec<_> = self.sessions.iter().filter_map(due).collect();
        for link in links {
            self.host.close(now, link);
        }
        let late = self.pending.extract_if(.., |_, pending| pending.until <= now);
        for (id, pending) in late.collect::<Vec<_>>() {
            self.decide_alone(now, id, pending, ledger);
        }
        if self.save_at.take_if(|at| *at <= now).is_some() {
            self.disk = self.snapshot.clone();
        }
        for number in self.exchanges.keys().copied().collect::<Vec<_>>() {
            let Some(exchange) = self.exchanges.get_mut(&number) else {
                continue;
            };
            match &mut exchange.state {
                State::Waiting { until } if *until <= now => self.end_wait(now, number, false, ledger),
                State::Sent(attempt) => match attempt.watch.handle_timeout(now, attempt.at) {
                    Some(Due::Look) => {
                        attempt.may_look = true;
                        self.look(now, number, ledger);
                    }
                    Some(Due::Silence) => self.fail(now, number, Failure::Silent, ledger),
                    None => {}
                },
                State::Waiting { .. } | State::Answering { .. } => {}
            }
        }
    }

    pub(super) fn handle_event(&mut self, now: Instant, event: Event, ledger: &mut Ledger) {
        match event {
            Event::Connected(link) => {
                if self.host.alpn(link).as_deref() == Some(alpn::ADIT) {
                    self.host.allow_silence(link);
                }
                let session = Session {
                    control: None,
                    heard: BytesMut::new(),
                    place: None,
                    register_by: now + REGISTRATION_DEADLINE,
                    leaving: None,
                    hosts: None,
                };
                self.sessions.insert(link, session);
            }
            Event::Lost(link, _) => self.on_lost(now, link, ledger),
            Event::Readable(link, stream) => self.on_readable(now, link, stream, ledger),
            Event::Doubted(link) => self.on_doubt(now, link, ledger),
            Event::Cleared(link) => {
                let place = self.sessions.get(&link).and_then(|session| session.place);
                if let Some((id, _)) = place
                    && let Some(slot) = self.directory.doubt(id, false)
                {
                    self.come_back(now, slot.tunnel, ledger);
                }
            }
            // A connector that wants no more of a request still answers.
            Event::Stopped(..) | Event::Moved => {}
        }
    }

    fn on_doubt(&mut self, now: Instant, link: LinkId, ledger: &mut Ledger) {
        let place = self.sessions.get(&link).and_then(|session| session.place);
        let Some((id, _)) = place else { return };
        if let Some(slot) = self.directory.doubt(id, true) {
            // What keeps one connection of a replica from answering may have hit the others, which nobody
            // asks.
            let links: Vec<_> = self
                .directory
                .of(slot.tunnel, Some(slot.connector))
                .map(|live| live.handle)
                .collect();
            for link in links {
                self.host.check(link);
            }
            self.miss(now, slot.tunnel);
            for number in self.exchanges.keys().copied().collect::<Vec<_>>() {
                self.look(now, number, ledger);
            }
        }
    }

    /// Expects a tunnel back if it has no connection any more that takes exchanges.
    fn miss(&mut self, now: Instant, tunnel: TunnelId) {
        let mut lives = self.directory.of(tunnel, None);
        if !lives.any(|live| !live.is_draining && !live.is_doubted) {
            self.absences.begin(tunnel, now);
        }
    }

    /// All that wait for a tunnel choose again.
    fn come_back(&mut self, now: Instant, tunnel: TunnelId, ledger: &mut Ledger) {
        if self.absences.end(tunnel).is_none() {
            return;
        }
        let waiting: Vec<_> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| {
                exchange.tunnel == tunnel && matches!(exchange.state, State::Waiting { .. })
            })
            .map(|(number, _)| *number)
            .collect();
        for number in waiting {
            self.end_wait(now, number, true, ledger);
        }
    }

    fn on_lost(&mut self, now: Instant, link: LinkId, ledger: &mut Ledger) {
        let session = self.sessions.remove(&link);
        let place = session.and_then(|session| session.place);
        if let Some((id, _)) = place {
            self.left(id);
        }
        if let Some((id, slot)) = place
            && self.directory.leave(id).is_some()
        {
            self.miss(now, slot.tunnel);
            if self
                .directory
                .of(slot.tunnel, Some(slot.connector))
                .next()
                .is_none()
            {
                self.ejections.forget(slot.tunnel, slot.connector);
            }
        }
        if self.fault == Some(Fault::LossForgotten) {
            return;
        }
        for number in self.exchanges.keys().copied().collect::<Vec<_>>() {
            match &self.exchanges[&number].state {
                State::Sent(attempt) if attempt.chosen.link == link => {
                    self.fail(now, number, Failure::Lost, ledger);
                }
                State::Answering {
                    link: of, replica, ..
                } if *of == link => {
                    let replica = *replica;
                    self.break_off(now, number, replica, ledger);
                }
                State::Waiting { .. } | State::Sent(_) | State::Answering { .. } => {}
            }
        }
    }

    fn on_readable(&mut self, now: Instant, link: LinkId, stream: StreamId, ledger: &mut Ledger) {
        let Some(session) = self.sessions.get_mut(&link) else {
            return;
        };
        // The connector's first stream is the control stream, and it opens no other.
        if stream.initiator() == Side::Client {
            session.control = Some(stream);
            let (bytes, _) = self.host.read(link, stream);
            session.heard.extend_from_slice(&bytes);
            while let Some(session) = self.sessions.get_mut(&link)
                && let Some(line) = take_line(&mut session.heard)
            {
                self.on_call(now, link, stream, &line, ledger);
            }
            return;
        }
        let place = (link, stream);
        let of = self.exchanges.iter().find(|(_, exchange)| match &exchange.state {
            State::Sent(attempt) => (attempt.chosen.link, attempt.stream) == place,
            State::Answering { link, stream, .. } => (*link, *stream) == place,
            State::Waiting { .. } => false,
        });
        if let Some(number) = of.map(|(number, _)| *number) {
            self.read(now, number, link, stream, ledger);
        }
    }

    /// A connector calls.
    fn on_call(&mut self, now: Instant, link: LinkId, stream: StreamId, line: &str, ledger: &mut Ledger) {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(session) = self.sessions.get_mut(&link) else {
            return;
        };
        match (words.as_slice(), session.place) {
            (["register", tunnel, connector, index], None) => {
                let slot = Slot {
                    tunnel: tunnel.parse().expect("an id"),
                    connector: connector.parse().expect("an id"),
                    index: ConnIndex(index.parse().expect("a number")),
                };
                self.register(now, (link, stream), slot, ledger);
            }
            (["hosts", hosts @ ..], Some((_, slot))) => {
                let hosts = ServedHosts::from_rules(hosts.iter().map(|host| Some(*host)));
                for session in self.sessions.values_mut() {
                    if session
                        .place
                        .is_some_and(|(_, of)| of.connector == slot.connector)
                    {
                        session.hosts = Some(hosts.clone());
                    }
                }
                if self.fault != Some(Fault::HostsIgnored) {
                    self.directory.set_served(slot.tunnel, slot.connector, hosts);
                }
            }
            (["unregister"], Some((id, _))) => {
                session.leaving = Some((now + UNREGISTER_ANSWER_TIME, now + GRACE));
                self.host
                    .write(link, stream, &Bytes::from_static(b"unregistered\n"));
                if self.fault != Some(Fault::DrainingIgnored)
                    && let Some(slot) = self.directory.drain(id)
                {
                    self.miss(now, slot.tunnel);
                }
            }
            _ => panic!("a connector says {line:?}"),
        }
    }
}
