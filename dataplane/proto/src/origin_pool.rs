//! The addresses of one origin: which of them takes an exchange, and when none may.
//!
//! ```text
//! admit ─► granted ─────────────────────────────► report, release
//!   │         │ not connected: move_on to an address that was not tried
//!   ├► waits in the queue ─► granted by a release, or cancelled by whoever waits
//!   └► refused: the queue is full
//! ```
//! An exchange holds two places while its [`Grant`] lives: one of the origin's (`maxRequests`), one of its
//! address's (`maxConnections`). Neither limit is ever exceeded, and nobody waits while there is room. The
//! queue is first in, first out.
//!
//! Health ([`health`]) takes addresses out and lets them back in. When none is left, all are used: an origin
//! whose every address seems broken is still asked, and [`Change`] says so.
//!
//! Contract: after each call that may make room (`release`, `move_on`, `report`, `checked`, `reconfigure`,
//! `handle_timeout`), [`poll_granted`](OriginPool::poll_granted) is drained. No clock: `now` comes with every
//! call. Random choices come from a seed.
//!
//! Does not: connect, wait, or know what an exchange is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub mod health;
pub mod settings;

use crate::ingress::address::OriginAddress;
use health::{Health, Outcome, Verdict};
use settings::{Balancing, PoolSettings};

/// Addresses that one exchange is sent to at most, the first one included.
pub const ATTEMPTS_MAX: usize = 3;

/// Names an address for as long as its pool lives; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(u64);

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The right to one exchange with one address; must be given back by [`OriginPool::release`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a grant that is not released holds its place for ever"]
pub struct Grant {
    /// The address.
    pub member: MemberId,
    /// Where it is.
    pub address: Arc<OriginAddress>,
    /// The address was out, and this exchange shows whether it still is.
    is_trial: bool,
}

/// What becomes of an exchange that wants an address.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// It goes on.
    Granted(Grant),
    /// It waits; [`OriginPool::poll_granted`] names its ticket once there is room.
    Waits(Ticket),
    /// As many wait as may.
    Refused,
}

/// An address has changed sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it is.
    pub address: Arc<OriginAddress>,
    /// What has happened.
    pub verdict: Verdict,
    /// No address is left that seems to work, so all of them are used.
    pub is_last: bool,
}

/// What there is at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Addresses that exchanges are sent to.
    pub up: u64,
    /// Addresses that are out because exchanges with them failed.
    pub ejected: u64,
    /// Addresses that are out because checks of them failed.
    pub down: u64,
    /// Exchanges in the queue.
    pub waiting: u64,
    /// Exchanges under way.
    pub in_flight: u64,
}

/// The state of one origin.
#[derive(Debug)]
pub struct OriginPool {
    settings: Arc<PoolSettings>,
    /// In the order of the configuration, then those it no longer has.
    members: Vec<Member>,
    next_member: u64,
    in_flight: u32,
    waiting: VecDeque<Ticket>,
    next_ticket: u64,
    granted: VecDeque<(Ticket, Grant)>,
    /// Where the next turn of the addresses begins.
    turn: usize,
    random: u64,
}

#[derive(Debug)]
struct Member {
    id: MemberId,
    address: Arc<OriginAddress>,
    in_flight: u32,
    health: Health,
    /// The configuration no longer has it; it goes with its last exchange.
    is_retired: bool,
}

impl OriginPool {
    /// A pool whose addresses all seem to work; `seed` decides random choices.
    pub fn new(settings: Arc<PoolSettings>, seed: u64) -> Self {
        let mut pool = Self {
            settings: Arc::clone(&settings),
            members: Vec::new(),
            next_member: 0,
            in_flight: 0,
            waiting: VecDeque::new(),
            next_ticket: 0,
            granted: VecDeque::new(),
            turn: 0,
            random: seed,
        };
        pool.take_addresses(&settings);
        pool
    }

    /// Follows other settings. Addresses that stay keep their health and their exchanges.
    pub fn reconfigure(&mut self, settings: Arc<PoolSettings>, now: Instant) {
        self.take_addresses(&settings);
        self.settings = settings;
        self.serve(now);
    }

