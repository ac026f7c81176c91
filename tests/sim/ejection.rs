//! Origins of replicas fail and recover. Several cores see a part of the exchanges each. They tell each other
//! what they decide, late and in no common order.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use adit_proto::directory::RulePath;
use adit_proto::ejection::{Ejections, Event, News, Outcome, Report, Settings, Standing, Told, Trier};
use adit_wire::{ConnectorId, Hostname, TunnelId};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::seeds::for_seeds;

const TUNNEL: TunnelId = TunnelId(Uuid::from_u128(1));
const SEEDS: u64 = 200;
const STEP: Duration = Duration::from_millis(20);
/// Longest way of a piece of news.
const NEWS_STEPS_MAX: u32 = 5;

struct Edge {
    rng: SmallRng,
    now: Instant,
    settings: Settings,
    cores: Vec<Ejections>,
    /// For each core what is on its way to it, by when it arrives; one sender's keeps its order.
    mail: Vec<VecDeque<(Instant, News)>>,
    replicas: usize,
    /// Percent of the exchanges that fail, by replica.
    failing: Vec<u32>,
    host: Hostname,
    asked: BTreeMap<usize, u32>,
}

impl Edge {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let replicas = rng.random_range(1..=6);
        let cores = rng.random_range(1..=4);
        let settings = Settings {
            failures_in_a_row: rng.random_range(0..=6),
            failure_percent: rng.random_range(20..=80),
            share_percent: rng.random_range(0..=100),
            time: Duration::from_millis(rng.random_range(200..=3_000)),
            time_max: Duration::from_secs(8),
            slow_start: Duration::from_millis(rng.random_range(0..=4_000)),
        };
        Self {
            now: Instant::now(),
            settings,
            cores: (0..cores).map(|_| Ejections::new(settings)).collect(),
            mail: vec![VecDeque::new(); cores],
            replicas,
            failing: vec![0; replicas],
            host: "a.test".parse().expect("a hostname"),
            asked: BTreeMap::new(),
            rng,
        }
    }

    fn standing(&self, core: usize, replica: usize, seed: u64, trier: Trier) -> Standing {
        let known = self.cores[core].known(TUNNEL, &self.host, seed, trier, self.now);
        known.map_or(Standing::In, |known| {
            known.standing((connector(replica), RulePath::EVERY))
        })
    }

    /// One exchange as steering would place it.
    fn exchange(&mut self) {
        let core = self.rng.random_range(0..self.cores.len());
        let seed = self.rng.random();
        let trier = if self.rng.random_bool(0.7) {
            Trier::Repeatable
        } else {
            Trier::Once
        };
        let start = self.rng.random_range(0..self.replicas);
        let order = |standing| match standing {
            Standing::Trial => 0,
            Standing::In => 1,
            Standing::HeldBack => 2,
            Standing::Out => 3,
        };
        let chosen = (0..self.replicas)
            .map(|place| (start + place) % self.replicas)
            .min_by_key(|replica| order(self.standing(core, *replica, seed, trier)))
            .expect("there are replicas");
        if self.standing(core, chosen, seed, trier) == Standing::Trial {
            self.cores[core].begin_trial(TUNNEL, &self.host, (connector(chosen), RulePath::EVERY), self.now);
            let next = self.standing(core, chosen, seed, Trier::Repeatable);
            assert_eq!(next, Standing::Out, "one exchange at a time tries a replica");
        }
        *self.asked.entry(chosen).or_default() += 1;
        let fails = self.rng.random_range(0..100) < self.failing[chosen];
        let told = Told {
            tunnel: TUNNEL,
            host: &self.host,
            connector: connector(chosen),
            path: RulePath::EVERY,
            outcome: if fails { Outcome::Failed } else { Outcome::Answered },
            sent: self.now,
        };
        let serving: Vec<_> = (0..self.replicas)
            .map(|replica| (connector(replica), RulePath::EVERY))
            .collect();
        let before = self.cores[core].out();
        let report = self.cores[core].report(&told, &serving, self.now);
        if let Report::News(news) = report {
            self.check(core, before, &news);
            for other in (0..self.cores.len()).filter(|other| *other != core) {
                let delay = STEP * self.rng.random_range(0..=NEWS_STEPS_MAX);
                let last = self.mail[other].back().map_or(self.now, |(at, _)| *at);
                self.mail[other].push_back(((self.now + delay).max(last), news.clone()));
            }
        }
    }

    /// What a core decides is within its limits.
    fn check(&self, core: usize, before: usize, news: &News) {
        let out = self.cores[core].out();
        let Event::Ejected { until, .. } = news.event else {
            assert_eq!(out, before - 1, "who answers is back");
            return;
        };
        let length = until - self.now;
        assert!(
            length >= self.settings.time && length <= self.settings.time_max,
            "{length:?}"
        );
        if out > before {
            let share = self.replicas * self.settings.share_percent as usize / 100;
            assert!(
                out <= share.max(1) && out < self.replicas,
                "{out} of {}",
                self.replicas
            );
        }
    }

    fn pass(&mut self) {
        self.now += STEP;
        for (core, mail) in self.cores.iter_mut().zip(&mut self.mail) {
            while mail.front().is_some_and(|(at, _)| *at <= self.now) {
                if let Some((_, news)) = mail.pop_front() {
                    core.hear(&news, self.now);
                }
            }
            core.expire(self.now);
        }
        for _ in 0..self.rng.random_range(0..4) {
            self.exchange();
        }
    }

    fn pass_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.pass();
        }
    }
}

fn connector(replica: usize) -> ConnectorId {
    ConnectorId(Uuid::from_u128(replica as u128))
}

#[test]
fn what_fails_is_left_out_within_limits_and_all_is_forgotten_once_nothing_fails() {
    for_seeds(SEEDS, |seed| {
        let mut edge = Edge::new(seed);
        for _ in 0..6 {
            for replica in 0..edge.replicas {
                edge.failing[replica] = if edge.rng.random_bool(0.4) {
                    edge.rng.random_range(0..=100)
                } else {
                    0
                };
            }
            edge.pass_for(Duration::from_secs(5));
        }
        edge.failing.fill(0);
        // Adds up the longest ejection, the patience for the exchange that tries, and the way of news; then
        // the slow start and the last windows.
        edge.pass_for(Duration::from_secs(40));
        for core in &edge.cores {
            assert_eq!(core.out(), 0, "everybody is back");
        }
        edge.pass_for(Duration::from_secs(90));
        for core in &edge.cores {
            assert!(core.is_empty(), "nothing is remembered of healthy replicas");
        }
    });
}

#[test]
fn a_dead_origin_gets_next_to_nothing_while_others_live() {
    for_seeds(SEEDS, |seed| {
        let mut edge = Edge::new(seed);
        if edge.replicas < 2 {
            return;
        }
        let cores = edge.cores.len() as u32;
        edge.settings.failures_in_a_row = 5;
        edge.cores = (0..cores).map(|_| Ejections::new(edge.settings)).collect();
        edge.failing[0] = 100;
        edge.pass_for(Duration::from_secs(30));
        edge.asked.clear();
        edge.pass_for(Duration::from_secs(60));
        let dead = edge.asked.get(&0).copied().unwrap_or(0);
        // Every core tries once in the longest time, if not told that another one has.
        assert!(dead <= 12 * cores, "{dead} exchanges by {cores} cores");
        assert!(edge.asked.values().sum::<u32>() > 3_000);
    });
}
