//! Choices, health and limits by example; `tests/sim` has them under random events.

use super::settings::PoolText;
use super::*;
use crate::ingress::service::OriginService;

const SECOND: Duration = Duration::from_secs(1);

/// Sides up, ejected and down.
fn sides(pool: &OriginPool, now: Instant) -> (u64, u64, u64) {
    let counts = pool.counts(now);
    (counts.up, counts.ejected, counts.down)
}

fn settings(change: impl FnOnce(&mut PoolText)) -> Arc<PoolSettings> {
    let mut text = PoolText {
        addresses: Some(["b:1".to_owned(), "c:1".to_owned()].into()),
        ..PoolText::default()
    };
    change(&mut text);
    let service = OriginService::parse("http://a:1").unwrap();
    Arc::new(PoolSettings::parse(&text, &service).unwrap().unwrap())
}

fn pool(change: impl FnOnce(&mut PoolText)) -> (OriginPool, Instant) {
    #[expect(clippy::disallowed_methods, reason = "any beginning of time will do")]
    let start = Instant::now();
    (OriginPool::new(settings(change), 7), start)
}

fn granted(pool: &mut OriginPool, now: Instant) -> Grant {
    match pool.admit(now) {
        Admission::Granted(grant) => grant,
        other @ (Admission::Waits(_) | Admission::Refused) => panic!("{other:?}"),
    }
}

/// Sends one exchange to whichever address is next, and says which that was and what became of it.
fn exchange(pool: &mut OriginPool, outcome: Outcome, now: Instant) -> (String, Option<Change>) {
    let grant = granted(pool, now);
    let address = grant.address.to_string();
    let change = pool.report(&grant, outcome, now);
    pool.release(grant, now);
    (address, change)
}

#[test]
fn idle_addresses_take_turns_and_busy_ones_are_spared() {
    let (mut pool, now) = pool(|_| {});
    let turns: Vec<String> = (0..4)
        .map(|_| exchange(&mut pool, Outcome::Answered, now).0)
        .collect();
    assert_eq!(turns, ["a:1", "b:1", "c:1", "a:1"]);
    let held = [granted(&mut pool, now), granted(&mut pool, now)];
    let busy: Vec<String> = held.iter().map(|grant| grant.address.to_string()).collect();
    for _ in 0..5 {
        let (address, _) = exchange(&mut pool, Outcome::Answered, now);
        assert!(!busy.contains(&address), "{address}");
    }
    held.into_iter().for_each(|grant| pool.release(grant, now));
}

#[test]
fn an_address_is_out_after_failures_in_a_row_and_for_longer_each_time() {
    let (mut pool, start) = pool(|text| {
        text.addresses = None;
        text.max_connections = Some(9);
        text.max_fails = Some(2);
    });
    let mut now = start;
    let ejected = |seconds| Some(Verdict::Ejected(Duration::from_secs(seconds)));
    assert_eq!(exchange(&mut pool, Outcome::Unconnected, now).1, None);
    assert_eq!(exchange(&mut pool, Outcome::Answered, now).1, None);
    assert_eq!(exchange(&mut pool, Outcome::Unanswered, now).1, None);
    for seconds in [10, 20, 40, 80, 160, 160] {
        let change = exchange(&mut pool, Outcome::Unconnected, now).1.unwrap();
        assert_eq!((Some(change.verdict), change.is_last), (ejected(seconds), true));
        assert_eq!(sides(&pool, now), (0, 1, 0));
        // Used all the same, being the last, and told nothing new.
        assert_eq!(exchange(&mut pool, Outcome::Unconnected, now).1, None);
        now += Duration::from_secs(seconds);
    }
    let change = exchange(&mut pool, Outcome::Answered, now).1.unwrap();
    assert_eq!(change.verdict, Verdict::Returned);
    // Forgiven once it has worked for as long as it was out.
    now += Duration::from_secs(160);
    assert_eq!(exchange(&mut pool, Outcome::Answered, now).1, None);
    assert_eq!(exchange(&mut pool, Outcome::Unconnected, now).1, None);
    let change = exchange(&mut pool, Outcome::Unconnected, now).1.unwrap();
    assert_eq!(Some(change.verdict), ejected(10));
}

#[test]
fn one_exchange_tries_an_address_whose_time_is_up() {
    let (mut pool, start) = pool(|text| text.max_fails = Some(1));
    let (out, _) = exchange(&mut pool, Outcome::Unconnected, start);
    let now = start + 10 * SECOND;
    let mut tries = Vec::new();
    let held: Vec<Grant> = (0..9).map(|_| granted(&mut pool, now)).collect();
    for grant in &held {
        if grant.address.to_string() == out {
            tries.push(grant);
        }
    }
    assert_eq!(tries.len(), 1);
    assert!(pool.report(tries[0], Outcome::Answered, now).is_some());
    held.into_iter().for_each(|grant| pool.release(grant, now));
    assert_eq!(sides(&pool, now), (3, 0, 0));
}

