//! Every kind of watch: when it asks, doubts, gives up, and when it has no timer at all.

use super::*;

const SILENCE_MAX: Duration = Duration::from_secs(5);

#[test]
fn what_the_network_says_of_a_question_is_doubted_at_once_and_believed_after_a_fifth_of_the_silence() {
    let mut lab = Lab::patient();
    let at = lab.at(0.5);
    assert_eq!(
        lab.watch.unreachable(at, true),
        Verdict::Ping,
        "nothing was asked"
    );
    lab.asks(1.0);
    let at = lab.at(1.01);
    assert_eq!(lab.watch.unreachable(at, true), Verdict::Doubt);
    assert!(lab.watch.is_in_doubt());
    for _ in 0..2 {
        assert_eq!(lab.watch.unreachable(at, true), Verdict::Nothing);
    }
    let lost = lab.verdict();
    assert_eq!(lost, (2.0, Verdict::Lost));
}

#[test]
fn a_peer_that_is_heard_is_not_lost_whatever_the_network_says() {
    let mut lab = Lab::patient();
    lab.asks(1.0);
    let at = lab.at(1.01);
    for _ in 0..5 {
        lab.watch.unreachable(at, true);
    }
    assert!(lab.hears(1.02) && !lab.watch.is_in_doubt());
    lab.asks(1.5);
    assert_eq!(
        lab.verdict().1,
        Verdict::Doubt,
        "what was said before is forgotten"
    );
}

#[test]
fn a_way_that_is_not_there_is_a_reason_to_doubt_and_not_to_give_up_sooner() {
    let mut lab = Lab::patient();
    lab.asks(1.0);
    let at = lab.at(1.01);
    for _ in 0..5 {
        lab.watch.unreachable(at, false);
    }
    assert!(lab.watch.is_in_doubt());
    assert_eq!(lab.verdict().1, Verdict::Ping);
}

/// A watch at work, with a clock in seconds.
struct Lab {
    watch: Watch,
    start: Instant,
    sent: FrameStats,
    received: FrameStats,
    /// Far away by default, so that an answer is late after the longest time.
    rtt: Duration,
    has_exchange: bool,
}

impl Lab {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            watch: Watch::new(start, SILENCE_MAX),
            start,
            sent: FrameStats::default(),
            received: FrameStats::default(),
            rtt: Duration::from_millis(300),
            has_exchange: false,
        }
    }

    fn patient() -> Self {
        let mut lab = Self::new();
        lab.watch.be_patient();
        lab
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn turn(&mut self, seconds: f64) -> bool {
        let now = self.at(seconds);
        self.watch.note(now, self.rtt, &self.sent, &self.received)
    }

    fn asks(&mut self, seconds: f64) {
        self.sent.stream += 1;
        self.turn(seconds);
    }

    fn acknowledges(&mut self, seconds: f64) {
        self.sent.acks += 1;
        self.turn(seconds);
    }

    fn hears(&mut self, seconds: f64) -> bool {
        self.received.acks += 1;
        self.turn(seconds)
    }

    /// The next deadline in seconds.
    fn next(&mut self) -> Option<f64> {
        let next = self.watch.poll_timeout(self.has_exchange)?;
        Some(next.duration_since(self.start).as_secs_f64())
    }

    /// Runs up to the first verdict and says when it comes. PINGs are sent as asked for.
    fn verdict(&mut self) -> (f64, Verdict) {
        for _ in 0..10 {
            let at = self.next().expect("a deadline");
            let verdict = self.watch.handle_timeout(self.at(at), self.has_exchange);
            match verdict {
                Verdict::Nothing => continue,
                Verdict::Ping | Verdict::Doubt => {
                    self.sent.ping += 1;
                    self.turn(at);
                }
                Verdict::Lost => {}
            }
            return (at, verdict);
        }
        panic!("no verdict");
    }
}

#[test]
fn a_strict_connection_is_lost_after_silence() {
    let mut lab = Lab::new();
    lab.hears(2.0);
    assert_eq!(lab.verdict(), (7.0, Verdict::Lost));
}

#[test]
fn a_question_extends_the_wait_of_a_strict_connection_once() {
    let mut lab = Lab::new();
    lab.asks(4.0);
    lab.asks(4.5);
    assert_eq!(lab.verdict(), (5.0, Verdict::Doubt));
    assert_eq!(lab.verdict(), (9.0, Verdict::Lost));
}

#[test]
fn a_patient_connection_with_nothing_to_say_has_no_timer() {
    let mut lab = Lab::patient();
    assert_eq!(lab.next(), None);
    lab.asks(1.0);
    lab.hears(1.1);
    assert_eq!(lab.next(), None);
    lab.acknowledges(1.2);
    assert_eq!(lab.next(), None, "an acknowledgement asks nothing");
}

#[test]
fn an_unanswered_question_is_repeated_and_then_the_connection_is_lost() {
    let mut lab = Lab::patient();
    lab.asks(10.0);
    assert_eq!(lab.verdict(), (11.0, Verdict::Doubt));
    for second in [12.0, 13.0, 14.0] {
        assert_eq!(lab.verdict(), (second, Verdict::Ping));
    }
    assert_eq!(lab.verdict(), (15.0, Verdict::Lost));
}

#[test]
fn an_answer_ends_the_doubt() {
    let mut lab = Lab::patient();
    lab.asks(10.0);
    assert_eq!(lab.verdict(), (11.0, Verdict::Doubt));
    lab.hears(11.5);
    assert_eq!(lab.next(), None);
    lab.asks(20.0);
    assert_eq!(lab.verdict(), (21.0, Verdict::Doubt));
}

