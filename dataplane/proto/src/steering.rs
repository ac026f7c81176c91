//! Chooses which connection takes an exchange. Pure: same directory, same request, same seed, same answer.
//!
//! Looks at every connection of the tunnel once. One that was tried before, or is full, takes nothing. Of the
//! others the best level counts, so a level whose connections are all full spills to the next. Within a level
//! a [`policy`] picks. Levels, best first:
//!
//! 1. a replica that is to be tried again, with one exchange at a time (see [`ejection`](crate::ejection))
//! 2. the visitor's core
//! 3. the other cores of this edge
//! 4. a replica that has just come back and gets a part of the exchanges at first
//! 5. a replica that is left out for the hostname, or says itself that its origin is down
//! 6. a replica on which this exchange has lost a connection, or one of whose connections is late with an
//!    answer; on the visitor's core before others. When a process or its network dies, its connections die
//!    together, but are found dead one by one.
//! 7. a connector that does not carry the upgrade that is asked for, and answers as if nobody had asked
//! 8. a connection that is late itself, if the exchange asks for it
//!
//! A replica that serves the hostname, but not this path of it, takes nothing while another does. Where none
//! does, a closing rule answers, and paths do not count.
//!
//! Does not: open the stream (the caller does) or retry (see `exchange`).

mod policy;

use adit_wire::{ConnectionId, ConnectorId, Hostname, TunnelId};

use crate::directory::{Candidate, Directory, Live};
use crate::ejection::{Known, Standing};
use crate::limits::EXCHANGES_PER_CONNECTION_MAX;
use policy::Policy;
pub use policy::PolicyName;

/// Why no connection can take an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoConnection {
    /// No replica of the tunnel is connected here, or all are draining.
    #[error("the tunnel has no connection")]
    Down,
    /// Replicas are connected, but none serves this hostname.
    #[error("no replica of the tunnel serves this hostname")]
    NotServed,
    /// Replicas serve this hostname, but none has a connection that carries trailers, and the exchange needs
    /// them.
    #[error("no connection of the tunnel carries trailers")]
    NoTrailers,
    /// Every connection that is left is late with an answer.
    #[error("every connection of the tunnel is late with an answer")]
    Doubted,
    /// Every connection has been tried for this exchange.
    #[error("every connection of the tunnel has been tried")]
    AllTried,
    /// Every connection is at its limit of exchanges.
    #[error("every connection of the tunnel is full")]
    Full,
}

/// What an exchange has tried without success. Empty, and without an allocation, before the first failure.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Connections that have seen it; none is taken twice.
    pub connections: Vec<ConnectionId>,
    /// Replicas one of whose connections was lost; taken when no other is left.
    pub avoided: Vec<ConnectorId>,
    /// Replicas whose origin did not answer; never taken again.
    pub barred: Vec<ConnectorId>,
}

impl Tried {
    fn excludes<T>(&self, live: &Live<T>) -> bool {
        self.connections.contains(&live.id) || self.barred.contains(&live.slot.connector)
    }
}

/// What a request asks of steering.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The tunnel its hostname leads to.
    pub tunnel: TunnelId,
    /// The hostname.
    pub host: &'a Hostname,
    /// The path that is asked for, as the visitor wrote it.
    pub path: &'a str,
    /// How one is picked of those of the best level.
    pub policy: PolicyName,
    /// The core the visitor is on.
    pub core: u16,
    /// What was tried before.
    pub tried: &'a Tried,
    /// Whether only a connection that carries trailers will do.
    pub needs_trailers: bool,
    /// Whether a connector of ours is wanted, as the request asks for an upgrade that no other carries.
    pub prefers_ours: bool,
    /// Whether a connection will do that is late with an answer, when there is no other.
    pub takes_doubted: bool,
    /// What is known of the replicas' origins, if anything is.
    pub known: Option<Known<'a>>,
    /// Picks the two random choices.
    pub seed: u64,
}

impl Ask<'_> {
    /// Whether nothing is known or wanted that tells connections of replicas apart that are well.
    fn is_plain(&self) -> bool {
        self.known.is_none() && self.tried.avoided.is_empty() && !self.prefers_ours
    }
}

