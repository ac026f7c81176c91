//! One origin's addresses under random visitors, failures, checks and changes of the configuration.
//!
//! Whatever happens: no limit is exceeded; nobody waits while there is room; the queue is served in its
//! order. An address that is out gets no exchange but its trial, unless no other is left. When all visitors
//! have gone nothing is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_proto::ingress::service::OriginService;
use adit_proto::origin_pool::health::Outcome;
use adit_proto::origin_pool::settings::{BreakerText, PoolSettings, PoolText};
use adit_proto::origin_pool::{Admission, Grant, MemberId, OriginPool, Ticket};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::seeds::for_seeds;

const SEEDS: u64 = 1_000;
const STEPS: u32 = 600;

/// After this long without failures every address is in again: the longest time out, and a trial each.
const RECOVERY: Duration = Duration::from_secs(400);

struct World {
    pool: OriginPool,
    settings: Arc<PoolSettings>,
    now: Instant,
    rng: SmallRng,
    serving: Vec<Served>,
    waiting: BTreeSet<Ticket>,
    last_granted: Option<Ticket>,
    broken: BTreeSet<String>,
}

struct Served {
    grant: Grant,
    tried: Vec<MemberId>,
    is_reported: bool,
}

fn settings(rng: &mut SmallRng) -> Arc<PoolSettings> {
    let count = rng.random_range(0..4_usize);
    let first = rng.random_range(0..3_usize);
    let addresses: Vec<String> = (first..first + count)
        .map(|number| format!("h{number}:1"))
        .collect();
    let balancing = ["least-connections", "round-robin", "random-two"][rng.random_range(0..3_usize)];
    let text = PoolText {
        addresses: Some(addresses.into()),
        balancing: Some(balancing.to_owned()),
        max_fails: Some(rng.random_range(1..4)),
        max_connections: Some(rng.random_range(0..4)),
        breaker: Some(Arc::new(BreakerText {
            max_requests: Some(rng.random_range(0..9)),
            max_pending: Some(rng.random_range(0..6)),
            pending_timeout: None,
        })),
        ..PoolText::default()
    };
    let service = OriginService::parse("http://own:1").expect("a service");
    let parsed = PoolSettings::parse(&text, &service).expect("valid settings");
    Arc::new(parsed.expect("a pool"))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let settings = settings(&mut rng);
        Self {
            pool: OriginPool::new(Arc::clone(&settings), seed),
            settings,
            now: Instant::now(),
            rng,
            serving: Vec::new(),
            waiting: BTreeSet::new(),
            last_granted: None,
            broken: BTreeSet::new(),
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..40 => self.arrive(),
            40..70 => self.end_one(),
            70..80 => self.leave_queue(),
            80..90 => self.now += Duration::from_millis(self.rng.random_range(0..8_000)),
            90..95 => {
                let address = format!("h{}:1", self.rng.random_range(0..6));
                if !self.broken.remove(&address) {
                    self.broken.insert(address);
                }
            }
            95..98 => self.check_one(),
            _ => {
                self.settings = settings(&mut self.rng);
                self.pool.reconfigure(Arc::clone(&self.settings), self.now);
            }
        }
        self.pool.handle_timeout(self.now);
        self.hand_out();
        self.inspect();
    }

    fn arrive(&mut self) {
        match self.pool.admit(self.now) {
            Admission::Granted(grant) => {
                assert!(self.waiting.is_empty(), "nobody passes the queue");
                self.serve(grant);
            }
            Admission::Waits(ticket) => {
                assert!(self.waiting.len() < self.settings.pending_max);
                assert!(self.waiting.insert(ticket));
            }
            Admission::Refused => assert!(self.waiting.len() >= self.settings.pending_max),
        }
    }

    fn serve(&mut self, grant: Grant) {
        let is_well = self.is_well(&grant);
        self.serving.push(Served {
            grant,
            tried: Vec::new(),
            is_reported: false,
        });
        if !is_well {
            let last = self.serving.len() - 1;
            self.fail(last);
        }
    }

    /// The address refuses the connection, and the exchange goes on elsewhere as long as it can.
    fn fail(&mut self, place: usize) {
        let mut served = self.serving.swap_remove(place);
        loop {
            self.pool.report(&served.grant, Outcome::Unconnected, self.now);
            served.tried.push(served.grant.member);
            match self.pool.move_on(served.grant, &served.tried, self.now) {
                Ok(grant) => served.grant = grant,
                Err(grant) => return self.pool.release(grant, self.now),
            }
            if self.is_well(&served.grant) {
                return self.serving.push(served);
            }
        }
    }

    fn is_well(&self, grant: &Grant) -> bool {
        !self.broken.contains(&grant.address.to_string())
    }

    fn end_one(&mut self) {
        if self.serving.is_empty() {
            return;
        }
        let place = self.rng.random_range(0..self.serving.len());
        let mut served = self.serving.swap_remove(place);
        // Some visitors leave before there is an answer.
        if !served.is_reported && self.rng.random_ratio(4, 5) {
            let outcome =
                [Outcome::Answered, Outcome::Failed, Outcome::Unanswered][self.rng.random_range(0..3_usize)];
            self.pool.report(&served.grant, outcome, self.now);
            served.is_reported = true;
        }
        self.pool.release(served.grant, self.now);
    }

    fn leave_queue(&mut self) {
        let count = self.waiting.len();
        if count > 0 {
            let ticket = *self
                .waiting
                .iter()
                .nth(self.rng.random_range(0..count))
                .expect("one of them");
            assert!(self.pool.cancel(ticket));
            self.waiting.remove(&ticket);
        }
    }

    fn check_one(&mut self) {
        let known: Vec<(MemberId, String)> = self
            .pool
            .addresses()
            .map(|(id, address)| (id, address.to_string()))
            .collect();
        let (id, address) = &known[self.rng.random_range(0..known.len())];
        let is_well = !self.broken.contains(address);
        self.pool.checked(*id, is_well, self.now);
    }

    fn hand_out(&mut self) {
        while let Some((ticket, grant)) = self.pool.poll_granted() {
            assert!(self.waiting.remove(&ticket), "only who waits is granted");
            assert!(self.last_granted.is_none_or(|last| last < ticket), "in order");
            self.last_granted = Some(ticket);
            self.serve(grant);
        }
    }

    fn inspect(&mut self) {
        let counts = self.pool.counts(self.now);
        assert_eq!(counts.in_flight, self.serving.len() as u64);
        assert_eq!(counts.waiting, self.waiting.len() as u64);
        let mut by_member: BTreeMap<MemberId, u32> = BTreeMap::new();
        for served in &self.serving {
            *by_member.entry(served.grant.member).or_default() += 1;
        }
        // A limit that was lowered meanwhile is kept by admitting nobody.
        if self.waiting.is_empty() {
            return;
        }
        let requests = self.serving.len() as u64;
        let is_full = self
            .settings
            .requests_max
            .is_some_and(|max| requests >= u64::from(max));
        let serving: Vec<MemberId> = self.pool.addresses().map(|(id, _)| id).collect();
        let busy = |id: &MemberId| {
            let in_flight = by_member.get(id).copied().unwrap_or(0);
            self.settings.connections_max.is_some_and(|max| in_flight >= max)
        };
        // What is out need not be busy.
        let out = counts.ejected + counts.down;
        let busy_count = serving.iter().filter(|id| busy(id)).count() as u64;
        assert!(
            is_full || busy_count + out >= serving.len() as u64,
            "somebody waits although there is room: {counts:?} {by_member:?}"
        );
    }

    /// Visitors that come and go one by one, with every address well.
    fn recover(&mut self) {
        while let Some(ticket) = self.waiting.pop_first() {
            assert!(self.pool.cancel(ticket));
        }
        while !self.serving.is_empty() {
            self.end_one();
        }
        self.broken.clear();
        self.now += RECOVERY;
        for _ in 0..200 {
            let known: Vec<MemberId> = self.pool.addresses().map(|(id, _)| id).collect();
            for id in known {
                self.pool.checked(id, true, self.now);
            }
            let Admission::Granted(grant) = self.pool.admit(self.now) else {
                panic!("an idle origin takes an exchange");
            };
            self.pool.report(&grant, Outcome::Answered, self.now);
            self.pool.release(grant, self.now);
        }
        let counts = self.pool.counts(self.now);
        assert_eq!(counts.up, self.settings.addresses.len() as u64, "{counts:?}");
        assert_eq!((counts.in_flight, counts.waiting), (0, 0));
    }
}

#[test]
fn limits_order_and_health_hold_whatever_happens() {
    for_seeds(SEEDS, |seed| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.recover();
    });
}

/// Without changes of the configuration the limits themselves can be read off.
#[test]
fn no_limit_is_exceeded() {
    for_seeds(SEEDS, |seed| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            match world.rng.random_range(0..3) {
                0 => world.end_one(),
                _ => world.arrive(),
            }
            world.hand_out();
            world.inspect();
            let mut by_member: BTreeMap<MemberId, u32> = BTreeMap::new();
            for served in &world.serving {
                *by_member.entry(served.grant.member).or_default() += 1;
            }
            let highest = by_member.values().max().copied().unwrap_or(0);
            assert!(world.settings.connections_max.is_none_or(|max| highest <= max));
            let requests = world.serving.len() as u64;
            assert!(
                world
                    .settings
                    .requests_max
                    .is_none_or(|max| requests <= u64::from(max))
            );
        }
    });
}
