//! The network between hosts: datagrams that are late, lost, doubled and overtaken, paths that are cut, and
//! address translators that forget.
//!
//! ```text
//! host ─► translator, if there is one ─► cut? lost? doubled? ─► under way ─► host
//! ```
//! Each datagram is delayed by itself, so those with jitter overtake each other. A cut path takes what is
//! sent and what is under way. Same seed, same sends, same deliveries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// First port that a translator gives out.
const TRANSLATED_PORT_MIN: u16 = 20_000;

/// Datagrams under way; more are dropped, as by a full queue.
const UNDER_WAY_MAX: usize = 10_000;

/// How the network treats datagrams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Shortest time under way.
    pub(super) delay: Duration,
    /// What is added to it at most.
    pub(super) jitter: Duration,
    /// Lost, of a thousand.
    pub(super) lost: u32,
    /// Sent twice, of a thousand.
    pub(super) doubled: u32,
}

impl Weather {
    /// Some weather that a tunnel has to cope with.
    pub(super) fn any(rng: &mut SmallRng) -> Self {
        Self {
            delay: Duration::from_millis(rng.random_range(1..60)),
            jitter: Duration::from_millis([0, 2, 30][rng.random_range(0..3)]),
            lost: [0, 0, 10, 80][rng.random_range(0..4)],
            doubled: [0, 0, 20][rng.random_range(0..3)],
        }
    }

    /// Nothing is lost.
    pub(super) const fn calm() -> Self {
        Self {
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            lost: 0,
            doubled: 0,
        }
    }
}

/// A datagram that has arrived.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// As its receiver sees it.
    pub(super) from: SocketAddr,
    /// The host's own address.
    pub(super) to: SocketAddr,
    pub(super) data: BytesMut,
}

/// All that is between hosts.
#[derive(Debug)]
pub(super) struct Network {
    rng: SmallRng,
    pub(super) weather: Weather,
    /// By due time, then by order of sending.
    under_way: BTreeMap<(Instant, u64), Packet>,
    sent: u64,
    /// From whom to whom nothing gets through.
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    /// Hosts behind translators: own address to the one that others see.
    outer: BTreeMap<SocketAddr, SocketAddr>,
    inner: BTreeMap<SocketAddr, SocketAddr>,
    next_port: u16,
}

impl Network {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            weather,
            under_way: BTreeMap::new(),
            sent: 0,
            cuts: BTreeSet::new(),
            outer: BTreeMap::new(),
            inner: BTreeMap::new(),
            next_port: TRANSLATED_PORT_MIN,
        }
    }

    /// Puts a host behind a translator, or has its translator forget it: datagrams to the old address are
    /// lost, and the next one from the host comes from another.
    pub(super) fn translate(&mut self, host: SocketAddr) {
        self.next_port += 1;
        let seen = SocketAddr::new(host.ip(), self.next_port);
        if let Some(old) = self.outer.insert(host, seen) {
            self.inner.remove(&old);
        }
        self.inner.insert(seen, host);
    }

    /// Nothing gets through between two places, or from `a` to `b` alone.
    pub(super) fn cut(&mut self, a: IpAddr, b: IpAddr, is_one_way: bool) {
        self.cuts.insert((a, b));
        if !is_one_way {
            self.cuts.insert((b, a));
        }
    }

    /// Every path is open again.
    pub(super) fn mend(&mut self) {
        self.cuts.clear();
    }

    /// Whether something gets from `a` to `b` and back.
    pub(super) fn is_open(&self, a: IpAddr, b: IpAddr) -> bool {
        !self.cuts.contains(&(a, b)) && !self.cuts.contains(&(b, a))
    }

    pub(super) fn send(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, data: BytesMut) {
        let from = self.outer.get(&from).copied().unwrap_or(from);
        let Weather {
            delay,
            jitter,
            lost,
            doubled,
        } = self.weather;
        if self.rng.random_range(0..1_000) < lost || self.under_way.len() >= UNDER_WAY_MAX {
            return;
        }
        let copies = 1 + usize::from(self.rng.random_range(0..1_000) < doubled);
        for _ in 0..copies {
            let late = self.rng.random_range(0..=jitter.as_micros() as u64);
            let due = now + delay + Duration::from_micros(late);
            let data = data.clone();
            self.sent += 1;
            self.under_way.insert((due, self.sent), Packet { from, to, data });
        }
    }

    /// Datagrams sent so far, but for those that were lost.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// When the next datagram arrives.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.keys().next().map(|(due, _)| *due)
    }

    /// The next datagram that has arrived by now.
    pub(super) fn receive(&mut self, now: Instant) -> Option<Packet> {
        loop {
            let first = self.under_way.first_entry()?;
            if first.key().0 > now {
                return None;
            }
            let mut packet = first.remove();
            if self.cuts.contains(&(packet.from.ip(), packet.to.ip())) {
                continue;
            }
            // Who is behind a translator is reached through it alone.
            match self.inner.get(&packet.to) {
                Some(host) => packet.to = *host,
                None if packet.to.port() >= TRANSLATED_PORT_MIN => continue,
                None if self.outer.contains_key(&packet.to) => continue,
                None => {}
            }
            return Some(packet);
        }
    }
}