/// Where a connection stands in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Its replica is to be tried again.
    Trial,
    Near,
    Far,
    /// Its replica is back, and gets little at first.
    HeldBack,
    /// Its replica is left out, or says that its origin is down.
    Out,
    AvoidedNear,
    AvoidedFar,
    /// Its connector does not carry the upgrade that is asked for.
    Uncarried,
    /// It is late with an answer itself.
    Doubted,
}

impl Level {
    /// That of a connection that nothing speaks against.
    fn by_core<T>(ask: &Ask<'_>, live: &Live<T>) -> Self {
        if live.core == ask.core {
            Self::Near
        } else {
            Self::Far
        }
    }

    fn of<T>(ask: &Ask<'_>, candidate: &Candidate<'_, T>) -> Self {
        let live = candidate.live;
        let is_near = live.core == ask.core;
        if live.is_doubted {
            return Self::Doubted;
        }
        if ask.prefers_ours && !live.is_of_ours {
            return Self::Uncarried;
        }
        if candidate.is_suspect || ask.tried.avoided.contains(&live.slot.connector) {
            return if is_near {
                Self::AvoidedNear
            } else {
                Self::AvoidedFar
            };
        }
        if candidate.is_told_down {
            return Self::Out;
        }
        let known = ask.known.as_ref();
        match known.map_or(Standing::In, |known| {
            known.standing((live.slot.connector, candidate.path))
        }) {
            Standing::In => Self::by_core(ask, live),
            Standing::HeldBack => Self::HeldBack,
            Standing::Out => Self::Out,
            Standing::Trial => Self::Trial,
        }
    }
}

/// Picks a connection; `load` tells the exchanges in flight on one.
///
/// # Errors
/// [`NoConnection`], the most specific reason that holds.
pub fn choose<'a, T>(
    directory: &'a Directory<T>,
    ask: &Ask<'_>,
    load: impl Fn(&T) -> u32,
) -> Result<&'a Live<T>, NoConnection> {
    policy::choose_by_name(directory, ask, load)
}

fn choose_by<'a, T, P: Policy<'a, T>>(
    directory: &'a Directory<T>,
    ask: &Ask<'_>,
    load: impl Fn(&T) -> u32,
) -> Result<&'a Live<T>, NoConnection> {
    match best_of::<T, P, true>(directory, ask, &load) {
        // Nobody has a rule for the path.
        Err(NoConnection::NotServed) => best_of::<T, P, false>(directory, ask, &load),
        chosen => chosen,
    }
}

/// `COUNTS_PATHS` says whether a replica has to have a rule for the path, not only for the hostname. It is
/// known when this is compiled, so that the usual case is a function of its own.
fn best_of<'a, T, P: Policy<'a, T>, const COUNTS_PATHS: bool>(
    directory: &'a Directory<T>,
    ask: &Ask<'_>,
    load: impl Fn(&T) -> u32,
) -> Result<&'a Live<T>, NoConnection> {
    let (mut why, is_plain) = (NoConnection::Down, ask.is_plain());
    let mut best = (Level::Doubted, P::new(ask.seed));
    // A chain of iterators runs faster from the inside than by a loop around it.
    let candidates = directory.candidates(ask.tunnel, ask.host, ask.path);
    candidates.for_each(|candidate| {
        let live = candidate.live;
        let refusal = if !candidate.is_well && !(candidate.serves && (candidate.serves_path || !COUNTS_PATHS))
        {
            NoConnection::NotServed
        } else if ask.needs_trailers && !live.carries_trailers {
            NoConnection::NoTrailers
        } else if ask.tried.excludes(live) {
            NoConnection::AllTried
        } else if load(&live.handle) >= EXCHANGES_PER_CONNECTION_MAX {
            NoConnection::Full
        } else if live.is_doubted && !ask.takes_doubted {
            NoConnection::Doubted
        } else {
            let level = if is_plain && candidate.is_well && !live.is_doubted {
                Level::by_core(ask, live)
            } else {
                Level::of(ask, &candidate)
            };
            // One of a better level begins the choice anew.
            if level < best.0 {
                best = (level, P::new(ask.seed));
            }
            if level == best.0 {
                best.1.offer(live, &load);
            }
            return;
        };
        why = more_specific(why, refusal);
    });
    best.1.pick(&load).ok_or(why)
}

