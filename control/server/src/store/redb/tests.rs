//! The file under the suite of all stores, a second process, a newer and an older format.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;
use crate::store::conformance::Place;

/// The suite's place: a file on a disk whose room is set.
struct FilePlace {
    dir: tempfile::TempDir,
    room: Arc<AtomicU64>,
}

impl Place for FilePlace {
    type Store = RedbStore;

    fn open(&self) -> RedbStore {
        store_on_small_disk(self.dir.path().join("store.redb"), self.room.clone())
    }

    fn fill_up(&self) {
        let path = self.dir.path().join("store.redb");
        self.room.store(path.metadata().unwrap().len(), Ordering::SeqCst);
    }

    fn make_room(&self) {
        self.room.store(u64::MAX, Ordering::SeqCst);
    }
}

fn place() -> FilePlace {
    FilePlace {
        dir: tempfile::tempdir().unwrap(),
        room: Arc::new(AtomicU64::new(u64::MAX)),
    }
}

crate::store::conformance::suite!(place());

#[test]
fn the_file_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let _store = RedbStore::open(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_of_a_program_without_revisions_is_read_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let store = RedbStore::open(&path).unwrap();
    store.commit(Revision(0), &[Change::Generation(41)]).unwrap();
    store
        .with_database(|database, _| {
            let transaction = begin(database)?;
            transaction.open_table(META)?.remove("revision")?;
            Ok(transaction.commit()?)
        })
        .unwrap();
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    let (facts, revision) = store.load().unwrap();
    assert_eq!((facts.generation, revision), (41, Revision(0)));
    assert_eq!(
        store.commit(revision, &[Change::Generation(42)]).unwrap(),
        Revision(1)
    );
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
        .with_database(|database, _| {
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
