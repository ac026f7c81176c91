//! Tunnels whose last connection went a moment ago, and the exchanges that wait for the next one.
//!
//! ```text
//! last connection lost or draining, or edge just started ─► absent for `limits.reconnect-wait`
//!                                           ├► a connection joins: all that wait choose again
//!                                           └► time is over: they fail, and later ones at once
//! ```
//! Most losses are short: a connector is restarted, a path is moved, an address translator forgets. A visitor
//! who waits a second for that sees nothing of it. A tunnel that has been away for longer fails fast.

//!
//! Does not: wait or wake (the caller does, by a handle of its own kind for each absence).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use adit_wire::TunnelId;

/// Exchanges that may wait on one core; more fail at once.
pub const WAITING_MAX: usize = 4_096;

/// One core's absent tunnels. `W` wakes those that wait for one.
///
/// Bounded by the connections that can be lost within one [`limit`](Absences::new). Entries leave when a
/// connection joins, or by age.
#[derive(Debug)]
pub struct Absences<W> {
    limit: Duration,
    started: Instant,
    absent: HashMap<TunnelId, Absence<W>>,
    /// Ends in the order in which they come.
    ends: VecDeque<(Instant, TunnelId)>,
}

/// A tunnel is expected back until `until`.
#[derive(Clone, Debug)]
pub struct Absence<W> {
    /// When nobody waits for it any more.
    pub until: Instant,
    /// To be woken when it is back.
    pub back: W,
}

impl<W: Clone + Default> Absences<W> {
    /// `limit` is how long a tunnel is expected back; zero turns waiting off.
    #[must_use]
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            started: now,
            absent: HashMap::new(),
            ends: VecDeque::new(),
        }
    }

    /// Changes how long tunnels that are lost from now on are expected back.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The last usable connection of `tunnel` is gone. One that is absent already keeps its end.
    pub fn begin(&mut self, tunnel: TunnelId, now: Instant) {
        self.insert(tunnel, now, now + self.limit);
    }

    /// A connection of `tunnel` has joined. Returns what wakes all that wait for it.
    pub fn end(&mut self, tunnel: TunnelId) -> Option<W> {
        self.absent.remove(&tunnel).map(|absence| absence.back)
    }

    /// What to wait for, if a tunnel without connection is expected back. In its first moments an edge
    /// expects every tunnel.
    pub fn of(&mut self, tunnel: TunnelId, now: Instant) -> Option<Absence<W>> {
        if now < self.started + self.limit {
            self.insert(tunnel, now, self.started + self.limit);
        }
        self.absent
            .get(&tunnel)
            .filter(|absence| now < absence.until)
            .cloned()
    }

    fn insert(&mut self, tunnel: TunnelId, now: Instant, until: Instant) {
        self.forget_old(now);
        if until <= now || self.absent.contains_key(&tunnel) {
            return;
        }
        let back = W::default();
        self.absent.insert(tunnel, Absence { until, back });
        self.ends.push_back((until, tunnel));
    }

    /// `ends` is in order but for those of the start and of a limit that has been lowered since. They may
    /// come behind later ones by as much as the greatest limit.
    fn forget_old(&mut self, now: Instant) {
        while let Some((until, tunnel)) = self.ends.front().copied() {
            if now < until {
                break;
            }
            self.ends.pop_front();
            if self
                .absent
                .get(&tunnel)
                .is_some_and(|absence| absence.until == until)
            {
                self.absent.remove(&tunnel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    type Absences = super::Absences<Rc<()>>;

    const LIMIT: Duration = Duration::from_secs(10);

    #[expect(clippy::disallowed_methods, reason = "any beginning of time will do")]
    fn beginning() -> Instant {
        Instant::now()
    }

    fn tunnel(number: u128) -> TunnelId {
        TunnelId(uuid::Uuid::from_u128(number))
    }

    /// Absences of an edge that started long ago, and the present.
    fn settled() -> (Absences, Instant) {
        let start = beginning();
        (Absences::new(LIMIT, start), start + 2 * LIMIT)
    }

    #[test]
    fn a_tunnel_is_expected_for_a_while_after_its_loss() {
        let (mut absences, now) = settled();
        assert!(absences.of(tunnel(1), now).is_none(), "never seen");
        absences.begin(tunnel(1), now);
        absences.begin(tunnel(1), now + LIMIT / 2);
        let absence = absences.of(tunnel(1), now + LIMIT / 2).unwrap();
        assert_eq!(absence.until, now + LIMIT, "the first loss counts");
        assert!(absences.of(tunnel(2), now).is_none());
        assert!(absences.of(tunnel(1), now + LIMIT).is_none());
    }

    #[test]
    fn who_waits_is_woken_by_the_return() {
        let (mut absences, now) = settled();
        absences.begin(tunnel(1), now);
        let absence = absences.of(tunnel(1), now).unwrap();
        let woken = absences.end(tunnel(1)).unwrap();
        assert!(Rc::ptr_eq(&woken, &absence.back));
        assert!(absences.end(tunnel(1)).is_none());
        assert!(absences.of(tunnel(1), now).is_none());
    }

    #[test]
    fn a_young_edge_expects_every_tunnel() {
        let start = beginning();
        let mut absences = Absences::new(LIMIT, start);
        let absence = absences.of(tunnel(1), start + LIMIT / 2).unwrap();
        assert_eq!(absence.until, start + LIMIT);
        assert!(absences.of(tunnel(2), start + LIMIT).is_none());
    }

    #[test]
    fn zero_turns_it_off() {
        let start = beginning();
        let mut absences = Absences::new(Duration::ZERO, start);
        absences.begin(tunnel(1), start);
        assert!(absences.of(tunnel(1), start).is_none());
    }

    #[test]
    fn old_absences_take_no_memory() {
        let (mut absences, mut now) = settled();
        for number in 0..1_000 {
            absences.begin(tunnel(number), now);
            if number % 2 == 0 {
                absences.end(tunnel(number));
            }
            now += LIMIT / 10;
        }
        assert!(absences.absent.len() <= 10 && absences.ends.len() <= 10);
    }
}
