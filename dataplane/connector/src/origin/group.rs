//! The addresses of a rule's origin as the whole process sees them: one state for all cores.
//!
//! Limits, turns and health hold for the process, so the cores share one [`OriginPool`] per rule. Its lock is
//! held for as long as a choice takes and never while anything waits. Rules without the keys for it have none
//! of this.
//!
//! ```text
//! admit ─► Permit ─► move_on … ─► report ─► dropped: the next in the queue goes on
//! ```
//! A [`Groups`] follows the ingress. A rule that keeps its hostname, path and service keeps its group, with
//! the health of its addresses and the exchanges under way, whatever else changes.
//!
//! Does not: connect ([`http_origin`](super::http_origin) and [`tcp`](super::tcp) do), check addresses
//! ([`check`](super::check) does).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use adit_driver::time::sleep_until;
use adit_proto::ingress::address::OriginAddress;
use adit_proto::ingress::{Ingress, Rule};
use adit_proto::origin_pool::health::{Outcome, Verdict};
use adit_proto::origin_pool::settings::{HealthCheck, PoolSettings};
use adit_proto::origin_pool::{ATTEMPTS_MAX, Admission, Change, Counts, Grant, MemberId, OriginPool, Ticket};
use tokio::sync::oneshot;

use crate::metrics::OriginMetrics;

/// Whoever waits looks at the time as often, as an address may come back meanwhile.
const WAIT_STEP: Duration = Duration::from_secs(1);

/// Refused exchanges are logged no more often than this.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Why an exchange got no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Busy {
    #[error("the origin is at its limit and as many exchanges wait as may")]
    QueueFull,
    #[error("the origin was at its limit for as long as an exchange may wait")]
    TimedOut,
}

/// What a group is known by when rules change: hostname, path and service of its rule.
type Name = [Box<str>; 3];

/// An address and its name in the group.
pub(crate) type Address = (MemberId, Arc<OriginAddress>);

/// The groups of the ingress in force.
#[derive(Debug)]
pub(crate) struct Groups {
    metrics: Arc<OriginMetrics>,
    seed: u64,
}

/// The addresses of one rule.
#[derive(Debug)]
pub(crate) struct Group {
    name: Name,
    metrics: Arc<OriginMetrics>,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Arc<PoolSettings>,
    pool: OriginPool,
    waiting: BTreeMap<Ticket, oneshot::Sender<Grant>>,
    refusal_logged_at: Option<Instant>,
}

/// The right to an exchange with one address; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    group: Arc<Group>,
    /// `None` only while it changes hands.
    grant: Option<Grant>,
    address: Arc<OriginAddress>,
    member: MemberId,
    tried: Vec<MemberId>,
}

/// A place in the queue; leaves it when dropped.
struct Waiting<'a> {
    group: &'a Arc<Group>,
    ticket: Ticket,
    granted: oneshot::Receiver<Grant>,
}

impl Groups {
    pub(crate) fn new(metrics: Arc<OriginMetrics>, seed: u64) -> Self {
        Self { metrics, seed }
    }

    /// The groups of `ingress` by position of the rule; those that were there `before` are kept.
    pub(crate) fn follow(&self, ingress: &Ingress, before: &[Option<Arc<Group>>]) -> Vec<Option<Arc<Group>>> {
        let group = |rule: &Rule| {
            let settings = rule.pool.as_ref()?;
            let name = name(rule);
            let known = before.iter().flatten().find(|group| group.name == name);
            Some(match known {
                Some(known) => {
                    known.reconfigure(settings);
                    Arc::clone(known)
                }
                None => Arc::new(Group::new(name, self, settings)),
            })
        };
        ingress.rules().iter().map(group).collect()
    }

    /// What the groups count together.
    pub(crate) fn metrics(&self) -> &OriginMetrics {
        &self.metrics
    }
}

