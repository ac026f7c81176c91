//! What exchanges show of the origins behind replicas, on one core: which replicas are left out, and for how
//! long.
//!
//! The table itself is [`adit_proto::ejection`]. Each core has its own and judges by its own exchanges, so a
//! request takes no lock. What one core decides, all hear by mailbox. An exchange of a hostname without
//! trouble looks at an empty map twice: when it is sent and when it is answered. A decision costs one message
//! to each other core, at most one per pair of replica and hostname within the shortest ejection.

use std::time::Duration;

use adit_driver::time::{Instant, now};
use adit_proto::directory::{Slot, ToldHealth};
use adit_proto::ejection::{Event, News, Outcome, Report, Rule, Settings, Told};
use adit_wire::{Hostname, TunnelId};

use super::{Choice, CoreNews, Tunnels};
use crate::metrics::CoreMetrics;

impl Tunnels {
    /// Changes what [`Tunnels::new`] was told, for what happens from now on.
    pub(crate) fn set(&self, reconnect_wait: Duration, ejection: Settings) {
        self.absent.set_limit(reconnect_wait);
        self.ejections.borrow_mut().set(ejection);
    }

    /// An exchange that was sent at `sent` has shown something of the origin behind `choice`.
    pub(crate) fn judge(
        &self,
        tunnel: TunnelId,
        (host, path): (&Hostname, &str),
        choice: &Choice,
        (outcome, sent): (Outcome, Instant),
        metrics: &CoreMetrics,
    ) {
        if outcome == Outcome::Answered && self.ejections.borrow().is_empty() {
            return;
        }
        let by = self.registry.directory().path_rule(&choice.slot, host, path);
        let told = Told {
            tunnel,
            host,
            connector: choice.connector(),
            path: by,
            outcome,
            sent,
        };
        let serving = self.serving(tunnel, host, path);
        let report = self.ejections.borrow_mut().report(&told, &serving, now());
        match report {
            Report::Noted => {}
            Report::Withheld => metrics.ejections_withheld.add(1),
            Report::Overflow => metrics.ejections_forgone.add(1),
            Report::News(news) => {
                note(&news, metrics);
                self.tell_others(&CoreNews::Health(Box::new(news)));
            }
        }
    }

    /// Drops what is no longer worth knowing. Returns how many replicas are left out, each counted once per
    /// hostname.
    pub(crate) fn look_at_health(&self) -> usize {
        let mut ejections = self.ejections.borrow_mut();
        if !ejections.is_empty() {
            ejections.expire(now());
        }
        ejections.out()
    }

    /// Takes over what a replica says of its origins, and tells the other cores.
    pub(crate) fn tell_health(&self, slot: &Slot, health: ToldHealth) {
        let (tunnel, connector) = (slot.tunnel, slot.connector);
        let is_all_well = health.is_all_well();
        let is_news = self
            .registry
            .change(|directory| directory.set_health(tunnel, connector, health.clone()));
        // A replica tells on each of its connections.
        if !is_news {
            return;
        }
        if is_all_well {
            tracing::info!(%tunnel, replica = %connector, "a replica says that its origins work");
        } else {
            tracing::warn!(%tunnel, replica = %connector, hosts = %health,
                "a replica says that checks of its origins fail; others are preferred for these hostnames");
        }
        self.tell_others(&CoreNews::ToldHealth {
            tunnel,
            connector,
            health,
        });
    }

    /// Replicas that say that an origin of theirs is down.
    pub(crate) fn told_down(&self) -> usize {
        self.registry.directory().told_down()
    }

    pub(super) fn begin_trial(&self, tunnel: TunnelId, host: &Hostname, rule: Rule) {
        let mut ejections = self.ejections.borrow_mut();
        ejections.begin_trial(tunnel, host, rule, now());
    }

    pub(super) fn hear_health(&self, news: &News) {
        self.ejections.borrow_mut().hear(news, now());
    }

    /// A connection has left; a replica without any is forgotten.
    pub(super) fn forget_health(&self, slot: &Slot) {
        let is_gone = self
            .registry
            .directory()
            .of(slot.tunnel, Some(slot.connector))
            .next()
            .is_none();
        if is_gone {
            self.ejections.borrow_mut().forget(slot.tunnel, slot.connector);
        }
    }

    /// Replicas that take exchanges for a path of the hostname, each with the rule that does.
    fn serving(&self, tunnel: TunnelId, host: &Hostname, path: &str) -> Vec<Rule> {
        let directory = self.registry.directory();
        let serving = directory
            .candidates(tunnel, host, path)
            .filter(|candidate| candidate.serves && candidate.serves_path);
        let mut replicas: Vec<_> = serving
            .map(|candidate| (candidate.live.slot.connector, candidate.path))
            .collect();
        // They come replica by replica.
        replicas.dedup();
        replicas
    }
}

fn note(news: &News, metrics: &CoreMetrics) {
    let (pair, host) = (&news.pair, news.pair.host.as_str());
    match news.event {
        Event::Ejected { reason, until, .. } => {
            if let Some(counter) = metrics.ejections.get(reason as usize) {
                counter.add(1);
            }
            let length = until.saturating_duration_since(now());
            tracing::warn!(tunnel = %pair.tunnel, replica = %pair.connector, host, reason = reason.as_str(),
                length = ?length, "exchanges with a replica's origin fail; the replica is left out");
        }
        Event::Returned { .. } => {
            tracing::info!(tunnel = %pair.tunnel, replica = %pair.connector, host, "a replica's origin answers again");
        }
    }
}
