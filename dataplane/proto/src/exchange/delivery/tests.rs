//! Orders of events that a request may meet, one at a time; `tests/sim/delivery.rs` has all others.

use super::*;
use crate::ejection::Trier;
use std::time::{Duration, Instant};
use uuid::Uuid;

const WAITED: Step = Step::Wait { expects: true };

struct Course {
    delivery: Delivery,
    budget: Budget,
    now: Instant,
}

impl Course {
    fn of(aim: Aim, is_idempotent: bool, has_body: bool) -> Self {
        let (now, mut budget) = (beginning(), Budget::default());
        let request = Request {
            aim,
            is_idempotent,
            has_body,
            began: now,
        };
        Self {
            delivery: Delivery::new(request, &mut budget),
            budget,
            now,
        }
    }

    fn get() -> Self {
        Self::of(Aim::Origin, true, false)
    }

    fn find(&mut self, number: u128) -> Step {
        let found = (
            ConnectionId(Uuid::from_u128(number)),
            ConnectorId(Uuid::from_u128(number)),
        );
        self.delivery.handle_choice(self.now, Ok(found));
        self.delivery.poll_step()
    }

    fn find_none(&mut self, none: NoConnection) -> Step {
        self.delivery.handle_choice(self.now, Err(none));
        self.delivery.poll_step()
    }

    fn return_of(&mut self, is_back: bool) -> Step {
        self.delivery.handle_return(is_back);
        self.delivery.poll_step()
    }

    fn fail(&mut self, failure: Failure) -> Step {
        let (delivery, budget) = (&mut self.delivery, &mut self.budget);
        delivery.handle_failure(self.now, failure, Held::Whole, budget);
        delivery.poll_step()
    }
}

#[expect(clippy::disallowed_methods, reason = "any beginning of time will do")]
fn beginning() -> Instant {
    Instant::now()
}

fn choose(doubted: Doubted, trier: Trier) -> Step {
    Step::Choose(Search { doubted, trier })
}

#[test]
fn a_request_is_sent_and_answered() {
    let mut course = Course::get();
    assert_eq!(
        course.delivery.poll_step(),
        choose(Doubted::Avoided, Trier::Repeatable)
    );
    assert_eq!(course.find(1), Step::Send);
    let shown = course.delivery.handle_answer().unwrap();
    assert_eq!((shown.outcome, shown.sent), (Outcome::Answered, course.now));
    assert_eq!(course.delivery.poll_step(), Step::Answered);
    assert_eq!(course.delivery.attempts(), 1);
}

#[test]
fn a_lost_connection_is_replaced_and_its_replica_avoided() {
    let mut course = Course::get();
    course.find(1);
    assert_eq!(course.fail(Failure::Lost), choose(Doubted::Avoided, Trier::No));
    let tried = course.delivery.tried();
    assert_eq!(tried.connections, [ConnectionId(Uuid::from_u128(1))]);
    assert_eq!(tried.avoided, [ConnectorId(Uuid::from_u128(1))]);
    assert!(tried.barred.is_empty());
}

#[test]
fn an_origin_that_cannot_be_reached_is_shown_and_its_replica_barred() {
    let mut course = Course::of(Aim::Origin, false, true);
    assert_eq!(course.delivery.poll_step(), choose(Doubted::Avoided, Trier::Once));
    course.find(1);
    let (delivery, budget) = (&mut course.delivery, &mut course.budget);
    let shown = delivery.handle_failure(course.now, Failure::Unreached, Held::Whole, budget);
    assert_eq!(shown.unwrap().outcome, Outcome::Failed);
    assert_eq!(course.delivery.tried().barred, [ConnectorId(Uuid::from_u128(1))]);
    assert_eq!(
        course.find_none(NoConnection::AllTried),
        choose(Doubted::Taken, Trier::No),
        "the tunnel is not away, so nobody waits"
    );
    assert_eq!(
        course.find_none(NoConnection::AllTried),
        Step::Fail(ErrorCode::OriginUnreachable)
    );
}

#[test]
fn what_is_never_sent_again_fails_with_what_happened() {
    let mut course = Course::of(Aim::Origin, false, false);
    course.find(1);
    assert_eq!(course.fail(Failure::Lost), Step::Fail(ErrorCode::TunnelLost));
    let mut course = Course::get();
    course.find(1);
    assert_eq!(course.fail(Failure::Silent), Step::Fail(ErrorCode::OriginTimeout));
    let mut course = Course::get();
    course.find(1);
    course.delivery.handle_visitor_failure(ErrorCode::BodyTooSlow);
    assert_eq!(course.delivery.poll_step(), Step::Fail(ErrorCode::BodyTooSlow));
}

