//! Which connection takes an exchange, and what exchanges show of the replicas' origins.

use std::time::Instant;

use adit_proto::directory::{RulePath, Slot};
use adit_proto::ejection::{Standing, Told, Trier};
use adit_proto::exchange::delivery::{Doubted, Search, Shown};
use adit_proto::exchange::retry::Failure;
use adit_proto::steering::{Ask, NoConnection, PolicyName, Tried, choose};

use super::super::host::LinkId;
use super::super::ledger::Ledger;
use super::Edge;
use super::exchanges::{Chosen, State};

impl Edge {
    pub(super) fn choose(
        &mut self,
        now: Instant,
        number: u64,
        search: Search,
    ) -> Result<Chosen, NoConnection> {
        self.choose_without(
            now,
            number,
            self.exchanges[&number].delivery.tried().clone(),
            search,
        )
    }

    fn choose_without(
        &mut self,
        now: Instant,
        number: u64,
        tried: Tried,
        search: Search,
    ) -> Result<Chosen, NoConnection> {
        self.seed += 1;
        let exchange = &self.exchanges[&number];
        let (tunnel, host) = (exchange.tunnel, &exchange.hostname);
        let known = self.ejections.known(tunnel, host, self.seed, search.trier, now);
        let ask = Ask {
            tunnel,
            host,
            path: "/",
            policy: PolicyName::default(),
            core: 0,
            tried: &tried,
            needs_trailers: false,
            prefers_ours: false,
            takes_doubted: search.doubted == Doubted::Taken,
            known,
            seed: self.seed,
        };
        let live = choose(&self.directory, &ask, |link| self.in_flight(*link))?;
        let chosen = Chosen {
            id: live.id,
            slot: live.slot,
            link: live.handle,
        };
        let connector = live.slot.connector;
        if known.is_some_and(|known| known.standing((connector, RulePath::EVERY)) == Standing::Trial) {
            let (tunnel, host) = (tunnel, host.clone());
            self.ejections
                .begin_trial(tunnel, &host, (connector, RulePath::EVERY), now);
        }
        Ok(chosen)
    }

    pub(super) fn in_flight(&self, link: LinkId) -> u32 {
        let exchanges = self.exchanges.values().filter(|exchange| match &exchange.state {
            State::Sent(attempt) => attempt.chosen.link == link,
            State::Answering { link: of, .. } => *of == link,
            State::Waiting { .. } => false,
        });
        exchanges.count() as u32
    }

    /// Says what an attempt has shown of the replica's origin.
    pub(super) fn judge(&mut self, now: Instant, number: u64, slot: Slot, shown: Option<Shown>) {
        let (Some(exchange), Some(shown)) = (self.exchanges.get(&number), shown) else {
            return;
        };
        let (tunnel, host) = (exchange.tunnel, &exchange.hostname);
        let serving = self.directory.candidates(tunnel, host, "/");
        let serving = serving.filter(|candidate| candidate.serves);
        let mut replicas: Vec<_> = serving
            .map(|candidate| (candidate.live.slot.connector, candidate.path))
            .collect();
        replicas.dedup();
        let told = Told {
            tunnel,
            host,
            connector: slot.connector,
            path: RulePath::EVERY,
            outcome: shown.outcome,
            sent: shown.sent,
        };
        self.ejections.report(&told, &replicas, now);
    }

    /// Asks elsewhere what a late connector may have lost, if another replica can answer.
    pub(super) fn look(&mut self, now: Instant, number: u64, ledger: &mut Ledger) {
        let Some(exchange) = self.exchanges.get(&number) else {
            return;
        };
        let State::Sent(attempt) = &exchange.state else {
            return;
        };
        let is_late = self
            .directory
            .get(attempt.chosen.id)
            .is_some_and(|live| live.is_doubted);
        if !attempt.may_look {
            return;
        }
        let Some(tried) = exchange.delivery.look(now, is_late, &self.budget) else {
            return;
        };
        let search = Search {
            doubted: Doubted::Avoided,
            trier: Trier::No,
        };
        if self.choose_without(now, number, tried, search).is_ok() {
            self.fail(now, number, Failure::Doubted, ledger);
        }
    }
}