fn name(rule: &Rule) -> Name {
    let path = rule.path.as_ref().map_or("", |path| path.as_str());
    [
        rule.hostname.to_string().into(),
        path.into(),
        rule.service.to_string().into(),
    ]
}

impl Group {
    fn new(name: Name, groups: &Groups, settings: &Arc<PoolSettings>) -> Self {
        Self {
            name,
            metrics: Arc::clone(&groups.metrics),
            shared: Mutex::new(Shared {
                settings: Arc::clone(settings),
                pool: OriginPool::new(Arc::clone(settings), groups.seed),
                waiting: BTreeMap::new(),
                refusal_logged_at: None,
            }),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn service(&self) -> &str {
        let [_, _, service] = &self.name;
        service
    }

    fn reconfigure(&self, settings: &Arc<PoolSettings>) {
        let now = Instant::now();
        let mut shared = self.shared();
        shared.settings = Arc::clone(settings);
        shared.pool.reconfigure(Arc::clone(settings), now);
        shared.hand_out(now);
    }

    /// An address for an exchange, as soon as there is one with room.
    pub(crate) async fn admit(self: &Arc<Self>) -> Result<Permit, Busy> {
        let now = Instant::now();
        let (mut waiting, deadline) = {
            let mut shared = self.shared();
            match shared.pool.admit(now) {
                Admission::Granted(grant) => return Ok(Permit::new(self, grant)),
                Admission::Refused => return Err(self.refuse(&mut shared, Busy::QueueFull)),
                Admission::Waits(ticket) => {
                    let (sender, granted) = oneshot::channel();
                    shared.waiting.insert(ticket, sender);
                    let waiting = Waiting {
                        group: self,
                        ticket,
                        granted,
                    };
                    (waiting, now + shared.pool.pending_timeout())
                }
            }
        };
        self.metrics.waited.add(1);
        loop {
            let step = Instant::now() + WAIT_STEP;
            let returns_at = self.shared().pool.poll_timeout();
            let until = returns_at.map_or(step, |at| at.min(step)).min(deadline);
            tokio::select! {
                biased;
                granted = &mut waiting.granted => match granted {
                    Ok(grant) => return Ok(Permit::new(self, grant)),
                    Err(_) => return Err(Busy::TimedOut),
                },
                () = sleep_until(until) => {}
            }
            let now = Instant::now();
            let mut shared = self.shared();
            shared.pool.handle_timeout(now);
            shared.hand_out(now);
            if deadline <= now {
                let late = waiting.granted.try_recv();
                return late
                    .map(|grant| Permit::new(self, grant))
                    .map_err(|_| self.refuse(&mut shared, Busy::TimedOut));
            }
        }
    }

    fn refuse(&self, shared: &mut Shared, why: Busy) -> Busy {
        match why {
            Busy::QueueFull => self.metrics.refused_full.add(1),
            Busy::TimedOut => self.metrics.refused_late.add(1),
        }
        let now = Instant::now();
        let logged_at = shared.refusal_logged_at;
        if logged_at.is_none_or(|at| now.saturating_duration_since(at) >= LOG_INTERVAL) {
            shared.refusal_logged_at = Some(now);
            let counts = shared.pool.counts(now);
            tracing::warn!(
                originService = self.service(),
                in_flight = counts.in_flight,
                waiting = counts.waiting,
                why = %why,
                "An origin is at its limit; exchanges are refused with 503"
            );
        }
        why
    }

    /// What a check of an address has found; whether that changes anything.
    pub(crate) fn checked(&self, member: MemberId, is_well: bool) -> bool {
        let result = if is_well {
            &self.metrics.checks_ok
        } else {
            &self.metrics.checks_failed
        };
        result.add(1);
        let now = Instant::now();
        let mut shared = self.shared();
        let change = shared.pool.checked(member, is_well, now);
        shared.hand_out(now);
        drop(shared);
        let is_news = change.is_some();
        self.tell(change);
        is_news
    }

    /// Whether checks of all of its addresses fail.
    pub(crate) fn is_down(&self) -> bool {
        let counts = self.counts();
        counts.down > 0 && counts.up + counts.ejected == 0
    }

    /// How addresses are to be checked, and which there are.
    pub(crate) fn to_check(&self) -> Option<(HealthCheck, Vec<Address>)> {
        let shared = self.shared();
        let check = shared.settings.check.clone()?;
        let addresses = shared.pool.addresses();
        Some((
            check,
            addresses.map(|(id, address)| (id, Arc::clone(address))).collect(),
        ))
    }

    /// How it stands.
    pub(crate) fn counts(&self) -> Counts {
        self.shared().pool.counts(Instant::now())
    }

    fn tell(&self, change: Option<Change>) {
        let Some(change) = change else { return };
        let (service, address) = (self.service(), &change.address);
        match change.verdict {
            Verdict::Ejected(length) => {
                self.metrics.ejections.add(1);
                tracing::warn!(originService = service, %address, length = ?length, "An address of an origin fails and is left out");
            }
            Verdict::Down => {
                tracing::warn!(originService = service, %address, "Checks of an address of an origin fail")
            }
            Verdict::Returned | Verdict::Up => {
                tracing::info!(originService = service, %address, "An address of an origin works again");
            }
        }
        if change.is_last {
            tracing::error!(
                originService = service,
                "No address of an origin seems to work; all of them are used until one does"
            );
        }
    }
}

impl Shared {
    /// Tells those that wait no longer.
    fn hand_out(&mut self, now: Instant) {
        while let Some((ticket, grant)) = self.pool.poll_granted() {
            let unwanted = match self.waiting.remove(&ticket) {
                Some(sender) => sender.send(grant).err(),
                None => Some(grant),
            };
            if let Some(grant) = unwanted {
                self.pool.release(grant, now);
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut shared = self.group.shared();
        shared.waiting.remove(&self.ticket);
        // Granted in the moment in which nobody wanted it any more.
        if !shared.pool.cancel(self.ticket)
            && let Ok(grant) = self.granted.try_recv()
        {
            shared.pool.release(grant, now);
            shared.hand_out(now);
        }
    }
}

impl Permit {
    fn new(group: &Arc<Group>, grant: Grant) -> Self {
        Self {
            group: Arc::clone(group),
            address: Arc::clone(&grant.address),
            member: grant.member,
            grant: Some(grant),
            tried: Vec::new(),
        }
    }

    /// Where to.
    pub(crate) fn address(&self) -> &Arc<OriginAddress> {
        &self.address
    }

    /// Its name in the group.
    pub(crate) fn member(&self) -> MemberId {
        self.member
    }

    /// Says what came of it, once.
    pub(crate) fn report(&self, outcome: Outcome) {
        let Some(grant) = &self.grant else { return };
        let now = Instant::now();
        let mut shared = self.group.shared();
        let change = shared.pool.report(grant, outcome, now);
        shared.hand_out(now);
        drop(shared);
        self.group.tell(change);
    }

    /// Changes to an address that this exchange has not tried; whether there is one.
    pub(crate) fn move_on(&mut self) -> bool {
        self.tried.push(self.member);
        if self.tried.len() >= ATTEMPTS_MAX {
            return false;
        }
        let Some(grant) = self.grant.take() else {
            return false;
        };
        let now = Instant::now();
        let mut shared = self.group.shared();
        let moved = shared.pool.move_on(grant, &self.tried, now);
        shared.hand_out(now);
        let has_moved = moved.is_ok();
        let (Ok(grant) | Err(grant)) = moved;
        if has_moved {
            self.group.metrics.retries.add(1);
        }
        self.address = Arc::clone(&grant.address);
        self.member = grant.member;
        self.grant = Some(grant);
        has_moved
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(grant) = self.grant.take() {
            let now = Instant::now();
            let mut shared = self.group.shared();
            shared.pool.release(grant, now);
            shared.hand_out(now);
        }
    }
}
