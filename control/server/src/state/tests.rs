//! Writes that fail, generations that come from edges, and edges that fall behind.

use std::sync::atomic::{AtomicU64, Ordering};

use adit_control_api::digest::SecretDigest;
use adit_control_api::problem::{ApiError, Code};
use adit_control_api::snapshot::Applied;
use adit_control_api::tunnel::CreateTunnel;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

use super::*;
use crate::change::{Decision, routes, tunnels};
use crate::store::{RedbStore, Watch};

const SETTINGS: PlanSettings = PlanSettings {
    replicas_max: 2,
    management_key: None,
};

fn edge(name: &str, generation: u64) -> EdgeInfo {
    EdgeInfo {
        name: name.into(),
        colo: "LAB".into(),
        region: "WEU".into(),
        run: Uuid::nil(),
        generation,
        version: "0".into(),
    }
}

async fn create(state: &Arc<State>, n: u128) -> Result<TunnelId, ApiError> {
    let request = CreateTunnel {
        name: format!("t{n}"),
        tunnel_secret: STANDARD.encode([7; 32]),
    };
    let account = "acct".parse().unwrap();
    let id = TunnelId(Uuid::from_u128(n));
    let now = OffsetDateTime::now_utc();
    state
        .write(move |facts| tunnels::create(facts, &account, &request, id, now))
        .await
        .map(|made| made.id)
}

fn connection(tunnel: TunnelId, connector: u128) -> Connection {
    Connection {
        key: ConnectionKey {
            tunnel,
            connector: Uuid::from_u128(connector).into(),
            index: adit_control_api::ConnIndex(0),
            connection: Uuid::from_u128(connector).into(),
        },
        account: "acct".parse().unwrap(),
        version: "1".into(),
        arch: "linux_amd64".into(),
        features: Vec::new(),
        origin_address: "192.0.2.1".parse().unwrap(),
        opened_at: std::time::SystemTime::now(),
    }
}

#[tokio::test]
async fn a_write_on_a_full_disk_is_refused_and_changes_nothing_and_the_next_one_works() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let store = crate::store::small_disk(path.clone(), room.clone());
    let state = State::open(Arc::new(store), SETTINGS).unwrap();
    create(&state, 1).await.unwrap();
    let before = state.facts().generation;
    room.store(0, Ordering::SeqCst);
    let refused = create(&state, 2).await.unwrap_err();
    assert_eq!(refused.code, Code::StoreFailed.number());
    assert!(refused.message.contains("disk is full"), "{refused}");
    assert_eq!(
        (state.facts().generation, state.facts().tunnels.size()),
        (before, 1)
    );
    room.store(u64::MAX, Ordering::SeqCst);
    create(&state, 2).await.unwrap();
    assert_eq!(state.facts().tunnels.size(), 2);
}

#[tokio::test]
async fn every_write_and_every_start_is_a_new_generation_and_its_delta_fits() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(RedbStore::open(dir.path().join("store.redb")).unwrap());
    let state = State::open(open(), SETTINGS).unwrap();
    let mut held = RouteSnapshot::clone(&state.published.borrow().snapshot);
    for n in 1..5 {
        create(&state, n).await.unwrap();
        let now = state.published.borrow().clone();
        let delta = serde_json::from_slice(&now.deltas.back().unwrap().json).unwrap();
        assert_eq!(held.apply(delta), Ok(Applied::Yes));
        assert!(held.same_content(&now.snapshot) && held.generation == now.snapshot.generation);
    }
    drop(state);
    let state = State::open(open(), SETTINGS).unwrap();
    assert!(state.facts().generation > held.generation);
}

#[tokio::test]
async fn an_edge_that_is_ahead_raises_the_generation_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(RedbStore::open(dir.path().join("store.redb")).unwrap());
    let state = State::open(open(), SETTINGS).unwrap();
    state.attach(&edge("e", 500), "here").await.unwrap();
    assert!(state.facts().generation > 500);
    assert!(matches!(
        state.attach(&edge("e", u64::MAX), "here").await,
        Err(AttachError::Generation(_))
    ));
    drop(state);
    assert!(State::open(open(), SETTINGS).unwrap().facts().generation > 501);
}