#[test]
fn a_tunnel_that_is_away_is_waited_for_and_asked_again() {
    let mut course = Course::get();
    assert_eq!(
        course.find_none(NoConnection::Down),
        Step::Wait { expects: false }
    );
    assert_eq!(
        course.return_of(true),
        choose(Doubted::Avoided, Trier::Repeatable)
    );
    assert_eq!(course.find_none(NoConnection::Doubted), WAITED);
    assert_eq!(course.return_of(false), choose(Doubted::Taken, Trier::Repeatable));
    assert_eq!(
        course.find(1),
        Step::Send,
        "a late connection is better than none"
    );
    course.fail(Failure::Lost);
    assert_eq!(
        course.find_none(NoConnection::AllTried),
        WAITED,
        "cores have yet to hear of the loss"
    );
    course.return_of(false);
    assert_eq!(
        course.find_none(NoConnection::Down),
        Step::Fail(ErrorCode::TunnelLost)
    );
}

#[test]
fn who_finds_nothing_is_told_why_nothing_was_found_at_first() {
    for (none, code) in [
        (NoConnection::NotServed, ErrorCode::TunnelNoConnection),
        (NoConnection::NoTrailers, ErrorCode::TrailersNotCarried),
        (NoConnection::Full, ErrorCode::TunnelSaturated),
    ] {
        let mut course = Course::get();
        assert_eq!(course.find_none(none), choose(Doubted::Taken, Trier::Repeatable));
        assert_eq!(course.find_none(NoConnection::Down), Step::Fail(code));
    }
}

#[test]
fn management_asks_one_replica_and_says_nothing_of_origins() {
    let replica = Some(ConnectorId(Uuid::from_u128(4)));
    let mut course = Course::of(Aim::Management(replica), true, false);
    assert_eq!(course.delivery.poll_step(), Step::ChooseReplica(replica));
    course.find(4);
    assert!(course.delivery.look(course.now, true, &course.budget).is_none());
    let (delivery, budget) = (&mut course.delivery, &mut course.budget);
    assert!(
        delivery
            .handle_failure(course.now, Failure::Reported, Held::Whole, budget)
            .is_none()
    );
    assert_eq!(course.delivery.poll_step(), Step::ChooseReplica(replica));
    assert_eq!(
        course.find_none(NoConnection::Down),
        Step::Fail(ErrorCode::ManagementUnreachable)
    );
}

#[test]
fn a_late_connector_is_left_only_by_what_may_move_and_in_time() {
    let mut course = Course::get();
    course.find(1);
    let barred = |course: &Course| {
        let tried = course.delivery.look(course.now, true, &course.budget);
        tried.map(|tried| tried.barred)
    };
    assert_eq!(barred(&course), Some(vec![ConnectorId(Uuid::from_u128(1))]));
    assert!(course.delivery.look(course.now, false, &course.budget).is_none());
    course.now += RETRY_DEADLINE;
    assert_eq!(barred(&course), None);
    for (is_idempotent, has_body) in [(false, false), (true, true)] {
        let mut course = Course::of(Aim::Origin, is_idempotent, has_body);
        course.find(1);
        assert_eq!(barred(&course), None);
        let watch = course.delivery.watch(course.now, Duration::from_secs(1));
        assert_eq!(
            watch.poll_timeout(course.now),
            course.now + Duration::from_secs(1)
        );
    }
}

#[test]
fn a_watch_looks_once_and_counts_silence_from_the_last_byte() {
    let mut course = Course::get();
    course.find(1);
    let (began, limit) = (course.now, Duration::from_secs(20));
    let mut watch = course.delivery.watch(began, limit);
    assert_eq!(watch.poll_timeout(began), began + LOOK_AFTER);
    assert_eq!(watch.handle_timeout(began, began), None);
    assert_eq!(watch.handle_timeout(began + LOOK_AFTER, began), Some(Due::Look));
    assert_eq!(watch.handle_timeout(began + LOOK_AFTER, began), None);
    let moved = began + Duration::from_secs(5);
    assert_eq!(watch.poll_timeout(moved), moved + limit);
    assert_eq!(watch.handle_timeout(began + limit, moved), None);
    assert_eq!(watch.handle_timeout(moved + limit, moved), Some(Due::Silence));
}
