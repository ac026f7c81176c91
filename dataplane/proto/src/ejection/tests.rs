//! One core's table, step by step.

use uuid::Uuid;

use super::*;

const TUNNEL: TunnelId = TunnelId(Uuid::from_u128(1));
const SECOND: Duration = Duration::from_secs(1);

fn connector(number: u128) -> ConnectorId {
    ConnectorId(Uuid::from_u128(number))
}

/// So many replicas, the first of number 0.
fn serving(replicas: usize) -> Vec<Rule> {
    let numbers = 0..replicas as u128;
    numbers
        .map(|number| (connector(number), RulePath::EVERY))
        .collect()
}

fn host(text: &str) -> Hostname {
    text.parse().unwrap()
}

/// A table, its clock, and the number of replicas.
struct Lab {
    table: Ejections,
    now: Instant,
    replicas: usize,
}

impl Lab {
    #[expect(clippy::disallowed_methods, reason = "any beginning of time will do")]
    fn new(replicas: usize) -> Self {
        Self {
            table: Ejections::new(Settings::default()),
            now: Instant::now(),
            replicas,
        }
    }

    fn report(&mut self, number: u128, outcome: Outcome) -> Report {
        self.report_sent(number, outcome, self.now)
    }

    fn report_sent(&mut self, number: u128, outcome: Outcome, sent: Instant) -> Report {
        let host = host("a.test");
        let told = Told {
            tunnel: TUNNEL,
            host: &host,
            connector: connector(number),
            path: RulePath::EVERY,
            outcome,
            sent,
        };
        self.table.report(&told, &serving(self.replicas), self.now)
    }

    /// Fails so often that the replica goes out; until when.
    fn eject(&mut self, number: u128) -> Instant {
        for _ in 1..5 {
            assert_eq!(self.report(number, Outcome::Failed), Report::Noted);
        }
        until(&self.report(number, Outcome::Failed))
    }

    fn standing(&self, number: u128, trier: Trier) -> Standing {
        self.standing_by(number, trier, 7)
    }

    fn standing_by(&self, number: u128, trier: Trier, seed: u64) -> Standing {
        let known = self.table.known(TUNNEL, &host("a.test"), seed, trier, self.now);
        known.map_or(Standing::In, |known| {
            known.standing((connector(number), RulePath::EVERY))
        })
    }

    /// Of a hundred exchanges, how many the replica gets that all others get.
    fn share(&self, number: u128) -> usize {
        (0..10_000)
            .filter(|seed| self.standing_by(number, Trier::Repeatable, *seed) == Standing::In)
            .count()
            / 100
    }
}

#[track_caller]
fn until(report: &Report) -> Instant {
    let Report::News(News {
        event: Event::Ejected { until, .. },
        ..
    }) = report
    else {
        panic!("not ejected but {report:?}");
    };
    *until
}

#[test]
fn five_failures_in_a_row_eject_and_an_answer_in_between_saves() {
    let mut lab = Lab::new(2);
    for _ in 0..4 {
        lab.report(1, Outcome::Failed);
    }
    lab.report(1, Outcome::Answered);
    let end = lab.eject(1);
    assert_eq!(end, lab.now + 5 * SECOND);
    assert_eq!(
        (
            lab.standing(1, Trier::Repeatable),
            lab.standing(2, Trier::Repeatable)
        ),
        (Standing::Out, Standing::In)
    );
    assert_eq!((lab.table.out(), lab.table.len()), (1, 1));
}

#[test]
fn half_of_the_exchanges_of_a_window_eject() {
    let mut lab = Lab::new(2);
    let mut last = Report::Noted;
    for turn in 0..20 {
        assert_eq!(last, Report::Noted, "{turn}");
        last = lab.report(
            1,
            if turn % 2 == 0 {
                Outcome::Failed
            } else {
                Outcome::Answered
            },
        );
    }
    // The twentieth was an answer; the next failure tells.
    until(&lab.report(1, Outcome::Failed));
    // Spread over longer than a window they do not.
    let mut lab = Lab::new(2);
    for turn in 0..100 {
        let outcome = if turn % 2 == 0 {
            Outcome::Failed
        } else {
            Outcome::Answered
        };
        assert_eq!(lab.report(1, outcome), Report::Noted);
        lab.now += SECOND;
    }
}

#[test]
fn the_last_replica_stays_and_so_does_more_than_the_share() {
    let mut alone = Lab::new(1);
    for _ in 0..4 {
        alone.report(1, Outcome::Failed);
    }
    assert_eq!(alone.report(1, Outcome::Failed), Report::Withheld);
    assert_eq!(alone.standing(1, Trier::Repeatable), Standing::In);
    for (replicas, allowed) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut lab = Lab::new(replicas);
        for number in 0..replicas {
            for _ in 0..5 {
                lab.report(number as u128, Outcome::Failed);
            }
        }
        assert_eq!(lab.table.out(), allowed, "of {replicas}");
    }
}

#[test]
fn one_exchange_tries_a_replica_whose_time_is_up() {
    let mut lab = Lab::new(2);
    lab.now = lab.eject(1);
    assert_eq!(
        lab.standing(1, Trier::Once),
        Standing::Out,
        "it may not be sent twice"
    );
    assert_eq!(lab.standing(1, Trier::No), Standing::Out, "it has failed already");
    assert_eq!(lab.standing(1, Trier::Repeatable), Standing::Trial);
    lab.table
        .begin_trial(TUNNEL, &host("a.test"), (connector(1), RulePath::EVERY), lab.now);
    assert_eq!(
        lab.standing(1, Trier::Repeatable),
        Standing::Out,
        "one is on its way"
    );
    // Nobody hears of it again: the next may try.
    lab.now += 5 * SECOND;
    assert_eq!(lab.standing(1, Trier::Repeatable), Standing::Trial);
    // Where there are no other requests, one that may not be sent twice does it.
    lab.now += TRIAL_PATIENCE;
    assert_eq!(lab.standing(1, Trier::Once), Standing::Trial);
}

