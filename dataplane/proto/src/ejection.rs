//! Which replicas are left out for which hostname, because exchanges with them fail although the connection
//! works. Where a replica's rules for some paths of a hostname are known, each of them is left out by itself.
//!
//! ```text
//! report ─► a replica fails ─► may one more go? ─► out ─► news for the other cores
//!                                └ no: it stays, because the few that are left could not bear all the load
//! ```
//! A replica that works has no entry, so an edge without trouble looks at one empty map. The states of a
//! replica are in [`replica`]. At most a share of a hostname's replicas is out, and never the last one. Cores
//! decide apart from each other, so all replicas may be out at once; [`steering`](crate::steering) then uses
//! them as if none was.
//!
//! Each core of an edge has such a table, fed by its own exchanges and by the others' [`News`].
//!
//! Bounded by [`PAIRS_MAX`] replicas in all, and [`PAIRS_PER_TUNNEL_MAX`] of one tunnel: any visitor can
//! invent names below a wildcard. Above these limits a failure is counted but not remembered.
//!
//! The numbers and the growing time are those of Envoy's outlier detection. The trial by one exchange is
//! nginx's.
//!
//! Does not: judge what a failure is (the caller does), choose among replicas.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use adit_wire::{ConnectorId, Hostname, TunnelId};

mod replica;

use crate::directory::RulePath;
use crate::exchange::retry::Failure;
pub use replica::{BACK_PERCENT_MIN, Standing, TRIAL_PATIENCE, Trier, WINDOW, WINDOW_EXCHANGES_MIN};
use replica::{Change, Replica};

/// Pairs of replica and hostname remembered by one core, about 3 MB.
pub const PAIRS_MAX: usize = 16_384;

/// Of these, those of one tunnel.
pub const PAIRS_PER_TUNNEL_MAX: usize = 1_024;

/// When replicas go and come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// So many failures in a row eject; 0 for never.
    pub failures_in_a_row: u32,
    /// This percentage of failed exchanges within [`WINDOW`] ejects, if there are [`WINDOW_EXCHANGES_MIN`]. 0
    /// never ejects.
    pub failure_percent: u32,
    /// So many of a hundred replicas of a hostname may be out, or one, but never all.
    pub share_percent: u32,
    /// The first ejection is so long; each that follows soon is twice as long as the one before.
    pub time: Duration,
    /// No ejection is longer.
    pub time_max: Duration,
    /// A replica that is back has its whole share after this.
    pub slow_start: Duration,
}

impl Settings {
    /// Whether replicas are ever ejected.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.failures_in_a_row > 0 || self.failure_percent > 0
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            failures_in_a_row: 5,
            failure_percent: 50,
            share_percent: 50,
            time: Duration::from_secs(5),
            time_max: Duration::from_secs(60),
            slow_start: Duration::from_secs(20),
        }
    }
}

/// What an exchange says about a replica's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answers.
    Answered,
    /// It does not.
    Failed,
}

impl Outcome {
    /// Returns what a failed attempt says of the origin, or `None` if it says nothing. An answer of any
    /// status says that the origin answers.
    #[must_use]
    pub const fn of(failure: Failure) -> Option<Self> {
        match failure {
            Failure::Reported | Failure::Unreached | Failure::Silent => Some(Self::Failed),
            // The fault of the connection, of the visitor, of a limit of the connector's, or a service that
            // is no HTTP.
            Failure::NotOpened
            | Failure::Lost
            | Failure::Doubted
            | Failure::Astray
            | Failure::Busy
            | Failure::Invalid
            | Failure::TooLarge => None,
        }
    }
}

/// Why a replica goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Failures in a row.
    InARow,
    /// Too many of the last exchanges failed.
    Rate,
    /// It was out, and the exchange that tried it failed.
    Trial,
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: usize = 3;

    /// All of them, in order.
    pub const ALL: [Self; Self::COUNT] = [Self::InARow, Self::Rate, Self::Trial];

    /// The word in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InARow => "in-a-row",
            Self::Rate => "rate",
            Self::Trial => "trial",
        }
    }
}

/// A replica, and its rule that takes an exchange of the hostname in question.
pub type Rule = (ConnectorId, RulePath);

/// Where paths are not known, a rule stands for the whole hostname.
fn known_as(rule: Rule) -> Rule {
    let (connector, path) = rule;
    if path == RulePath::UNKNOWN {
        (connector, RulePath::EVERY)
    } else {
        rule
    }
}