    fn take_addresses(&mut self, settings: &PoolSettings) {
        let mut before = std::mem::take(&mut self.members);
        for address in &settings.addresses {
            let known = before.iter().position(|member| member.address == *address);
            let member = match known {
                Some(place) => Member {
                    is_retired: false,
                    ..before.remove(place)
                },
                None => {
                    let id = MemberId(self.next_member);
                    self.next_member += 1;
                    Member {
                        id,
                        address: Arc::clone(address),
                        in_flight: 0,
                        health: Health::default(),
                        is_retired: false,
                    }
                }
            };
            self.members.push(member);
        }
        before.retain(|member| member.in_flight > 0);
        self.members.extend(before.into_iter().map(|member| Member {
            is_retired: true,
            ..member
        }));
    }

    /// An exchange wants an address.
    pub fn admit(&mut self, now: Instant) -> Admission {
        if self.waiting.is_empty()
            && let Some(grant) = self.grant(now)
        {
            return Admission::Granted(grant);
        }
        if self.waiting.len() >= self.settings.pending_max {
            return Admission::Refused;
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.push_back(ticket);
        Admission::Waits(ticket)
    }

    /// Whoever had `ticket` does not wait any more; `false` if it was granted already.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let place = self.waiting.binary_search(&ticket);
        if let Ok(place) = place {
            self.waiting.remove(place);
        }
        place.is_ok()
    }

    /// The next ticket that waits no longer.
    pub fn poll_granted(&mut self) -> Option<(Ticket, Grant)> {
        self.granted.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do: an address comes back and somebody
    /// waits for it.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let serving = self.serving().filter(|member| !self.is_full(member));
        serving.filter_map(|member| member.health.returns_at()).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.serve(now);
    }

    /// Exchanges `grant`, whose address could not be used, for one of an address that is not in `tried`. It
    /// never waits: an exchange that has met a failure is answered soon.
    ///
    /// # Errors
    /// The same grant if there is no such address.
    pub fn move_on(&mut self, grant: Grant, tried: &[MemberId], now: Instant) -> Result<Grant, Grant> {
        let Some(place) = self.choose(tried, now) else {
            return Err(grant);
        };
        let other = self.occupy(place, now);
        self.leave(grant, now);
        self.serve(now);
        Ok(other)
    }

    /// What came of the exchange of `grant`; to be told once, as soon as it is known.
    pub fn report(&mut self, grant: &Grant, outcome: Outcome, now: Instant) -> Option<Change> {
        let settings = Arc::clone(&self.settings);
        let member = self.member_mut(grant.member)?;
        let verdict = member.health.report(&settings, outcome, grant.is_trial, now)?;
        let change = self.change(grant.member, verdict, now);
        self.serve(now);
        change
    }

    /// What a check of an address has found.
    pub fn checked(&mut self, id: MemberId, is_well: bool, now: Instant) -> Option<Change> {
        let verdict = self.member_mut(id)?.health.checked(is_well)?;
        let change = self.change(id, verdict, now);
        self.serve(now);
        change
    }

    /// The exchange of `grant` is over.
    pub fn release(&mut self, grant: Grant, now: Instant) {
        debug_assert!(self.in_flight > 0, "every grant is counted");
        self.in_flight = self.in_flight.saturating_sub(1);
        self.leave(grant, now);
        self.serve(now);
    }

    /// The addresses of the configuration.
    pub fn addresses(&self) -> impl Iterator<Item = (MemberId, &Arc<OriginAddress>)> {
        self.serving().map(|member| (member.id, &member.address))
    }

    /// How long whoever waits may wait.
    pub fn pending_timeout(&self) -> Duration {
        self.settings.pending_timeout
    }