#[test]
fn an_ejection_is_twice_as_long_as_the_one_before() {
    let mut lab = Lab::new(2);
    lab.now = lab.eject(1);
    for seconds in [10, 20, 40, 60, 60] {
        lab.table
            .begin_trial(TUNNEL, &host("a.test"), (connector(1), RulePath::EVERY), lab.now);
        let end = until(&lab.report(1, Outcome::Failed));
        assert_eq!(end - lab.now, seconds * SECOND);
        lab.now = end;
    }
    lab.table
        .begin_trial(TUNNEL, &host("a.test"), (connector(1), RulePath::EVERY), lab.now);
    assert!(matches!(lab.report(1, Outcome::Answered), Report::News(_)));
    // It fails again soon, and so is out for as long as before.
    assert_eq!(lab.eject(1) - lab.now, 60 * SECOND);
    // Having stayed in for long enough, it begins anew.
    lab.now += 60 * SECOND;
    lab.report(1, Outcome::Answered);
    lab.now += 60 * SECOND;
    lab.report(1, Outcome::Answered);
    assert_eq!(lab.eject(1) - lab.now, 5 * SECOND);
}

#[test]
fn who_is_back_gets_its_share_slowly() {
    let mut lab = Lab::new(2);
    lab.now = lab.eject(1);
    lab.table
        .begin_trial(TUNNEL, &host("a.test"), (connector(1), RulePath::EVERY), lab.now);
    lab.report(1, Outcome::Answered);
    for (seconds, share) in [(0, 10), (1, 10), (5, 25), (10, 50), (15, 75), (20, 100)] {
        let mut later = Lab {
            table: lab.table.clone(),
            ..lab
        };
        later.now += seconds * SECOND;
        let found = later.share(1);
        assert!(found.abs_diff(share) <= 2, "{found} after {seconds} s");
    }
}

#[test]
fn what_was_sent_before_is_not_heard() {
    let mut lab = Lab::new(2);
    let before = lab.now;
    lab.now += SECOND;
    lab.eject(1);
    assert_eq!(lab.report_sent(1, Outcome::Answered, before), Report::Noted);
    assert!(lab.standing(1, Trier::Repeatable) == Standing::Out);
    // It was asked all the same, because nothing else was left.
    assert_eq!(lab.report(1, Outcome::Failed), Report::Noted);
    assert!(matches!(lab.report(1, Outcome::Answered), Report::News(_)));
    assert_ne!(lab.standing(1, Trier::Repeatable), Standing::Out);
    assert_eq!(lab.report_sent(1, Outcome::Failed, before), Report::Noted);
}

#[test]
fn cores_follow_each_other() {
    let (mut here, mut there) = (Lab::new(2), Lab::new(2));
    there.now = here.now;
    for _ in 1..5 {
        here.report(1, Outcome::Failed);
    }
    let Report::News(ejected) = here.report(1, Outcome::Failed) else {
        panic!("not ejected");
    };
    assert!(there.table.hear(&ejected, there.now));
    assert_eq!(there.standing(1, Trier::Repeatable), Standing::Out);
    there.now += 5 * SECOND;
    there.table.begin_trial(
        TUNNEL,
        &host("a.test"),
        (connector(1), RulePath::EVERY),
        there.now,
    );
    let Report::News(returned) = there.report(1, Outcome::Answered) else {
        panic!("not back");
    };
    here.now = there.now;
    assert!(here.table.hear(&returned, here.now));
    assert_ne!(here.standing(1, Trier::Repeatable), Standing::Out);
    // Word of a return from before it went out comes too late.
    here.now += SECOND;
    assert!(here.table.hear(&ejected, here.now));
    assert!(!here.table.hear(&returned, here.now));
}

#[test]
fn the_table_is_bounded_and_empties() {
    let mut lab = Lab::new(2);
    let mut fail = |tunnel: u128, name: usize| {
        let host = host(&format!("n{name}.a.test"));
        let told = Told {
            tunnel: TunnelId(Uuid::from_u128(tunnel)),
            host: &host,
            connector: connector(1),
            path: RulePath::EVERY,
            outcome: Outcome::Failed,
            sent: lab.now,
        };
        lab.table.report(&told, &serving(2), lab.now)
    };
    for name in 0..PAIRS_PER_TUNNEL_MAX {
        assert_eq!(fail(1, name), Report::Noted);
    }
    assert_eq!(fail(1, PAIRS_PER_TUNNEL_MAX), Report::Overflow);
    for tunnel in 2..=(PAIRS_MAX / PAIRS_PER_TUNNEL_MAX) {
        for name in 0..PAIRS_PER_TUNNEL_MAX {
            assert_eq!(fail(tunnel as u128, name), Report::Noted);
        }
    }
    assert_eq!(fail(1_000, 0), Report::Overflow);
    assert_eq!(lab.table.len(), PAIRS_MAX);
    lab.table.forget(TUNNEL, connector(1));
    assert_eq!(lab.table.len(), PAIRS_MAX - PAIRS_PER_TUNNEL_MAX);
    lab.table.expire(lab.now + 61 * SECOND);
    assert!(lab.table.is_empty());
}

#[test]
fn switched_off_it_remembers_nothing() {
    let mut lab = Lab::new(2);
    lab.table = Ejections::new(Settings {
        failures_in_a_row: 0,
        failure_percent: 0,
        ..Settings::default()
    });
    for _ in 0..100 {
        assert_eq!(lab.report(1, Outcome::Failed), Report::Noted);
    }
    assert!(lab.table.is_empty());
}
