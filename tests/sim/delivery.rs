//! One request after another through [`Delivery`] alone, with whatever may happen to each.
//!
//! A driver of no will of its own does what the machine says. What comes of it is drawn. Three things are
//! checked: what an origin may have seen is sent again only if that does no harm, nothing is sent without
//! end, and the visitor is told what happened last.

use std::time::{Duration, Instant};

use adit_proto::ejection::Outcome;
use adit_proto::exchange::delivery::{Aim, Delivery, Doubted, Due, LOOK_AFTER, Request, Search, Step};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::retry::{ATTEMPTS_MAX, Budget, Failure, Held, RETRY_DEADLINE};
use adit_proto::steering::{NoConnection, Tried};
use adit_wire::{ConnectionId, ConnectorId};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::seeds::for_seeds;

const SEEDS: u64 = 20_000;

/// Connections of a replica, and replicas.
const CONNECTIONS: u128 = 2;
const REPLICAS: u128 = 4;

/// Steps of one exchange, beyond which it has no end: every wait may succeed in vain a few times.
const STEPS_MAX: usize = 100;

const FAILURES: [Failure; 10] = [
    Failure::NotOpened,
    Failure::Lost,
    Failure::Doubted,
    Failure::Reported,
    Failure::Unreached,
    Failure::Astray,
    Failure::Busy,
    Failure::Invalid,
    Failure::TooLarge,
    Failure::Silent,
];

const NONE: [NoConnection; 6] = [
    NoConnection::Down,
    NoConnection::NotServed,
    NoConnection::NoTrailers,
    NoConnection::Doubted,
    NoConnection::AllTried,
    NoConnection::Full,
];

/// Whether the origin may have got the request of an attempt that failed so.
fn may_be_seen(failure: Failure) -> bool {
    match failure {
        Failure::NotOpened | Failure::Unreached | Failure::Astray | Failure::Busy => false,
        Failure::Lost
        | Failure::Doubted
        | Failure::Reported
        | Failure::Invalid
        | Failure::TooLarge
        | Failure::Silent => true,
    }
}

struct World {
    rng: SmallRng,
    start: Instant,
    now: Instant,
    request: Request,
    held: Held,
    delivery: Delivery,
    budget: Budget,
    /// Attempts and how they failed, the present one excluded.
    failed: Vec<Failure>,
    sent: u32,
    waits: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let start = Instant::now();
        let aim = match rng.random_range(0..6) {
            0 => Aim::Management(None),
            1 => Aim::Management(Some(ConnectorId(Uuid::from_u128(1)))),
            _ => Aim::Origin,
        };
        let request = Request {
            aim,
            is_idempotent: rng.random_bool(0.6),
            has_body: rng.random_bool(0.4),
            began: start,
        };
        let mut budget = Budget::default();
        Self {
            delivery: Delivery::new(request, &mut budget),
            rng,
            start,
            now: start,
            request,
            held: Held::Whole,
            budget,
            failed: Vec::new(),
            sent: 0,
            waits: 0,
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(self.rng.random_range(0..=millis));
    }

    fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            let step = self.delivery.poll_step();
            assert_eq!(step, self.delivery.poll_step(), "asking changes nothing");
            match step {
                Step::Choose(search) => self.choose(search),
                Step::ChooseReplica(connector) => {
                    assert_eq!(self.request.aim, Aim::Management(connector));
                    self.choose_any(true);
                }
                Step::Wait { .. } => self.wait(),
                Step::Send => self.send(),
                Step::Answered => return,
                Step::Fail(code) => return self.check_told(code),
            }
        }
        panic!("no end after {STEPS_MAX} steps");
    }

    fn choose(&mut self, search: Search) {
        assert_eq!(self.request.aim, Aim::Origin);
        self.choose_any(search.doubted == Doubted::Taken);
    }

    /// As steering does: never what was tried, never of a barred replica.
    fn choose_any(&mut self, is_last_resort: bool) {
        let tried = self.delivery.tried();
        assert_eq!(tried.connections.len(), self.failed.len(), "each is remembered");
        let free: Vec<_> = (0..REPLICAS * CONNECTIONS)
            .filter(|number| is_free(tried, *number))
            .collect();
        let is_found = !free.is_empty() && self.rng.random_bool(if is_last_resort { 0.5 } else { 0.8 });
        let found = if is_found {
            let number = free[self.rng.random_range(0..free.len())];
            Ok((connection(number), connector(number)))
        } else if free.is_empty() {
            Err(NoConnection::AllTried)
        } else {
            Err(NONE[self.rng.random_range(0..NONE.len())])
        };
        self.delivery.handle_choice(self.now, found);
    }

    fn wait(&mut self) {
        assert_eq!(self.request.aim, Aim::Origin, "management is not waited for");
        self.waits += 1;
        self.pass(10_000);
        // Each wait has an end, and a tunnel does not come back for ever.
        let is_back = self.waits < 8 && self.rng.random_bool(0.7);
        self.delivery.handle_return(is_back);
    }

    fn send(&mut self) {
        self.sent += 1;
        assert!(self.sent <= ATTEMPTS_MAX && self.sent == self.delivery.attempts());
        if self.failed.iter().copied().any(may_be_seen) {
            assert!(
                self.request.is_idempotent,
                "a deed may be done twice after {:?}",
                self.failed
            );
        }
        if !self.failed.is_empty() {
            assert_eq!(self.held, Held::Whole, "the body is not there any more");
        }
        if self.request.has_body && self.rng.random_bool(0.2) {
            self.held = Held::Gone;
        }
        let Some(failure) = self.await_answer() else {
            let shown = self.delivery.handle_answer();
            assert_eq!(
                shown.map(|shown| shown.outcome),
                self.of_origin(Some(Outcome::Answered))
            );
            return;
        };
        let failed_at = self.now;
        let shown = self
            .delivery
            .handle_failure(self.now, failure, self.held, &mut self.budget);
        assert_eq!(
            shown.map(|shown| shown.outcome),
            self.of_origin(Outcome::of(failure))
        );
        self.failed.push(failure);
        if !matches!(self.delivery.poll_step(), Step::Fail(_)) {
            assert!(
                failed_at < self.start + RETRY_DEADLINE,
                "a retry is decided too late"
            );
        }
    }

    /// The life of one attempt under its watch: `None` for an answer.
    fn await_answer(&mut self) -> Option<Failure> {
        let limit = Duration::from_secs(self.rng.random_range(1..=20));
        let (sent, mut active_at, mut is_looking) = (self.now, self.now, false);
        let mut watch = self.delivery.watch(sent, limit);
        loop {
            let due = watch.poll_timeout(active_at);
            // Most attempts end soon, or a second one would hardly ever fail in time for a third.
            let scale = [50, 1_000, 30_000][self.rng.random_range(0..3)];
            let event_at = self.now + Duration::from_millis(self.rng.random_range(0..=scale));
            if event_at < due {
                self.now = event_at;
                match self.rng.random_range(0..4) {
                    // Some of the body has moved.
                    0 => active_at = self.now,
                    1 => return None,
                    // News of a late connector.
                    2 if is_looking && self.is_movable() => return Some(Failure::Doubted),
                    2 => {}
                    _ => return Some(self.any_failure()),
                }
                continue;
            }
            self.now = due.max(self.now);
            match watch.handle_timeout(self.now, active_at) {
                Some(Due::Look) => {
                    assert!(!is_looking && self.now >= sent + LOOK_AFTER);
                    is_looking = true;
                }
                Some(Due::Silence) => {
                    assert!(self.now >= active_at + limit);
                    return Some(Failure::Silent);
                }
                None => {}
            }
        }
    }

    /// Whether another replica can be asked at once, and what then is left out.
    fn is_movable(&mut self) -> bool {
        let is_doubted = self.rng.random_bool(0.7);
        let Some(without) = self.delivery.look(self.now, is_doubted, &self.budget) else {
            return false;
        };
        let Request {
            aim,
            is_idempotent,
            has_body,
            ..
        } = self.request;
        assert!(is_doubted && aim == Aim::Origin && is_idempotent && !has_body);
        assert!(self.sent < ATTEMPTS_MAX && self.now < self.start + RETRY_DEADLINE);
        assert_eq!(without.barred.len(), self.delivery.tried().barred.len() + 1);
        (0..REPLICAS * CONNECTIONS).any(|number| is_free(&without, number))
    }

    /// One that the stream can have by itself: silence and doubt come of the watch.
    fn any_failure(&mut self) -> Failure {
        loop {
            let failure = FAILURES[self.rng.random_range(0..FAILURES.len())];
            if !matches!(failure, Failure::Silent | Failure::Doubted) {
                return failure;
            }
        }
    }

    fn of_origin(&self, outcome: Option<Outcome>) -> Option<Outcome> {
        outcome.filter(|_| self.request.aim == Aim::Origin)
    }

    fn check_told(&self, code: ErrorCode) {
        match (self.request.aim, self.failed.last()) {
            (Aim::Management(_), last) => {
                let is_told = code == ErrorCode::ManagementUnreachable;
                assert!(is_told || last.is_some_and(|last| last.code() == code));
            }
            (Aim::Origin, Some(last)) => assert_eq!(code, last.code()),
            (Aim::Origin, None) => {
                assert!(
                    NONE.iter().any(|none| none.code() == code),
                    "{code:?} without an attempt"
                );
            }
        }
    }
}

fn connection(number: u128) -> ConnectionId {
    ConnectionId(Uuid::from_u128(number))
}

fn connector(number: u128) -> ConnectorId {
    ConnectorId(Uuid::from_u128(number / CONNECTIONS))
}

fn is_free(tried: &Tried, number: u128) -> bool {
    !tried.connections.contains(&connection(number)) && !tried.barred.contains(&connector(number))
}

#[test]
fn whatever_happens_a_request_ends_does_no_harm_and_is_told_the_truth() {
    for_seeds(SEEDS, |seed| World::new(seed).run());
}

#[test]
fn when_everything_is_lost_retries_stay_a_fraction_of_the_load() {
    let (mut budget, now, mut retries) = (Budget::default(), Instant::now(), 0);
    let exchanges = 20_000_u64;
    for _ in 0..exchanges {
        let request = Request {
            aim: Aim::Origin,
            is_idempotent: true,
            has_body: false,
            began: now,
        };
        let mut delivery = Delivery::new(request, &mut budget);
        for number in 0.. {
            match delivery.poll_step() {
                Step::Choose(_) => {
                    delivery.handle_choice(now, Ok((connection(number), connector(number))));
                }
                Step::Send => {
                    delivery.handle_failure(now, Failure::Lost, Held::Whole, &mut budget);
                }
                Step::Fail(code) => {
                    assert_eq!(code, ErrorCode::TunnelLost);
                    break;
                }
                Step::ChooseReplica(_) | Step::Wait { .. } | Step::Answered => panic!("no way here"),
            }
        }
        retries += u64::from(delivery.attempts() - 1);
    }
    // A full budget at first, then one retry for five exchanges.
    let allowed = 1_000 + exchanges / 5;
    assert!((allowed - 1..=allowed).contains(&retries), "{retries} retries");
}
