//! A connector: when it dials is its supervisor's, what it makes of a stream is `proto`'s; this only does
//! what they say, in virtual time.
//!
//! The calls on the control stream are lines of text here, not Cap'n Proto: `register`, `hosts`,
//! `unregister`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adit_proto::ingress::rule::{Ingress, RuleText};
use adit_proto::limits::IDLE_PING_INTERVAL;
use adit_proto::supervisor::{AttemptId, End, Output, Plan, Protocol, Supervisor, Transport};
use adit_wire::{ConnIndex, ConnectorId, TunnelId};
use bytes::{Bytes, BytesMut};
use http::HeaderName;
use quinn_proto::StreamId;
use uuid::Uuid;

use super::clock::{earlier, ms};
use super::host::{Event, Host, LinkId};
use super::keys::Make;
use super::ledger::Ledger;
use exchanges::Exchange;

mod exchanges;

/// As the connector waits for a handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// As it waits for the answer to a call, unless told otherwise.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// As long as it finishes what it has.
const GRACE: Duration = Duration::from_secs(30);

/// How long a drained connection still takes exchanges that an edge sent off before it knew.
const SETTLE_TIME: Duration = ms(500);

/// Says which replica has answered.
pub(super) const REPLICA: HeaderName = HeaderName::from_static("x-replica");

/// Bytes of an answer, sent in two halves.
pub(super) const ANSWER_BYTES: usize = 600;

/// How a replica's origin treats requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Answers after this.
    Well(Duration),
    /// Takes no connection.
    Refusing,
    /// Takes requests and gives no answer.
    Hanging,
    /// Takes requests and breaks off.
    Breaking,
}

/// What stays the same however often the process is started.
#[derive(Clone, Debug)]
pub(super) struct Character {
    /// Its number among the connectors.
    pub(super) number: usize,
    pub(super) tunnel: TunnelId,
    pub(super) make: Make,
    /// Tells over each connection what it serves.
    pub(super) tells_each: bool,
    /// Hostnames it serves.
    pub(super) hosts: Vec<&'static str>,
    pub(super) edges: Vec<SocketAddr>,
}

/// One process.
pub(super) struct Connector {
    pub(super) character: Character,
    pub(super) id: ConnectorId,
    pub(super) host: Host,
    pub(super) origin: Mood,
    ingress: Ingress,
    supervisor: Supervisor,
    /// When the supervisor wants to be woken.
    wake: Option<Instant>,
    attempts: BTreeMap<AttemptId, Attempt>,
    exchanges: BTreeMap<(LinkId, StreamId), Exchange>,
    pub(super) is_leaving: bool,
    pub(super) has_left: bool,
}

struct Attempt {
    link: LinkId,
    index: ConnIndex,
    phase: Phase,
    control: Option<StreamId>,
    heard: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Dialling {
        until: Instant,
    },
    Registering {
        until: Instant,
    },
    Serving,
    /// Has said so and waits for the answer.
    Unregistering {
        until: Instant,
        over: Instant,
    },
    /// Finishes what it has, not before `settled` and not after `over`.
    Finishing {
        settled: Instant,
        over: Instant,
    },
}

impl Connector {
    /// Starts the process; the `run` makes its id.
    pub(super) fn start(character: Character, address: SocketAddr, now: Instant, run: u64) -> Self {
        let plan = Plan {
            addresses: character.edges.clone(),
            connections: character.edges.len(),
            spacing: Duration::from_secs(1),
            retries: 5,
            transport: Transport::Only(Protocol::Quic),
            dial_failures_max: 2,
        };
        let seed = (character.number as u64) << 32 | run;
        let rule = |hostname: &str, service: &str| RuleText {
            hostname: hostname.into(),
            path: String::new(),
            service: service.into(),
            settings: Default::default(),
        };
        let mut rules: Vec<_> = character
            .hosts
            .iter()
            .map(|host| rule(host, "http://localhost:8080"))
            .collect();
        rules.push(rule("", "http_status:404"));
        Self {
            id: ConnectorId(Uuid::from_u128(0xc000_0000 | u128::from(seed))),
            host: Host::dialling(address, seed),
            origin: Mood::Well(ms(1)),
            ingress: Ingress::parse(&rules).expect("good rules"),
            supervisor: Supervisor::new(&plan, now, seed),
            wake: Some(now),
            attempts: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            is_leaving: false,
            has_left: false,
            character,
        }
    }