/// A replica as one hostname meets it, by one of its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The hostname.
    pub host: Hostname,
    /// The replica.
    pub connector: ConnectorId,
    /// Its rule for the hostname.
    pub path: RulePath,
}

/// What the other cores must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Of whom.
    pub pair: Pair,
    /// What has happened.
    pub event: Event,
}

/// What has happened to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It goes out.
    Ejected {
        /// Why.
        reason: Reason,
        /// Until when nothing tries it.
        until: Instant,
        /// How often it has gone by now.
        ejections: u32,
    },
    /// It has answered.
    Returned {
        /// When.
        at: Instant,
    },
}

/// What came of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing to tell.
    Noted,
    /// To be told to the other cores.
    News(News),
    /// It fails, and stays in because as many are out as may.
    Withheld,
    /// The table is full.
    Overflow,
}

/// One exchange's told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The hostname.
    pub host: &'a Hostname,
    /// The replica that was asked.
    pub connector: ConnectorId,
    /// Its rule that took the exchange.
    pub path: RulePath,
    /// What it says.
    pub outcome: Outcome,
    /// When it was sent.
    pub sent: Instant,
}

/// What one core knows.
#[derive(Clone, Debug)]
pub struct Ejections {
    settings: Settings,
    tunnels: BTreeMap<TunnelId, Tunnel>,
    pairs: usize,
}

#[derive(Clone, Debug, Default)]
struct Tunnel {
    hosts: BTreeMap<Hostname, Vec<(Rule, Replica)>>,
    pairs: usize,
}

/// The replicas of one hostname of which something is known, for one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    settings: &'a Settings,
    /// In order.
    replicas: &'a [(Rule, Replica)],
    dice: u32,
    trier: Trier,
    now: Instant,
}

impl Known<'_> {
    /// What to do with one of them.
    #[must_use]
    pub fn standing(&self, rule: Rule) -> Standing {
        let rule = known_as(rule);
        let found = self.replicas.binary_search_by_key(&rule, |(id, _)| *id);
        let replica = found.ok().and_then(|place| self.replicas.get(place));
        replica.map_or(Standing::In, |(_, replica)| {
            replica.standing(self.settings, self.dice, self.trier, self.now)
        })
    }
}