/// Picks a connection of one replica, or of any, whatever hostnames they serve, for its management. One that
/// is late with an answer is taken when there is no other.
///
/// # Errors
/// [`NoConnection::AllTried`] or [`NoConnection::Down`].
pub fn choose_replica<'a, T>(
    directory: &'a Directory<T>,
    (tunnel, connector): (TunnelId, Option<ConnectorId>),
    tried: &Tried,
    load: impl Fn(&T) -> u32,
) -> Result<&'a Live<T>, NoConnection> {
    let mut why = NoConnection::Down;
    let [mut well, mut doubted] = [(); 2].map(|()| policy::least_loaded());
    for live in directory.of(tunnel, connector).filter(|live| !live.is_draining) {
        if tried.connections.contains(&live.id) {
            why = NoConnection::AllTried;
        } else if live.is_doubted {
            doubted.offer(live, &load);
        } else {
            well.offer(live, &load);
        }
    }
    well.pick(&load).or_else(|| doubted.pick(&load)).ok_or(why)
}

fn more_specific(a: NoConnection, b: NoConnection) -> NoConnection {
    let rank = |why| match why {
        NoConnection::Down => 0,
        NoConnection::NotServed => 1,
        NoConnection::NoTrailers => 2,
        NoConnection::AllTried => 3,
        NoConnection::Doubted => 4,
        NoConnection::Full => 5,
    };
    if rank(b) > rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{RulePath, Served, ServedHosts, Slot, ToldHealth};
    use crate::ejection::{Ejections, Outcome, Settings, Told, Trier};
    use adit_wire::ConnIndex;
    use std::collections::BTreeMap;
    use std::time::Instant;
    use uuid::Uuid;

    const TUNNEL: TunnelId = TunnelId(Uuid::from_u128(1));

    const CONNECTOR: ConnectorId = ConnectorId(Uuid::from_u128(9));
    const OTHER_CONNECTOR: ConnectorId = ConnectorId(Uuid::from_u128(8));

    fn directory(cores: &[u16], loads: &[u32]) -> Directory<u32> {
        let mut directory = Directory::default();
        for (index, (core, load)) in cores.iter().zip(loads).enumerate() {
            join(&mut directory, CONNECTOR, index, *core, *load);
        }
        directory
    }

    fn join(directory: &mut Directory<u32>, connector: ConnectorId, index: usize, core: u16, load: u32) {
        directory.join(Live {
            id: id(index),
            slot: Slot {
                tunnel: TUNNEL,
                connector,
                index: ConnIndex(index as u8),
            },
            order: index as u64,
            core,
            is_draining: false,
            is_doubted: false,
            carries_trailers: core == 0,
            is_of_ours: core == 0,
            handle: load,
        });
    }

    fn id(index: usize) -> ConnectionId {
        ConnectionId(Uuid::from_u128(100 + index as u128))
    }

    fn pick(
        directory: &Directory<u32>,
        connections: &[ConnectionId],
        seed: u64,
    ) -> Result<ConnectionId, NoConnection> {
        let tried = Tried {
            connections: connections.to_vec(),
            ..Tried::default()
        };
        pick_after(directory, &tried, seed)
    }

    fn pick_after(
        directory: &Directory<u32>,
        tried: &Tried,
        seed: u64,
    ) -> Result<ConnectionId, NoConnection> {
        let host = "a.test".parse().unwrap();
        let ask = Ask {
            tunnel: TUNNEL,
            host: &host,
            path: "/",
            policy: PolicyName::default(),
            core: 0,
            tried,
            needs_trailers: false,
            prefers_ours: false,
            takes_doubted: false,
            known: None,
            seed,
        };
        choose(directory, &ask, |load| *load).map(|live| live.id)
    }

    #[test]
    fn the_visitors_core_wins_until_its_connections_are_full_or_tried() {
        let near_is_busy = directory(&[0, 1], &[4_000, 0]);
        assert_eq!(pick(&near_is_busy, &[], 1), Ok(id(0)));
        assert_eq!(pick(&near_is_busy, &[id(0)], 1), Ok(id(1)));
        let near_is_full = directory(&[0, 1], &[EXCHANGES_PER_CONNECTION_MAX, 0]);
        assert_eq!(pick(&near_is_full, &[], 1), Ok(id(1)));
    }

    #[test]
    fn the_less_loaded_of_two_wins_and_equals_share() {
        let uneven = directory(&[0, 0], &[5, 3]);
        let even = directory(&[0, 0, 0, 0], &[0; 4]);
        let mut counts = BTreeMap::new();
        for seed in 0..4_000 {
            assert_eq!(pick(&uneven, &[], seed), Ok(id(1)));
            *counts.entry(pick(&even, &[], seed).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 4);
        assert!(
            counts.values().all(|count| (700..1_300).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_replica_that_lost_a_connection_comes_after_every_other() {
        // The replica that lost connection 0 is near and idle; the other one is far and busy.
        let mut directory = directory(&[0, 0, 1], &[0; 3]);
        join(&mut directory, OTHER_CONNECTOR, 3, 1, 1_000);
        let mut tried = Tried {
            connections: vec![id(0)],
            avoided: vec![CONNECTOR],
            barred: vec![],
        };
        for wanted in [Ok(id(3)), Ok(id(1)), Ok(id(2)), Err(NoConnection::AllTried)] {
            for seed in 0..100 {
                assert_eq!(pick_after(&directory, &tried, seed), wanted, "{tried:?}");
            }
            tried.connections.extend(wanted.ok());
        }
    }

    #[test]
    fn a_full_replica_is_no_reason_to_give_up_on_one_that_lost_a_connection() {
        let mut directory = directory(&[0, 0], &[0; 2]);
        join(
            &mut directory,
            OTHER_CONNECTOR,
            3,
            0,
            EXCHANGES_PER_CONNECTION_MAX,
        );
        let tried = Tried {
            connections: vec![id(0)],
            avoided: vec![CONNECTOR],
            barred: vec![],
        };
        assert_eq!(pick_after(&directory, &tried, 1), Ok(id(1)));
    }

    #[test]
    fn a_replica_that_says_its_origin_is_down_is_asked_when_no_other_is_left() {
        // It is near and idle, the other one far and busy.
        let mut directory = directory(&[0], &[0]);
        join(&mut directory, OTHER_CONNECTOR, 1, 1, 1_000);
        let down = |revision| ToldHealth::new(revision, [("a.test", RulePath::EVERY, true)]);
        assert!(directory.set_health(TUNNEL, CONNECTOR, down(1)));
        assert!((0..100).all(|seed| pick(&directory, &[], seed) == Ok(id(1))));
        assert_eq!(pick(&directory, &[id(1)], 1), Ok(id(0)));
        // With every origin down it is as if none was.
        assert!(directory.set_health(TUNNEL, OTHER_CONNECTOR, down(1)));
        assert!((0..100).any(|seed| pick(&directory, &[], seed) == Ok(id(0))));
        assert!(directory.set_health(TUNNEL, OTHER_CONNECTOR, ToldHealth::new(2, [])));
        assert!(directory.set_health(TUNNEL, CONNECTOR, ToldHealth::new(2, [])));
        assert_eq!(pick(&directory, &[], 1), Ok(id(0)));
    }

    #[test]
    fn a_late_connection_is_left_alone_and_its_replica_comes_last() {
        // Near and idle, but late; its sister is idle as well, the other replica far and busy.
        let mut directory = directory(&[0, 0], &[0; 2]);
        join(&mut directory, OTHER_CONNECTOR, 2, 1, 1_000);
        directory.doubt(id(0), true);
        let mut tried = Tried::default();
        for wanted in [Ok(id(2)), Ok(id(1)), Err(NoConnection::Doubted)] {
            for seed in 0..100 {
                assert_eq!(pick_after(&directory, &tried, seed), wanted, "{tried:?}");
            }
            tried.connections.extend(wanted.ok());
        }
        directory.doubt(id(0), false);
        assert!((0..100).any(|seed| pick_after(&directory, &Tried::default(), seed) == Ok(id(0))));
    }

    #[test]
    fn a_late_connection_is_taken_by_who_asks_for_it_when_no_other_is_left() {
        let mut directory = directory(&[0, 1], &[0; 2]);
        directory.doubt(id(0), true);
        let host = "a.test".parse().unwrap();
        let pick = |directory: &Directory<u32>| {
            let ask = Ask {
                tunnel: TUNNEL,
                host: &host,
                path: "/",
                policy: PolicyName::default(),
                core: 0,
                tried: &Tried::default(),
                needs_trailers: false,
                prefers_ours: false,
                takes_doubted: true,
                known: None,
                seed: 1,
            };
            choose(directory, &ask, |load| *load).map(|live| live.id)
        };
        assert_eq!(pick(&directory), Ok(id(1)));
        directory.doubt(id(1), true);
        assert!(pick(&directory).is_ok());
        directory.leave(id(1));
        assert_eq!(pick(&directory), Ok(id(0)));
    }

    #[test]
    fn a_barred_replica_is_never_taken_again() {
        let mut directory = directory(&[0, 0, 1], &[0; 3]);
        let tried = Tried {
            barred: vec![CONNECTOR],
            ..Tried::default()
        };
        assert_eq!(pick_after(&directory, &tried, 1), Err(NoConnection::AllTried));
        join(&mut directory, OTHER_CONNECTOR, 3, 1, 0);
        assert_eq!(pick_after(&directory, &tried, 1), Ok(id(3)));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any beginning of time will do")]
    fn a_replica_that_is_left_out_comes_last_and_is_tried_by_one_exchange() {
        // The failing replica is near, the other one far and busy.
        let mut directory = directory(&[0, 0], &[0; 2]);
        join(&mut directory, OTHER_CONNECTOR, 3, 1, 1_000);
        let (host, mut now) = ("a.test".parse().unwrap(), Instant::now());
        let mut ejections = Ejections::new(Settings::default());
        for _ in 0..5 {
            let told = Told {
                tunnel: TUNNEL,
                host: &host,
                connector: CONNECTOR,
                path: RulePath::EVERY,
                outcome: Outcome::Failed,
                sent: now,
            };
            ejections.report(
                &told,
                &[CONNECTOR, OTHER_CONNECTOR].map(|id| (id, RulePath::EVERY)),
                now,
            );
        }
        let pick = |ejections: &Ejections, tried: &Tried, trier, now| {
            let ask = Ask {
                tunnel: TUNNEL,
                host: &host,
                path: "/",
                policy: PolicyName::default(),
                core: 0,
                tried,
                takes_doubted: false,
                needs_trailers: false,
                prefers_ours: false,
                known: ejections.known(TUNNEL, &host, 1, trier, now),
                seed: 1,
            };
            choose(&directory, &ask, |load| *load).map(|live| live.slot.connector)
        };
        let none = Tried::default();
        let tried = Tried {
            barred: vec![OTHER_CONNECTOR],
            ..Tried::default()
        };
        assert_eq!(
            pick(&ejections, &none, Trier::Repeatable, now),
            Ok(OTHER_CONNECTOR)
        );
        assert_eq!(
            pick(&ejections, &tried, Trier::No, now),
            Ok(CONNECTOR),
            "better than none"
        );
        now += Settings::default().time;
        assert_eq!(pick(&ejections, &none, Trier::Repeatable, now), Ok(CONNECTOR));
        ejections.begin_trial(TUNNEL, &host, (CONNECTOR, RulePath::EVERY), now);
        assert_eq!(
            pick(&ejections, &none, Trier::Repeatable, now),
            Ok(OTHER_CONNECTOR)
        );
    }

    #[test]
    fn what_needs_trailers_goes_only_where_they_are_carried() {
        let host = "a.test".parse().unwrap();
        let pick = |directory: &Directory<u32>, tried: &Tried, seed| {
            let ask = Ask {
                tunnel: TUNNEL,
                host: &host,
                path: "/",
                policy: PolicyName::default(),
                core: 1,
                tried,
                needs_trailers: true,
                prefers_ours: false,
                takes_doubted: false,
                known: None,
                seed,
            };
            choose(directory, &ask, |load| *load).map(|live| live.id)
        };
        let none = Tried::default();
        // Those of core 0 carry trailers; the others are nearer and idle.
        let mixed = directory(&[1, 1, 0, 1], &[0, 0, 4_000, 0]);
        for seed in 0..100 {
            assert_eq!(pick(&mixed, &none, seed), Ok(id(2)));
        }
        let tried = Tried {
            connections: vec![id(2)],
            ..Tried::default()
        };
        assert_eq!(pick(&mixed, &tried, 1), Err(NoConnection::AllTried));
        let stock = directory(&[1, 1], &[0, 0]);
        assert_eq!(pick(&stock, &none, 1), Err(NoConnection::NoTrailers));
    }

    #[test]
    fn an_upgrade_goes_to_connectors_of_ours_while_there_is_one() {
        let host = "a.test".parse().unwrap();
        let pick = |directory: &Directory<u32>, tried: &Tried, seed| {
            let ask = Ask {
                tunnel: TUNNEL,
                host: &host,
                path: "/",
                policy: PolicyName::default(),
                core: 1,
                tried,
                needs_trailers: false,
                prefers_ours: true,
                takes_doubted: false,
                known: None,
                seed,
            };
            choose(directory, &ask, |load| *load).map(|live| live.id)
        };
        // Those of core 0 are ours; the others are nearer and idle.
        let mixed = directory(&[1, 1, 0, 1], &[0, 0, 4_000, 0]);
        for seed in 0..100 {
            assert_eq!(pick(&mixed, &Tried::default(), seed), Ok(id(2)));
        }
        let tried = Tried {
            connections: vec![id(2)],
            ..Tried::default()
        };
        assert!(
            pick(&mixed, &tried, 1).is_ok(),
            "an answer without the upgrade is one"
        );
    }

    #[test]
    fn the_reason_for_no_connection_is_the_most_specific() {
        let nothing = directory(&[], &[]);
        assert_eq!(pick(&nothing, &[], 1), Err(NoConnection::Down));
        let mut one = directory(&[0], &[0]);
        assert_eq!(pick(&one, &[id(0)], 1), Err(NoConnection::AllTried));
        one.set_served(
            TUNNEL,
            ConnectorId(Uuid::from_u128(9)),
            ServedHosts::from_rules([Some("other.test")]),
        );
        assert_eq!(pick(&one, &[], 1), Err(NoConnection::NotServed));
        let full = directory(&[0, 1], &[EXCHANGES_PER_CONNECTION_MAX; 2]);
        assert_eq!(pick(&full, &[], 1), Err(NoConnection::Full));
    }

    /// What the replica of connection 0 and that of connection 1 serve, each on the visitor's core.
    fn two(first: &Served, second: &Served) -> Directory<u32> {
        let mut directory = Directory::default();
        for (index, (connector, served)) in [(CONNECTOR, first), (OTHER_CONNECTOR, second)].iter().enumerate()
        {
            join(&mut directory, *connector, index, 0, 0);
            directory.set_served(TUNNEL, *connector, Served::clone(served));
        }
        directory
    }

    fn pick_path(
        directory: &Directory<u32>,
        path: &str,
        (tried, takes_doubted): (&Tried, bool),
        ejections: &Ejections,
        now: Instant,
    ) -> Result<ConnectionId, NoConnection> {
        let host = "a.test".parse().unwrap();
        let ask = Ask {
            tunnel: TUNNEL,
            host: &host,
            path,
            policy: PolicyName::default(),
            core: 0,
            tried,
            needs_trailers: false,
            prefers_ours: false,
            takes_doubted,
            known: ejections.known(TUNNEL, &host, 1, Trier::No, now),
            seed: 1,
        };
        choose(directory, &ask, |load| *load).map(|live| live.id)
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any beginning of time will do")]
    fn a_path_goes_to_the_replica_that_serves_it() {
        let (none, ejections, now) = (
            Tried::default(),
            Ejections::new(Settings::default()),
            Instant::now(),
        );
        let api = Served::from_rules([(Some("a.test"), Some("^/api"))]);
        let web = Served::from_rules([(Some("a.test"), Some("^/web"))]);
        let mut directory = two(&api, &web);
        let pick = |directory: &Directory<u32>, path, tried: &Tried, takes_doubted| {
            pick_path(directory, path, (tried, takes_doubted), &ejections, now)
        };
        assert_eq!(pick(&directory, "/api/x", &none, false), Ok(id(0)));
        assert_eq!(pick(&directory, "/web", &none, false), Ok(id(1)));
        assert!(
            pick(&directory, "/", &none, false).is_ok(),
            "a closing rule answers"
        );
        let tried = Tried {
            connections: vec![id(0)],
            ..Tried::default()
        };
        let refused = pick(&directory, "/api/x", &tried, false);
        assert_eq!(
            refused,
            Err(NoConnection::AllTried),
            "not the other's closing rule"
        );
        directory.doubt(id(0), true);
        assert_eq!(
            pick(&directory, "/api/x", &none, false),
            Err(NoConnection::Doubted)
        );
        assert_eq!(pick(&directory, "/api/x", &none, true), Ok(id(0)));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any beginning of time will do")]
    fn a_rule_for_some_paths_that_is_down_or_left_out_takes_no_other_path_along() {
        let (none, now) = (Tried::default(), Instant::now());
        let both = Served::from_rules([(Some("a.test"), Some("^/api")), (Some("a.test"), None)]);
        let api = RulePath::of("^/api");
        let asked = |directory: &Directory<u32>, ejections: &Ejections, path| -> Vec<_> {
            let picked = (0..).map(|_| pick_path(directory, path, (&none, false), ejections, now));
            picked.take(4).collect()
        };
        let mut ejections = Ejections::new(Settings::default());
        let mut directory = two(&both, &both);
        directory.set_health(
            TUNNEL,
            CONNECTOR,
            ToldHealth::new(1, [("a.test", api, true), ("a.test", RulePath::EVERY, false)]),
        );
        assert_eq!(asked(&directory, &ejections, "/api"), [Ok(id(1)); 4]);
        let others = asked(&directory, &ejections, "/");
        directory.set_health(TUNNEL, CONNECTOR, ToldHealth::new(2, []));
        assert_eq!(others, asked(&directory, &ejections, "/"), "as if all was well");

        let host = "a.test".parse().unwrap();
        for _ in 0..5 {
            let told = Told {
                tunnel: TUNNEL,
                host: &host,
                connector: CONNECTOR,
                path: api,
                outcome: Outcome::Failed,
                sent: now,
            };
            ejections.report(&told, &[(CONNECTOR, api), (OTHER_CONNECTOR, api)], now);
        }
        assert_eq!(ejections.out(), 1);
        assert_eq!(asked(&directory, &ejections, "/api"), [Ok(id(1)); 4]);
        assert_eq!(asked(&directory, &ejections, "/"), others);
    }

    #[test]
    fn each_policy_takes_one_of_the_best_level_and_none_of_nothing() {
        for policy in PolicyName::ALL {
            let host = "a.test".parse().unwrap();
            let tried = Tried::default();
            let ask = |seed| Ask {
                tunnel: TUNNEL,
                host: &host,
                path: "/",
                policy: *policy,
                core: 0,
                tried: &tried,
                needs_trailers: false,
                prefers_ours: false,
                takes_doubted: false,
                known: None,
                seed,
            };
            let nothing = directory(&[], &[]);
            assert!(choose(&nothing, &ask(1), |load| *load).is_err(), "{policy:?}");
            let mixed = directory(&[0, 0, 0, 1], &[3, 0, 5, 0]);
            for seed in 0..100 {
                let chosen = choose(&mixed, &ask(seed), |load| *load).unwrap().id;
                assert_ne!(chosen, id(3), "{policy:?} leaves the best level");
                assert!(*policy != PolicyName::LeastLoaded || chosen == id(1));
            }
        }
    }

    #[test]
    fn management_goes_to_its_replica_and_late_connections_last() {
        let mut directory = two(&Served::default(), &Served::default());
        join(&mut directory, CONNECTOR, 2, 0, 7);
        let pick = |directory: &Directory<u32>, connector, tried: &Tried| {
            choose_replica(directory, (TUNNEL, connector), tried, |load| *load).map(|live| live.id)
        };
        let mut tried = Tried::default();
        assert_eq!(pick(&directory, Some(CONNECTOR), &tried), Ok(id(0)));
        directory.doubt(id(0), true);
        assert_eq!(pick(&directory, Some(CONNECTOR), &tried), Ok(id(2)));
        assert_eq!(pick(&directory, None, &tried), Ok(id(1)));
        tried.connections.push(id(2));
        assert_eq!(pick(&directory, Some(CONNECTOR), &tried), Ok(id(0)));
        tried.connections.push(id(0));
        assert_eq!(
            pick(&directory, Some(CONNECTOR), &tried),
            Err(NoConnection::AllTried)
        );
    }
}
