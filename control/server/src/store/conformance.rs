//! What every store has to keep, as tests over any of them.
//!
//! A store takes part with a [`Place`], which opens it as often as a test asks, and one line:
//! `suite!(place())` in its tests. The functions are generic; nothing in them knows a kind of store.

use std::collections::BTreeSet;
use std::sync::Arc;

use adit_control_api::digest::SecretDigest;
use adit_wire::TunnelSecret;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Revision, Store, StoreError, Watch};
use crate::facts::{Account, Change, Configuration, Facts, Route, Tunnel, ZoneId};

/// Somewhere a store keeps its facts.
pub(crate) trait Place {
    /// The kind of store.
    type Store: Store;

    /// Opens the store with what is there. The one opened before is closed.
    fn open(&self) -> Self::Store;

    /// From here on there is no room for more.
    fn fill_up(&self);

    /// There is room again.
    fn make_room(&self);
}

/// A test of the suite for each function below, over the place that the expression makes.
macro_rules! suite {
    ($place:expr) => {
        $crate::store::conformance::suite!(@each $place,
            everything_is_there_after_reopening_and_nothing_after_its_removal,
            a_write_decided_on_an_older_revision_changes_nothing,
            of_concurrent_commits_on_one_revision_one_wins,
            concurrent_writers_who_decide_again_lose_nothing,
            a_full_disk_is_told_and_what_was_acknowledged_stays,
        );
        $crate::store::conformance::suite!(@each_async $place,
            a_watch_tells_every_commit_once_and_in_order,
            a_watch_from_an_earlier_revision_begins_there,
            a_watch_from_what_is_forgotten_or_to_come_is_refused,
            who_watches_and_loads_when_it_ends_misses_nothing_on_a_full_disk,
            a_watch_ends_with_its_store,
        );
    };
    (@each $place:expr, $($name:ident,)+) => {
        $(#[test] fn $name() { $crate::store::conformance::$name(&$place); })+
    };
    (@each_async $place:expr, $($name:ident,)+) => {
        $(#[tokio::test] async fn $name() { $crate::store::conformance::$name(&$place).await; })+
    };
}
pub(crate) use suite;

fn tunnel(n: u128, padding: usize) -> Change {
    Change::PutTunnel(Tunnel {
        id: Uuid::from_u128(n).into(),
        account: "acct".parse().unwrap(),
        name: format!("t{n}{}", "x".repeat(padding)),
        secret: TunnelSecret::new([7; 32]),
        created_at: OffsetDateTime::UNIX_EPOCH,
        deleted_at: None,
        expires_at: None,
    })
}

fn everything() -> Vec<Change> {
    let now = OffsetDateTime::UNIX_EPOCH;
    vec![
        Change::PutAccount(Account {
            tag: "acct".parse().unwrap(),
            name: "local".into(),
            zone: ZoneId("zone".into()),
            token: SecretDigest::of(b"token"),
            created_at: now,
        }),
        tunnel(1, 0),
        Change::PutRoute(Route {
            pattern: "*.app.test".parse().unwrap(),
            account: "acct".parse().unwrap(),
            tunnel: Uuid::from_u128(1).into(),
            created_at: now,
        }),
        Change::PutConfiguration(Configuration {
            tunnel: Uuid::from_u128(1).into(),
            version: 3,
            config: serde_json::json!({"ingress": []}),
            written_at: now,
        }),
        Change::Generation(9),
    ]
}

pub(crate) fn everything_is_there_after_reopening_and_nothing_after_its_removal(place: &impl Place) {
    let store = place.open();
    let (facts, first) = store.load().unwrap();
    assert_eq!((facts.generation, facts.tunnels.size()), (0, 0));
    let second = store.commit(first, &everything()).unwrap();
    assert!(second > first);
    drop(store);

    let store = place.open();
    let (facts, revision) = store.load().unwrap();
    assert_eq!(revision, second);
    assert_eq!((facts.generation, facts.accounts.size()), (9, 1));
    let tunnel = facts.tunnels.values().next().unwrap();
    assert_eq!(tunnel.secret, TunnelSecret::new([7; 32]));
    assert_eq!(facts.routes.keys().next().unwrap().to_string(), "*.app.test");
    assert_eq!(facts.configurations.values().next().unwrap().version, 3);

    let gone = [
        Change::RemoveTunnel(tunnel.id),
        Change::RemoveRoute("*.app.test".parse().unwrap()),
        Change::RemoveConfiguration(tunnel.id),
    ];
    let third = store.commit(revision, &gone).unwrap();
    drop(store);
    let (facts, revision) = place.open().load().unwrap();
    assert_eq!(revision, third);
    assert!(facts.tunnels.is_empty() && facts.routes.is_empty() && facts.configurations.is_empty());
}

pub(crate) fn a_write_decided_on_an_older_revision_changes_nothing(place: &impl Place) {
    let store = place.open();
    let (_, first) = store.load().unwrap();
    let second = store.commit(first, &[tunnel(1, 0)]).unwrap();
    for wrong in [first, Revision(second.0 + 1)] {
        let lost = store.commit(wrong, &[tunnel(2, 0), Change::Generation(5)]);
        let Err(StoreError::Raced { expected, found }) = lost else {
            panic!("{lost:?}")
        };
        assert_eq!((expected, found), (wrong, second));
    }
    let (facts, revision) = store.load().unwrap();
    assert_eq!((facts.tunnels.size(), facts.generation, revision), (1, 0, second));
    store.commit(second, &[tunnel(2, 0)]).unwrap();
}

pub(crate) fn of_concurrent_commits_on_one_revision_one_wins(place: &impl Place) {
    const RIVALS: u128 = 8;
    let store = place.open();
    let (_, first) = store.load().unwrap();
    let won: Vec<u128> = std::thread::scope(|scope| {
        let rivals: Vec<_> = (1..=RIVALS)
            .map(|n| {
                let store = &store;
                scope.spawn(move || match store.commit(first, &[tunnel(n, 0)]) {
                    Ok(_) => Some(n),
                    Err(StoreError::Raced { .. }) => None,
                    Err(error) => panic!("{error}"),
                })
            })
            .collect();
        rivals
            .into_iter()
            .filter_map(|rival| rival.join().unwrap())
            .collect()
    });
    let (facts, revision) = store.load().unwrap();
    assert_eq!(won.len(), 1, "{won:?}");
    let held: Vec<_> = facts.tunnels.keys().map(|id| id.0.as_u128()).collect();
    assert_eq!(held, won);
    assert!(revision > first);
}

pub(crate) fn concurrent_writers_who_decide_again_lose_nothing(place: &impl Place) {
    const WRITERS: u64 = 4;
    const WRITES: u64 = 10;
    let store = place.open();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..WRITES {
                    add_one(&store);
                }
            });
        }
    });
    let (facts, _) = store.load().unwrap();
    assert_eq!(facts.generation, WRITERS * WRITES);
}

