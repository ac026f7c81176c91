//! The store under restarts, a second process, a newer format, and a disk that fills up.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adit_control_api::digest::SecretDigest;
use adit_wire::TunnelSecret;
use redb::StorageBackend;
use redb::backends::FileBackend;
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::facts::{Account, Configuration, Route, Tunnel, ZoneId};

fn tunnel(n: u128, padding: usize) -> Tunnel {
    Tunnel {
        id: Uuid::from_u128(n).into(),
        account: "acct".parse().unwrap(),
        name: format!("t{n}{}", "x".repeat(padding)),
        secret: TunnelSecret::new([7; 32]),
        created_at: OffsetDateTime::UNIX_EPOCH,
        deleted_at: None,
        expires_at: None,
    }
}

fn everything() -> Vec<Change> {
    let now = OffsetDateTime::UNIX_EPOCH;
    let account = "acct".parse().unwrap();
    vec![
        Change::PutAccount(Account {
            tag: "acct".parse().unwrap(),
            name: "local".into(),
            zone: ZoneId("zone".into()),
            token: SecretDigest::of(b"token"),
            created_at: now,
        }),
        Change::PutTunnel(tunnel(1, 0)),
        Change::PutRoute(Route {
            pattern: "*.app.test".parse().unwrap(),
            account,
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

#[test]
fn everything_is_there_after_a_restart_and_nothing_after_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    RedbStore::open(&path).unwrap().commit(&everything()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let store = RedbStore::open(&path).unwrap();
    let facts = store.load().unwrap();
    assert_eq!(
        (facts.generation, facts.accounts.size(), facts.tunnels.size()),
        (9, 1, 1)
    );
    assert_eq!(
        facts.tunnels.values().next().unwrap().secret,
        TunnelSecret::new([7; 32])
    );
    assert_eq!(facts.routes.keys().next().unwrap().to_string(), "*.app.test");
    assert_eq!(facts.configurations.values().next().unwrap().version, 3);

    let id = Uuid::from_u128(1).into();
    let gone = [
        Change::RemoveTunnel(id),
        Change::RemoveRoute("*.app.test".parse().unwrap()),
        Change::RemoveConfiguration(id),
    ];
    store.commit(&gone).unwrap();
    let facts = store.load().unwrap();
    assert!(facts.tunnels.is_empty() && facts.routes.is_empty() && facts.configurations.is_empty());
}

#[test]
fn a_second_opener_is_told_that_the_store_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let first = RedbStore::open(&path).unwrap();
    assert!(matches!(RedbStore::open(&path), Err(StoreError::InUse { .. })));
    drop(first);
    assert!(RedbStore::open(&path).is_ok());
}

#[test]
fn a_newer_format_and_a_foreign_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = RedbStore::open(&path).unwrap();
    store
        .with_database(|database| {
            let transaction = begin(database)?;
            transaction.open_table(META)?.insert("format", FORMAT + 1)?;
            Ok(transaction.commit()?)
        })
        .unwrap();
    drop(store);
    assert!(matches!(
        RedbStore::open(&path),
        Err(StoreError::Newer { found: 2, .. })
    ));

    let foreign = dir.path().join("foreign");
    std::fs::write(&foreign, "this is no store ".repeat(1000)).unwrap();
    assert!(matches!(
        RedbStore::open(&foreign),
        Err(StoreError::Damaged { .. })
    ));
}

/// A disk with only so many bytes: files on it grow until the budget is used up.
#[derive(Debug)]
struct SmallDisk {
    file: FileBackend,
    room: Arc<AtomicU64>,
}

impl StorageBackend for SmallDisk {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        if len > self.room.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        if offset + data.len() as u64 > self.room.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write(offset, data)
    }
}

/// A store on a disk whose room the test sets.
pub(crate) fn store_on_small_disk(path: PathBuf, room: Arc<AtomicU64>) -> RedbStore {
    let open = move |path: &Path| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        redb::Builder::new().create_with_backend(SmallDisk {
            file: FileBackend::new(file)?,
            room: room.clone(),
        })
    };
    RedbStore::open_with(path, Box::new(open)).unwrap()
}

#[test]
fn a_full_disk_is_told_and_what_was_acknowledged_stays_and_writing_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let store = store_on_small_disk(path.clone(), room.clone());
    store.commit(&[Change::PutTunnel(tunnel(0, 0))]).unwrap();
    room.store(path.metadata().unwrap().len(), Ordering::SeqCst);

    let mut acknowledged = 1;
    let refused = loop {
        match store.commit(&[Change::PutTunnel(tunnel(acknowledged, 100_000))]) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "the disk never fills");
    };
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    assert_eq!(store.load().unwrap().tunnels.size() as u128, acknowledged);
    assert!(
        store
            .commit(&[Change::PutTunnel(tunnel(acknowledged, 100_000))])
            .is_err()
    );

    room.store(u64::MAX, Ordering::SeqCst);
    store
        .commit(&[Change::PutTunnel(tunnel(acknowledged, 100_000))])
        .unwrap();
    drop(store);
    assert_eq!(
        RedbStore::open(&path).unwrap().load().unwrap().tunnels.size() as u128,
        acknowledged + 1
    );
}