#[tokio::test]
async fn a_deleted_tunnels_connections_are_closed_and_no_new_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
    let state = State::open(Arc::new(store), SETTINGS).unwrap();
    let id = create(&state, 1).await.unwrap();
    let mut attachment = state.attach(&edge("e", 0), "here").await.unwrap();
    let secret = SecretDigest::of(&[7; 32]);
    let accepted = state
        .register(attachment.session, connection(id, 1), &secret)
        .unwrap();
    assert!(matches!(accepted, RegisterOutcome::Accepted(_)));
    let now = OffsetDateTime::now_utc();
    let account = "acct".parse().unwrap();
    state
        .write(move |facts| tunnels::delete(facts, &account, id, now))
        .await
        .unwrap();
    state.cleanup(id, None, "the tunnel is deleted");
    let Some(Order::Disconnect(disconnect)) = attachment.orders.recv().await else {
        panic!("something to close")
    };
    assert_eq!(disconnect.tunnel, id);
    let refused = state
        .register(attachment.session, connection(id, 1), &secret)
        .unwrap();
    let RegisterOutcome::Refused(refused) = refused else {
        panic!("refused")
    };
    assert_eq!(refused.cause, "Unauthorized: Invalid tunnel secret");
}

#[tokio::test]
async fn an_edge_that_takes_no_orders_is_cut_off_instead_of_queued_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
    let state = State::open(Arc::new(store), SETTINGS).unwrap();
    let id = create(&state, 1).await.unwrap();
    let mut attachment = state.attach(&edge("e", 0), "here").await.unwrap();
    let secret = SecretDigest::of(&[7; 32]);
    for _ in 0..=ORDERS_MAX {
        state
            .register(attachment.session, connection(id, 1), &secret)
            .unwrap();
        state.cleanup(id, None, "asked to");
    }
    let mut received = 0;
    while attachment.orders.recv().await.is_some() {
        received += 1;
    }
    assert_eq!(received, ORDERS_MAX);
}

#[tokio::test]
async fn an_edge_is_told_who_took_its_name_unless_it_did_so_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
    let state = State::open(Arc::new(store), SETTINGS).unwrap();
    let mut first = state.attach(&edge("e", 0), "here").await.unwrap();
    let mut again = state.attach(&edge("e", 0), "here").await.unwrap();
    assert_eq!(first.orders.recv().await, None, "its own new link says all");
    let other = EdgeInfo {
        run: Uuid::from_u128(1),
        ..edge("e", 0)
    };
    let _other = state.attach(&other, "there").await.unwrap();
    let rival = Rival {
        edge: other,
        address: "there".into(),
    };
    assert_eq!(again.orders.recv().await, Some(Order::MakeWay(rival)));
    assert_eq!(again.orders.recv().await, None);
}

/// A store in which another control process writes just before our first commit.
struct Contested {
    store: RedbStore,
    rivals: Mutex<Vec<Change>>,
}

impl Store for Contested {
    fn load(&self) -> Result<(Facts, Revision), StoreError> {
        self.store.load()
    }
    fn commit(&self, expected: Revision, changes: &[Change]) -> Result<Revision, StoreError> {
        let rivals = std::mem::take(&mut *self.rivals.lock().unwrap());
        if !rivals.is_empty() {
            self.store.commit(expected, &rivals)?;
        }
        self.store.commit(expected, changes)
    }
    fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        self.store.watch(from)
    }
}

fn made(n: u128, generation: u64) -> Vec<Change> {
    let tunnel = crate::facts::Tunnel {
        id: TunnelId(Uuid::from_u128(n)),
        account: "acct".parse().unwrap(),
        name: format!("t{n}"),
        secret: adit_wire::TunnelSecret::new([7; 32]),
        created_at: OffsetDateTime::UNIX_EPOCH,
        deleted_at: None,
        expires_at: None,
    };
    vec![Change::PutTunnel(tunnel), Change::Generation(generation)]
}

#[tokio::test]
async fn a_write_that_lost_a_race_is_decided_again_on_what_the_other_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Contested {
        store: RedbStore::open(dir.path().join("store.redb")).unwrap(),
        rivals: Mutex::default(),
    });
    let state = State::open(store.clone(), SETTINGS).unwrap();
    let contest = |n| *store.rivals.lock().unwrap() = made(n, state.facts().generation + 1);
    contest(1);
    create(&state, 2).await.unwrap();
    assert_eq!(state.facts().tunnels.size(), 2, "both are there");
    contest(3);
    let refused = create(&state, 3).await.unwrap_err();
    assert_eq!(refused.code, Code::NameTaken.number(), "{refused}");
    assert_eq!(state.facts().tunnels.size(), 3);
    let published = state.published.borrow().clone();
    assert!(published.snapshot.same_content(&plan(&published.facts, SETTINGS)));
}

#[tokio::test]
async fn what_another_process_commits_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(RedbStore::open(dir.path().join("store.redb")).unwrap());
    let state = State::open(store.clone(), SETTINGS).unwrap();
    let (facts, revision) = store.load().unwrap();
    let committed = store.commit(revision, &made(1, facts.generation + 1)).unwrap();
    let mut published = state.published.subscribe();
    let news = published.wait_for(|now| now.revision == committed).await.unwrap();
    assert_eq!(news.facts.tunnels.size(), 1);
    assert!(news.snapshot.same_content(&plan(&news.facts, SETTINGS)));
}