impl Ejections {
    /// A table without entries.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            tunnels: BTreeMap::new(),
            pairs: 0,
        }
    }

    /// Changes the settings; what is left out already stays so for its time.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// What is known for a hostname; `None` if nothing is, as nearly always. `seed` is the exchange's.
    #[must_use]
    pub fn known(
        &self,
        tunnel: TunnelId,
        host: &Hostname,
        seed: u64,
        trier: Trier,
        now: Instant,
    ) -> Option<Known<'_>> {
        if self.tunnels.is_empty() {
            return None;
        }
        let replicas = self.tunnels.get(&tunnel)?.hosts.get(host)?;
        Some(Known {
            settings: &self.settings,
            replicas,
            dice: (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % 100,
            trier,
            now,
        })
    }

    /// The exchange that tries a replica is on its way.
    pub fn begin_trial(&mut self, tunnel: TunnelId, host: &Hostname, rule: Rule, now: Instant) {
        let settings = self.settings;
        if let Some(replica) = self.find(tunnel, host, rule) {
            replica.begin_trial(&settings, now);
        }
    }

    /// What came of an exchange with one of those that serve it: each replica with the rule that takes the
    /// exchange there.
    pub fn report(&mut self, told: &Told<'_>, serving: &[Rule], now: Instant) -> Report {
        let is_failure = told.outcome == Outcome::Failed;
        if !self.settings.is_on() || (self.tunnels.is_empty() && !is_failure) {
            return Report::Noted;
        }
        let Told {
            tunnel,
            host,
            connector,
            path,
            ..
        } = *told;
        let rule = (connector, path);
        if self.find(tunnel, host, rule).is_none() && is_failure && !self.insert(tunnel, host, rule, now) {
            return Report::Overflow;
        }
        let settings = self.settings;
        let Some(replica) = self.find(tunnel, host, rule) else {
            return Report::Noted;
        };
        let Some(change) = replica.report(&settings, told.outcome, told.sent, now) else {
            return Report::Noted;
        };
        let event = match change {
            Change::Returned => Event::Returned { at: now },
            Change::Fails(reason) => {
                let was_out = replica.is_out();
                if !was_out && !self.may_eject(tunnel, host, serving) {
                    return Report::Withheld;
                }
                let Some(replica) = self.find(tunnel, host, rule) else {
                    return Report::Noted;
                };
                let until = replica.eject(&settings, now);
                let ejections = replica.ejections();
                Event::Ejected {
                    reason,
                    until,
                    ejections,
                }
            }
        };
        let host = host.clone();
        Report::News(News {
            pair: Pair {
                tunnel,
                host,
                connector,
                path,
            },
            event,
        })
    }

    /// Follows another core; whether that changes anything.
    pub fn hear(&mut self, news: &News, now: Instant) -> bool {
        let Pair {
            tunnel,
            host,
            connector,
            path,
        } = &news.pair;
        let (settings, rule) = (self.settings, (*connector, *path));
        match news.event {
            Event::Ejected { until, ejections, .. } => {
                if self.find(*tunnel, host, rule).is_none() && !self.insert(*tunnel, host, rule, now) {
                    return false;
                }
                let Some(replica) = self.find(*tunnel, host, rule) else {
                    return false;
                };
                replica.go_out(until, ejections, now);
                true
            }
            Event::Returned { at } => self
                .find(*tunnel, host, rule)
                .is_some_and(|replica| replica.follow_back(&settings, at)),
        }
    }

    /// A replica has gone: it comes back as another one, or with a clean slate.
    pub fn forget(&mut self, tunnel: TunnelId, connector: ConnectorId) {
        if let Some(entry) = self.tunnels.get_mut(&tunnel) {
            entry.retain(|(id, _), _| id != connector);
        }
        self.tidy();
    }

    /// Drops what is no longer worth knowing. To be called now and then.
    pub fn expire(&mut self, now: Instant) {
        for entry in self.tunnels.values_mut() {
            entry.retain(|_, replica| replica.is_kept(now));
        }
        self.tidy();
    }

    /// Pairs of replica and hostname that are out.
    #[must_use]
    pub fn out(&self) -> usize {
        let replicas = self.tunnels.values().flat_map(|entry| entry.hosts.values());
        replicas.flatten().filter(|(_, replica)| replica.is_out()).count()
    }

    /// Pairs that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs
    }

    /// Whether nothing is known of any replica.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tunnels.is_empty()
    }

    /// Whether one more of those that serve an exchange may go out.
    fn may_eject(&self, tunnel: TunnelId, host: &Hostname, serving: &[Rule]) -> bool {
        let known = self.tunnels.get(&tunnel).and_then(|entry| entry.hosts.get(host));
        let out = known
            .into_iter()
            .flatten()
            .filter(|(id, replica)| replica.is_out() && serving.iter().any(|rule| known_as(*rule) == *id));
        let share = serving.len().saturating_mul(self.settings.share_percent as usize) / 100;
        out.count() < share.max(1).min(serving.len().saturating_sub(1))
    }

    fn find(&mut self, tunnel: TunnelId, host: &Hostname, rule: Rule) -> Option<&mut Replica> {
        let rule = known_as(rule);
        let replicas = self.tunnels.get_mut(&tunnel)?.hosts.get_mut(host)?;
        let place = replicas.binary_search_by_key(&rule, |(id, _)| *id).ok()?;
        replicas.get_mut(place).map(|(_, replica)| replica)
    }

    /// Makes an entry; false if there is no room.
    fn insert(&mut self, tunnel: TunnelId, host: &Hostname, rule: Rule, now: Instant) -> bool {
        let rule = known_as(rule);
        if self.pairs >= PAIRS_MAX {
            return false;
        }
        let entry = self.tunnels.entry(tunnel).or_default();
        if entry.pairs >= PAIRS_PER_TUNNEL_MAX {
            return false;
        }
        let replicas = entry.hosts.entry(host.clone()).or_default();
        if let Err(place) = replicas.binary_search_by_key(&rule, |(id, _)| *id) {
            replicas.insert(place, (rule, Replica::new(now)));
            entry.pairs += 1;
            self.pairs += 1;
        }
        true
    }

    /// Counts anew after entries have gone.
    fn tidy(&mut self) {
        self.tunnels.retain(|_, entry| entry.pairs > 0);
        self.pairs = self.tunnels.values().map(|entry| entry.pairs).sum();
    }
}

impl Tunnel {
    fn retain(&mut self, mut is_kept: impl FnMut(Rule, &mut Replica) -> bool) {
        self.hosts.retain(|_, replicas| {
            replicas.retain_mut(|(id, replica)| is_kept(*id, replica));
            !replicas.is_empty()
        });
        self.pairs = self.hosts.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests;
