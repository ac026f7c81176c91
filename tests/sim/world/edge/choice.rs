//! Which connection takes an exchange, and what exchanges show of the replicas' origins.

use std::time::Instant;

use adit_proto::directory::Slot;
use adit_proto::ejection::{Outcome as Shown, Standing, Told, Trier};
use adit_proto::exchange::retry::{ATTEMPTS_MAX, Failure, RETRY_DEADLINE};
use adit_proto::steering::{Ask, NoConnection, choose};
use adit_wire::ConnectionId;

use super::super::host::LinkId;
use super::super::ledger::Ledger;
use super::Edge;
use super::exchanges::State;

impl Edge {
    pub(super) fn choose(
        &mut self,
        now: Instant,
        number: u64,
        takes_doubted: bool,
    ) -> Result<(ConnectionId, Slot, LinkId), NoConnection> {
        self.seed += 1;
        let exchange = &self.exchanges[&number];
        let trier = if exchange.last.is_some() {
            Trier::No
        } else if exchange.request.method.is_idempotent() {
            Trier::Repeatable
        } else {
            Trier::Once
        };
        let (tunnel, host) = (exchange.tunnel, &exchange.hostname);
        let known = self.ejections.known(tunnel, host, self.seed, trier, now);
        let ask = Ask {
            tunnel,
            host,
            core: 0,
            tried: &exchange.tried,
            needs_trailers: false,
            prefers_ours: false,
            takes_doubted,
            known,
            seed: self.seed,
        };
        let live = choose(&self.directory, &ask, |link| self.in_flight(*link))?;
        let chosen = (live.id, live.slot, live.handle);
        let connector = live.slot.connector;
        if known.is_some_and(|known| known.standing(connector) == Standing::Trial) {
            let (tunnel, host) = (tunnel, host.clone());
            self.ejections.begin_trial(tunnel, &host, connector, now);
        }
        Ok(chosen)
    }

    pub(super) fn in_flight(&self, link: LinkId) -> u32 {
        let exchanges = self.exchanges.values().filter(|exchange| match &exchange.state {
            State::Sent(attempt) => attempt.link == link,
            State::Answering { link: of, .. } => *of == link,
            State::Waiting { .. } => false,
        });
        exchanges.count() as u32
    }

    /// Says what an attempt has shown of the replica's origin.
    pub(super) fn judge(&mut self, now: Instant, number: u64, slot: Slot, outcome: Shown, sent: Instant) {
        let Some(exchange) = self.exchanges.get(&number) else {
            return;
        };
        let (tunnel, host) = (exchange.tunnel, &exchange.hostname);
        let serving = self.directory.candidates(tunnel, host);
        let serving = serving.filter(|candidate| candidate.serves);
        let mut replicas: Vec<_> = serving.map(|candidate| candidate.live.slot.connector).collect();
        replicas.dedup();
        let told = Told {
            tunnel,
            host,
            connector: slot.connector,
            outcome,
            sent,
        };
        self.ejections.report(&told, replicas.len(), now);
    }

    /// Asks elsewhere what a late connector may have lost, if another replica can answer.
    pub(super) fn look(&mut self, now: Instant, number: u64, ledger: &mut Ledger) {
        let Some(exchange) = self.exchanges.get(&number) else {
            return;
        };
        let State::Sent(attempt) = &exchange.state else {
            return;
        };
        let (id, connector, may_look) = (attempt.id, attempt.slot.connector, attempt.may_look);
        let may_move = exchange.request.body_bytes == 0
            && exchange.request.method.is_idempotent()
            && exchange.attempts < ATTEMPTS_MAX;
        let is_late = self.directory.get(id).is_some_and(|live| live.is_doubted);
        let has_time = now - exchange.began < RETRY_DEADLINE;
        if !(may_look && may_move && is_late && has_time && self.budget.has_token()) {
            return;
        }
        let mut tried = exchange.tried.clone();
        tried.barred.push(connector);
        self.seed += 1;
        let ask = Ask {
            tunnel: exchange.tunnel,
            host: &exchange.hostname,
            core: 0,
            tried: &tried,
            needs_trailers: false,
            prefers_ours: false,
            takes_doubted: false,
            known: None,
            seed: self.seed,
        };
        if choose(&self.directory, &ask, |link| self.in_flight(*link)).is_ok() {
            self.fail(now, number, Failure::Doubted, ledger);
        }
    }
}