#[test]
fn what_was_sent_in_the_turn_of_an_answer_is_a_new_question() {
    let mut lab = Lab::patient();
    lab.asks(1.0);
    lab.sent.stream += 1;
    lab.hears(2.0);
    assert_eq!(lab.verdict(), (3.0, Verdict::Doubt));
}

#[test]
fn a_waiting_exchange_asks_by_itself_each_second() {
    let mut lab = Lab::patient();
    lab.has_exchange = true;
    lab.hears(1.0);
    assert_eq!(lab.verdict(), (2.0, Verdict::Ping));
    lab.hears(2.1);
    assert_eq!(lab.verdict(), (3.1, Verdict::Ping));
    assert_eq!(lab.verdict(), (4.1, Verdict::Doubt));
    for second in [5.1, 6.1, 7.1] {
        assert_eq!(lab.verdict(), (second, Verdict::Ping));
    }
    assert_eq!(lab.verdict(), (8.1, Verdict::Lost));
}

#[test]
fn pings_by_the_clock_come_whatever_is_said_and_ask() {
    let mut lab = Lab::patient();
    lab.watch.ping_by_clock(lab.at(14.0), Duration::from_secs(55));
    assert_eq!(lab.verdict(), (14.0, Verdict::Ping));
    lab.hears(14.1);
    lab.asks(60.0);
    lab.hears(60.1);
    assert_eq!(lab.verdict(), (69.0, Verdict::Ping));
    assert_eq!(lab.verdict(), (70.0, Verdict::Doubt));
}

#[test]
fn a_lingering_connection_asks_until_it_is_heard() {
    let mut lab = Lab::patient();
    lab.asks(0.0);
    assert_eq!(lab.watch.handle_timeout(lab.at(5.0), false), Verdict::Nothing);
    assert_eq!(lab.next(), Some(1.0));
    assert_eq!(lab.watch.handle_timeout(lab.at(5.0), false), Verdict::Lost);
    assert!(lab.watch.linger() && lab.watch.is_lingering());
    for second in [1.0, 2.0, 3.0] {
        assert_eq!(lab.verdict(), (second, Verdict::Ping));
    }
    assert!(lab.hears(3.1));
}

#[test]
fn a_strict_connection_does_not_linger() {
    assert!(!Lab::new().watch.linger());
}

#[test]
fn a_side_that_was_moved_speaks_twice_as_often() {
    let mut lab = Lab::patient();
    lab.received.path_challenge += 1;
    assert!(!lab.watch.has_moved(&lab.received), "no rhythm, nothing to mend");
    lab.watch.ping_by_clock(lab.at(30.0), Duration::from_secs(30));
    assert!(!lab.watch.has_moved(&lab.received));
    let mut due = 30.0;
    for interval in [15.0, 10.0, 10.0] {
        lab.received.path_challenge += 1;
        assert!(lab.watch.has_moved(&lab.received));
        assert!(!lab.watch.has_moved(&lab.received));
        assert_eq!(lab.next(), Some(due));
        assert_eq!(lab.watch.handle_timeout(lab.at(due), false), Verdict::Ping);
        due += interval;
    }
}

#[test]
fn the_answer_to_a_lone_ping_may_take_its_time() {
    let mut lab = Lab::patient();
    lab.watch.ping_by_clock(lab.at(20.0), Duration::from_secs(20));
    assert_eq!(lab.watch.patience(false), None);
    assert_eq!(lab.verdict(), (20.0, Verdict::Ping));
    assert_eq!(lab.watch.patience(false), Some(lab.at(20.25)));
    assert_eq!(lab.watch.patience(true), None, "somebody waits");
    lab.hears(20.03);
    assert_eq!(lab.watch.patience(false), None);

    // What is sent besides it has a right to be looked after.
    assert_eq!(lab.verdict(), (40.0, Verdict::Ping));
    lab.asks(40.01);
    assert_eq!(lab.watch.patience(false), None);
    lab.hears(40.03);
    lab.asks(59.9);
    assert_eq!(lab.verdict(), (60.0, Verdict::Ping));
    assert_eq!(lab.watch.patience(false), None);
}

#[test]
fn a_near_peer_is_doubted_sooner_than_a_far_one() {
    for (rtt_ms, late) in [(0, 0.2), (1, 0.2), (50, 0.375), (100, 0.675), (400, 1.0)] {
        for mut lab in [Lab::new(), Lab::patient()] {
            lab.rtt = Duration::from_millis(rtt_ms);
            lab.asks(10.0);
            assert_eq!(lab.verdict(), (10.0 + late, Verdict::Doubt), "{rtt_ms} ms");
            assert!(lab.watch.is_in_doubt());
            lab.hears(10.9);
            assert!(!lab.watch.is_in_doubt());
        }
    }
}

#[test]
fn doubt_comes_once_and_pings_go_on_from_it() {
    let mut lab = Lab::patient();
    lab.rtt = Duration::ZERO;
    lab.asks(10.0);
    assert_eq!(lab.verdict(), (10.2, Verdict::Doubt));
    for second in [11.2, 12.2, 13.2, 14.2] {
        assert_eq!(lab.verdict(), (second, Verdict::Ping));
    }
    assert_eq!(lab.verdict(), (15.0, Verdict::Lost));
}

#[test]
fn a_lone_ping_is_late_once_it_has_been_repeated() {
    let mut lab = Lab::patient();
    lab.rtt = Duration::ZERO;
    lab.watch.ping_by_clock(lab.at(20.0), Duration::from_secs(20));
    assert_eq!(lab.verdict(), (20.0, Verdict::Ping));
    assert_eq!(lab.verdict(), (20.5, Verdict::Doubt));
}