    /// How it stands.
    pub fn counts(&self, now: Instant) -> Counts {
        let mut counts = Counts {
            waiting: self.waiting.len() as u64,
            in_flight: u64::from(self.in_flight),
            ..Counts::default()
        };
        for member in self.serving() {
            let side = if member.health.is_down() {
                &mut counts.down
            } else if member.health.is_available(now) {
                &mut counts.up
            } else {
                &mut counts.ejected
            };
            *side += 1;
        }
        counts
    }

    fn serving(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_retired)
    }

    fn member_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }

    fn change(&self, id: MemberId, verdict: Verdict, now: Instant) -> Option<Change> {
        let member = self.members.iter().find(|member| member.id == id)?;
        Some(Change {
            address: Arc::clone(&member.address),
            verdict,
            is_last: !self.serving().any(|member| member.health.is_available(now)),
        })
    }

    /// Lets those in that wait, as far as there is room.
    fn serve(&mut self, now: Instant) {
        while !self.waiting.is_empty()
            && let Some(grant) = self.grant(now)
        {
            if let Some(ticket) = self.waiting.pop_front() {
                self.granted.push_back((ticket, grant));
            }
        }
    }

    fn grant(&mut self, now: Instant) -> Option<Grant> {
        if self
            .settings
            .requests_max
            .is_some_and(|max| self.in_flight >= max)
        {
            return None;
        }
        let place = self.choose(&[], now)?;
        self.in_flight += 1;
        Some(self.occupy(place, now))
    }

    fn occupy(&mut self, place: usize, now: Instant) -> Grant {
        self.turn = place + 1;
        let member = &mut self.members[place];
        member.in_flight += 1;
        Grant {
            member: member.id,
            address: Arc::clone(&member.address),
            is_trial: member.health.begin(now),
        }
    }

    fn leave(&mut self, grant: Grant, now: Instant) {
        let Some(place) = self.members.iter().position(|member| member.id == grant.member) else {
            return;
        };
        let member = &mut self.members[place];
        debug_assert!(member.in_flight > 0, "every grant is counted");
        member.in_flight = member.in_flight.saturating_sub(1);
        if grant.is_trial {
            member.health.end_trial(now);
        }
        if member.is_retired && member.in_flight == 0 {
            self.members.remove(place);
        }
    }

    fn is_full(&self, member: &Member) -> bool {
        let max = self.settings.connections_max;
        max.is_some_and(|max| member.in_flight >= max)
    }

    /// The place of the address for the next exchange; `None` if it has to wait, or all were tried.
    fn choose(&mut self, tried: &[MemberId], now: Instant) -> Option<usize> {
        let is_any_well = self.serving().any(|member| member.health.is_available(now));
        let is_fit = |pool: &Self, member: &Member| {
            !member.is_retired && !tried.contains(&member.id) && !pool.is_full(member)
        };
        if is_any_well {
            let well = self.pick(|pool, member| is_fit(pool, member) && member.health.is_available(now));
            // Once something was tried in vain, an address that may be broken is better than none.
            if well.is_some() || tried.is_empty() {
                return well;
            }
        }
        self.pick(is_fit)
    }

    /// One of the fit addresses, as the settings say.
    fn pick(&mut self, is_fit: impl Fn(&Self, &Member) -> bool) -> Option<usize> {
        let count = self.members.len();
        let places = (0..count).map(|step| (self.turn + step) % count);
        let mut fit = places.filter(|&place| is_fit(self, &self.members[place]));
        match self.settings.balancing {
            Balancing::RoundRobin => fit.next(),
            // The first of equals in their turn.
            Balancing::LeastConnections => fit.min_by_key(|&place| self.members[place].in_flight),
            Balancing::RandomTwo => {
                let fit: Vec<usize> = fit.collect();
                let mut any = || {
                    let random = self.next_random();
                    // A multiplication spreads as well as a division.
                    fit.get(((u128::from(random) * fit.len() as u128) >> 64) as usize)
                        .copied()
                };
                let (one, other) = (any()?, any()?);
                let is_other_less = self.members[other].in_flight < self.members[one].in_flight;
                Some(if is_other_less { other } else { one })
            }
        }
    }

    /// SplitMix64: enough to spread choices, and reproducible.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