#[tokio::test]
async fn an_edge_that_is_a_few_steps_behind_finds_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
    let state = State::open(Arc::new(store), SETTINGS).unwrap();
    let mut held = RouteSnapshot::clone(&state.published.borrow().snapshot);
    for n in 1..=(DELTAS_MAX as u128) {
        create(&state, n).await.unwrap();
    }
    let now = state.published.borrow().clone();
    assert_eq!(now.deltas.len(), DELTAS_MAX);
    for delta in &now.deltas {
        let delta = serde_json::from_slice(&delta.json).unwrap();
        assert_eq!(held.apply(delta), Ok(Applied::Yes));
    }
    assert!(held.same_content(&now.snapshot));
    create(&state, 1_000).await.unwrap();
    assert_eq!(state.published.borrow().deltas.len(), DELTAS_MAX);
}

/// Prints what a write costs beside many facts:
/// `cargo test -p adit-control --lib cost_of_a_write -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn cost_of_a_write() {
    const FACTS: u128 = 100_000;
    const WRITES: u128 = 20;
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path().join("store.redb")).unwrap();
    let changes = many_facts(FACTS);
    store.commit(Revision(0), &changes).unwrap();
    let mut meter = Meter::start();
    let state = State::open(Arc::new(store), SETTINGS).unwrap();
    meter.print("start", 1);
    for n in 1..=WRITES {
        create(&state, FACTS + n).await.unwrap();
    }
    meter.print("a new tunnel", WRITES);
    let published = state.published.borrow().clone();
    assert_eq!(published.snapshot.tunnels.size() as u128, FACTS + WRITES);
    assert!(published.snapshot.same_content(&plan(&published.facts, SETTINGS)));
    drop(published);
    meter = Meter::start();
    let account: adit_control_api::AccountTag = "acct".parse().unwrap();
    let (now, first) = (OffsetDateTime::UNIX_EPOCH, TunnelId(Uuid::from_u128(FACTS + 1)));
    for n in 1..=WRITES {
        let (account, host) = (account.clone(), format!("new{n}.test"));
        state
            .write(move |facts| routes::put(facts, &account, first, &host, false, now))
            .await
            .unwrap();
    }
    meter.print("a new hostname", WRITES);
    for n in 1..=WRITES {
        state
            .write(move |_| {
                let configuration = crate::facts::Configuration {
                    tunnel: TunnelId(Uuid::from_u128(n)),
                    version: 1,
                    config: serde_json::json!({}),
                    written_at: OffsetDateTime::UNIX_EPOCH,
                };
                Ok(Decision {
                    changes: vec![Change::PutConfiguration(configuration)],
                    answer: (),
                })
            })
            .await
            .unwrap();
    }
    meter.print("a configuration", WRITES);
    for n in 1..=WRITES {
        let account = account.clone();
        let id = TunnelId(Uuid::from_u128(FACTS + n));
        state
            .write(move |facts| tunnels::delete(facts, &account, id, now))
            .await
            .unwrap();
    }
    meter.print("a tunnel deleted", WRITES);
}

/// As many tunnels, each with a hostname, of a hundred accounts.
fn many_facts(count: u128) -> Vec<Change> {
    (1..=count)
        .flat_map(|n| {
            let id = TunnelId(Uuid::from_u128(n));
            let account: adit_control_api::AccountTag = format!("acct{}", n % 100).parse().unwrap();
            let tunnel = crate::facts::Tunnel {
                id,
                account: account.clone(),
                name: format!("t{n}"),
                secret: adit_wire::TunnelSecret::new([7; 32]),
                created_at: OffsetDateTime::UNIX_EPOCH,
                deleted_at: None,
                expires_at: None,
            };
            let route = crate::facts::Route {
                pattern: format!("h{n}.test").parse().unwrap(),
                account,
                tunnel: id,
                created_at: OffsetDateTime::UNIX_EPOCH,
            };
            [Change::PutTunnel(tunnel), Change::PutRoute(route)]
        })
        .collect()
}

/// Time on the clock and on the CPU since it was last read.
struct Meter {
    clock: Instant,
    cpu: std::time::Duration,
}

impl Meter {
    fn start() -> Self {
        Self {
            clock: Instant::now(),
            cpu: cpu(),
        }
    }

    fn print(&mut self, what: &str, times: u128) {
        let (clock, cpu) = (self.clock.elapsed(), cpu() - self.cpu);
        println!(
            "{what}: {:?}, {:?} of CPU",
            clock / times as u32,
            cpu / times as u32
        );
        *self = Self::start();
    }
}

/// CPU time of the whole process, in the kernel too.
fn cpu() -> std::time::Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| std::time::Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64))
        .sum()
}