    /// Leaves in order.
    pub(super) fn leave(&mut self, now: Instant) {
        self.is_leaving = true;
        self.supervisor.handle_drain();
        self.follow(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let attempts = self
            .attempts
            .values()
            .filter_map(|attempt| attempt.deadline(self.is_busy(attempt.link)));
        let exchanges = self.exchanges.values().filter_map(|exchange| match exchange {
            Exchange::Asked { due, .. } | Exchange::Answering { due } => Some(*due),
            Exchange::Reading(_) | Exchange::Taking { .. } | Exchange::Silent => None,
        });
        earlier(self.wake, attempts.chain(exchanges).min())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, ledger: &mut Ledger) {
        let due: Vec<_> = self
            .exchanges
            .iter()
            .filter(|(_, exchange)| match exchange {
                Exchange::Asked { due, .. } | Exchange::Answering { due } => *due <= now,
                Exchange::Reading(_) | Exchange::Taking { .. } | Exchange::Silent => false,
            })
            .map(|(place, _)| *place)
            .collect();
        for place in due {
            self.answer(now, place, ledger);
        }
        let due: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| {
                let deadline = attempt.deadline(self.is_busy(attempt.link));
                deadline.is_some_and(|deadline| deadline <= now)
            })
            .map(|(id, attempt)| (*id, attempt.link, attempt.phase))
            .collect();
        for (id, link, phase) in due {
            match phase {
                Phase::Dialling { .. } => self.end(now, id, End::DialFailed),
                Phase::Registering { .. } => self.end(now, id, End::Silent),
                Phase::Unregistering { over, .. } => self.finish(now, link, over),
                Phase::Serving | Phase::Finishing { .. } => self.end(now, id, End::Closed),
            }
        }
        if self.wake.is_some_and(|wake| wake <= now) {
            self.supervisor.handle_timeout(now);
            self.follow(now);
        }
    }

    pub(super) fn handle_event(&mut self, now: Instant, event: Event, ledger: &mut Ledger) {
        match event {
            Event::Connected(link) => self.register(now, link),
            Event::Lost(link, end) => {
                self.exchanges.retain(|(of, _), _| *of != link);
                if let Some((id, attempt)) = self.attempt(link) {
                    let end = match attempt.phase {
                        Phase::Dialling { .. } => End::DialFailed,
                        Phase::Registering { .. } => End::Closed,
                        Phase::Serving | Phase::Unregistering { .. } | Phase::Finishing { .. } => end,
                    };
                    self.end(now, id, end);
                }
            }
            Event::Readable(link, stream) => {
                let control = self.attempt(link).and_then(|(_, attempt)| attempt.control);
                if control == Some(stream) {
                    self.read_control(now, link, stream);
                } else {
                    self.read(now, (link, stream), ledger);
                }
            }
            Event::Stopped(link, stream) => {
                if self.exchanges.remove(&(link, stream)).is_some() {
                    self.host.release(link, stream, false);
                }
            }
            Event::Doubted(_) | Event::Moved => {
                // What kept one edge from answering may have hit the other connections, on which nothing is
                // asked.
                for attempt in self.attempts.values() {
                    self.host.check(attempt.link);
                }
            }
            Event::Cleared(_) => {}
        }
    }

    /// Does what the supervisor says.
    fn follow(&mut self, now: Instant) {
        loop {
            match self.supervisor.poll_output() {
                Output::Dial {
                    id, index, address, ..
                } => {
                    let link = self.host.dial(now, address, self.character.make);
                    let attempt = Attempt {
                        link,
                        index,
                        phase: Phase::Dialling {
                            until: now + HANDSHAKE_DEADLINE,
                        },
                        control: None,
                        heard: BytesMut::new(),
                    };
                    self.attempts.insert(id, attempt);
                }
                Output::Drain { id, .. } => self.unregister(now, id),
                Output::Retry { .. } | Output::Switch { .. } => {}
                Output::Finished => self.has_left = true,
                Output::Wait(until) => {
                    self.wake = until;
                    return;
                }
            }
        }
    }