#[test]
fn what_a_failure_is_can_be_chosen() {
    for (fail_on, counted) in [
        ("connect", [true, false, false]),
        ("no-answer", [true, true, false]),
        ("5xx", [true, true, true]),
    ] {
        let outcomes = [Outcome::Unconnected, Outcome::Unanswered, Outcome::Failed];
        for (outcome, is_counted) in outcomes.into_iter().zip(counted) {
            let (mut pool, now) = pool(|text| {
                text.max_fails = Some(1);
                text.fail_on = Some(fail_on.to_owned());
            });
            let (_, change) = exchange(&mut pool, outcome, now);
            assert_eq!(change.is_some(), is_counted, "{fail_on} {outcome:?}");
        }
    }
}

#[test]
fn an_exchange_moves_on_to_what_it_has_not_tried() {
    let (mut pool, now) = pool(|text| text.max_fails = Some(1));
    let mut grant = granted(&mut pool, now);
    let mut tried = Vec::new();
    for _ in 0..2 {
        tried.push(grant.member);
        pool.report(&grant, Outcome::Unconnected, now);
        grant = pool.move_on(grant, &tried, now).unwrap();
        assert!(!tried.contains(&grant.member));
    }
    tried.push(grant.member);
    let grant = pool.move_on(grant, &tried, now).unwrap_err();
    pool.release(grant, now);
    assert_eq!(pool.counts(now).in_flight, 0);
}

#[test]
fn who_finds_no_room_waits_in_line_and_the_queue_has_an_end() {
    let (mut pool, now) = pool(|text| {
        text.addresses = None;
        text.breaker = Some(Arc::new(settings::BreakerText {
            max_requests: Some(1),
            max_pending: Some(2),
            pending_timeout: None,
        }));
    });
    let first = granted(&mut pool, now);
    let (Admission::Waits(one), Admission::Waits(two)) = (pool.admit(now), pool.admit(now)) else {
        panic!("there is room in the queue");
    };
    assert_eq!(pool.admit(now), Admission::Refused);
    assert!(pool.cancel(one) && !pool.cancel(one));
    pool.release(first, now);
    let (ticket, grant) = pool.poll_granted().unwrap();
    assert_eq!((ticket, pool.poll_granted()), (two, None));
    assert!(!pool.cancel(two));
    pool.release(grant, now);
    assert_eq!(
        pool.counts(now),
        Counts {
            up: 1,
            ..Counts::default()
        }
    );
}

#[test]
fn checks_take_addresses_out_and_back() {
    let (mut pool, now) = pool(|_| {});
    let ids: Vec<MemberId> = pool.addresses().map(|(id, _)| id).collect();
    assert_eq!(pool.checked(ids[0], false, now), None);
    assert_eq!(pool.checked(ids[0], true, now), None);
    assert_eq!(pool.checked(ids[0], false, now), None);
    assert_eq!(pool.checked(ids[0], false, now).unwrap().verdict, Verdict::Down);
    for _ in 0..6 {
        assert_ne!(exchange(&mut pool, Outcome::Answered, now).0, "a:1");
    }
    assert_eq!(pool.checked(ids[0], true, now), None);
    assert_eq!(pool.checked(ids[0], true, now).unwrap().verdict, Verdict::Up);
    for id in ids {
        pool.checked(id, false, now);
        let change = pool.checked(id, false, now).unwrap();
        assert_eq!(change.is_last, change.address.to_string() == "c:1");
    }
    // Better asked in vain than not at all.
    exchange(&mut pool, Outcome::Answered, now);
}

#[test]
fn addresses_that_stay_keep_what_is_known_of_them() {
    let (mut pool, now) = pool(|text| text.max_fails = Some(1));
    let (out, _) = exchange(&mut pool, Outcome::Unconnected, now);
    assert_eq!(out, "a:1");
    let gone = granted(&mut pool, now);
    assert_eq!(gone.address.to_string(), "b:1");
    let other = settings(|text| text.addresses = Some(["d:1".to_owned(), "c:1".to_owned()].into()));
    pool.reconfigure(other, now);
    let addresses: Vec<String> = pool.addresses().map(|(_, address)| address.to_string()).collect();
    assert_eq!(addresses, ["a:1", "d:1", "c:1"]);
    assert_eq!(sides(&pool, now), (2, 1, 0));
    assert_eq!(pool.counts(now).in_flight, 1);
    for _ in 0..6 {
        let (address, _) = exchange(&mut pool, Outcome::Answered, now);
        assert!(["d:1", "c:1"].contains(&address.as_str()), "{address}");
    }
    assert_eq!(pool.report(&gone, Outcome::Answered, now), None);
    pool.release(gone, now);
    assert_eq!(pool.counts(now).in_flight, 0);
}