fn add_one(store: &impl Store) {
    loop {
        let (facts, revision) = store.load().unwrap();
        match store.commit(revision, &[Change::Generation(facts.generation + 1)]) {
            Ok(_) => return,
            Err(StoreError::Raced { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn a_full_disk_is_told_and_what_was_acknowledged_stays(place: &impl Place) {
    let store = place.open();
    let (_, first) = store.load().unwrap();
    store.commit(first, &[tunnel(0, 0)]).unwrap();
    place.fill_up();
    let acknowledged = commit_until_full(&store);
    let (facts, revision) = store.load().unwrap();
    assert_eq!(facts.tunnels.size() as u128, acknowledged);
    assert!(store.commit(revision, &[tunnel(acknowledged, 100_000)]).is_err());

    place.make_room();
    let (_, revision) = store.load().unwrap();
    let last = store.commit(revision, &[tunnel(acknowledged, 100_000)]).unwrap();
    drop(store);
    let (facts, revision) = place.open().load().unwrap();
    assert_eq!(facts.tunnels.size() as u128, acknowledged + 1);
    assert_eq!(revision, last);
}

/// Commits tunnels until one is refused for want of room; returns how many there are.
fn commit_until_full(store: &impl Store) -> u128 {
    let (facts, mut revision) = store.load().unwrap();
    let mut acknowledged = facts.tunnels.size() as u128;
    loop {
        match store.commit(revision, &[tunnel(acknowledged, 100_000)]) {
            Ok(next) => (revision, acknowledged) = (next, acknowledged + 1),
            Err(StoreError::Full { .. }) => return acknowledged,
            Err(error) => panic!("{error}"),
        }
        assert!(acknowledged < 10_000, "the disk never fills");
    }
}

pub(crate) async fn a_watch_tells_every_commit_once_and_in_order(place: &impl Place) {
    const WRITERS: u64 = 4;
    const WRITES: u64 = 10;
    let store = place.open();
    let (mut facts, first) = store.load().unwrap();
    let mut watches = [store.watch(first).unwrap(), store.watch(first).unwrap()];
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| (0..WRITES).for_each(|_| add_one(&store)));
        }
    });
    let (_, last) = store.load().unwrap();
    for watch in &mut watches {
        facts = Facts::default();
        let mut seen = BTreeSet::new();
        let mut revision = first;
        while revision < last {
            let committed = watch.next().await.expect("the store is well");
            assert!(committed.revision > revision, "told twice or out of order");
            revision = committed.revision;
            for change in committed.changes.iter() {
                facts.apply(change.clone());
            }
            assert!(seen.insert(facts.generation), "a commit is missing or doubled");
        }
        assert_eq!(seen.len() as u64, WRITERS * WRITES);
    }
    assert_eq!(facts.generation, WRITERS * WRITES);
}

pub(crate) async fn a_watch_from_an_earlier_revision_begins_there(place: &impl Place) {
    let store = place.open();
    let (_, mut revision) = store.load().unwrap();
    let mut revisions = vec![revision];
    for n in 1..=5 {
        revision = store.commit(revision, &[Change::Generation(n)]).unwrap();
        revisions.push(revision);
    }
    for (from, due) in revisions.iter().zip(0..) {
        let mut watch = store.watch(*from).unwrap();
        let last = store.load().unwrap().1;
        let mut told = Vec::new();
        while told.last() != Some(&last) && *from != last {
            told.push(watch.next().await.expect("the store is well").revision);
        }
        assert_eq!(told, revisions[due + 1..], "from {from:?}");
    }
}

pub(crate) async fn a_watch_from_what_is_forgotten_or_to_come_is_refused(place: &impl Place) {
    let store = place.open();
    let (_, first) = store.load().unwrap();
    let last = store.commit(first, &[Change::Generation(1)]).unwrap();
    let refused = |watch: Result<Watch, StoreError>| matches!(watch, Err(StoreError::Unwatchable { .. }));
    assert!(refused(store.watch(Revision(last.0 + 1))));
    assert!(store.watch(last).is_ok());
    drop(store);
    // A store may remember across openings, or else has to say so.
    let store = place.open();
    match store.watch(first) {
        Ok(mut watch) => assert_eq!(watch.next().await.map(|told| told.revision), Some(last)),
        Err(error) => assert!(matches!(error, StoreError::Unwatchable { .. }), "{error}"),
    }
    assert!(
        store.watch(last).is_ok(),
        "from what was loaded one can always watch"
    );
}

pub(crate) async fn who_watches_and_loads_when_it_ends_misses_nothing_on_a_full_disk(place: &impl Place) {
    let store = Arc::new(place.open());
    let (mut facts, mut revision) = store.load().unwrap();
    let mut watch = store.watch(revision).unwrap();
    place.fill_up();
    let acknowledged = commit_until_full(&*store);
    place.make_room();
    let (_, last) = store.load().unwrap();
    let last = store.commit(last, &[tunnel(acknowledged, 0)]).unwrap();
    while revision < last {
        match watch.next().await {
            Some(committed) => {
                for change in committed.changes.iter() {
                    facts.apply(change.clone());
                }
                revision = committed.revision;
            }
            None => {
                (facts, revision) = store.load().unwrap();
                watch = store.watch(revision).unwrap();
            }
        }
    }
    assert_eq!(revision, last);
    let (stored, _) = store.load().unwrap();
    assert!(facts.tunnels.keys().eq(stored.tunnels.keys()));
    assert_eq!(stored.tunnels.size() as u128, acknowledged + 1);
}

pub(crate) async fn a_watch_ends_with_its_store(place: &impl Place) {
    let store = place.open();
    let (_, revision) = store.load().unwrap();
    let mut watch = store.watch(revision).unwrap();
    let last = store.commit(revision, &[Change::Generation(1)]).unwrap();
    drop(store);
    assert_eq!(watch.next().await.map(|told| told.revision), Some(last));
    assert!(watch.next().await.is_none());
}