    fn register(&mut self, now: Instant, link: LinkId) {
        let Some(stream) = self.host.open(link) else {
            return;
        };
        let (tunnel, connector) = (self.character.tunnel, self.id);
        let Some((_, attempt)) = self.attempt(link) else {
            return;
        };
        attempt.phase = Phase::Registering {
            until: now + CALL_DEADLINE,
        };
        attempt.control = Some(stream);
        let call = format!("register {tunnel} {connector} {}\n", attempt.index.0);
        if self.character.make == Make::Ours {
            self.host.allow_silence(link);
        }
        self.host.write(link, stream, &call.into());
    }

    fn unregister(&mut self, now: Instant, id: AttemptId) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        match (attempt.phase, attempt.control) {
            (Phase::Serving, Some(control)) => {
                attempt.phase = Phase::Unregistering {
                    until: now + CALL_DEADLINE,
                    over: now + GRACE,
                };
                let link = attempt.link;
                self.host
                    .write(link, control, &Bytes::from_static(b"unregister\n"));
            }
            _ => self.end(now, id, End::Closed),
        }
    }

    fn read_control(&mut self, now: Instant, link: LinkId, stream: StreamId) {
        let (bytes, _) = self.host.read(link, stream);
        let Some((_, attempt)) = self.attempt(link) else {
            return;
        };
        attempt.heard.extend_from_slice(&bytes);
        while let Some((id, line)) = self.attempt(link).and_then(|(id, attempt)| {
            let line = take_line(&mut attempt.heard)?;
            Some((id, line))
        }) {
            self.on_reply(now, id, link, stream, &line);
        }
    }

    fn on_reply(&mut self, now: Instant, id: AttemptId, link: LinkId, stream: StreamId, line: &str) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        match (line, attempt.phase) {
            ("registered", Phase::Registering { .. }) => {
                attempt.phase = Phase::Serving;
                let index = attempt.index;
                // Each connection may be at another edge; stock connectors tell one.
                if index == ConnIndex(0) || self.character.tells_each {
                    let hosts = format!("hosts {}\n", self.character.hosts.join(" "));
                    self.host.write(link, stream, &hosts.into());
                }
                if self.character.make == Make::Ours {
                    let first = now + IDLE_PING_INTERVAL / 4 * (1 + u32::from(index.0));
                    self.host.ping_by_clock(link, first, IDLE_PING_INTERVAL);
                }
                self.supervisor.handle_registered(now, id);
                self.follow(now);
            }
            ("refused", Phase::Registering { .. }) => self.end(now, id, End::Refused),
            ("unregistered", Phase::Unregistering { over, .. }) => self.finish(now, link, over),
            _ => {}
        }
    }

    fn finish(&mut self, now: Instant, link: LinkId, over: Instant) {
        if let Some((_, attempt)) = self.attempt(link) {
            attempt.phase = Phase::Finishing {
                settled: now + SETTLE_TIME,
                over,
            };
        }
    }

    /// An attempt is over, and so is its connection.
    fn end(&mut self, now: Instant, id: AttemptId, end: End) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return;
        };
        self.host.close(now, attempt.link);
        self.exchanges.retain(|(of, _), _| *of != attempt.link);
        self.supervisor.handle_ended(now, id, end);
        self.follow(now);
    }

    fn attempt(&mut self, link: LinkId) -> Option<(AttemptId, &mut Attempt)> {
        let mut attempts = self.attempts.iter_mut();
        let found = attempts.find(|(_, attempt)| attempt.link == link);
        found.map(|(id, attempt)| (*id, attempt))
    }

    fn is_busy(&self, link: LinkId) -> bool {
        self.exchanges.keys().any(|(of, _)| *of == link)
    }
}

impl Attempt {
    fn deadline(&self, is_busy: bool) -> Option<Instant> {
        match self.phase {
            Phase::Dialling { until } | Phase::Registering { until } | Phase::Unregistering { until, .. } => {
                Some(until)
            }
            Phase::Serving => None,
            Phase::Finishing { over, .. } if is_busy => Some(over),
            Phase::Finishing { settled, over } => Some(settled.min(over)),
        }
    }
}

/// Takes a line off what was heard.
pub(super) fn take_line(heard: &mut BytesMut) -> Option<String> {
    let end = heard.iter().position(|byte| *byte == b'\n')?;
    let line = heard.split_to(end + 1);
    Some(String::from_utf8_lossy(&line[..end]).into_owned())
}
