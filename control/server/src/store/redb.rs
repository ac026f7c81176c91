//! The embedded store: one redb file, one table per kind of fact, values in JSON.
//!
//! Every commit is one transaction with immediate durability. redb writes a copy of the touched pages, syncs,
//! switches the root and syncs again. So a kill at any moment leaves the state before or after, never
//! between.
//!
//! The revision is a number beside the facts. Only one process has the file open, so all commits pass through
//! here, and watches are told by the one who commits.
//!
//! After an I/O error (a full disk above all) redb refuses to go on with the open file. The file itself is
//! whole, so it is closed, its watches end, and the next call opens it anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::feed::Feed;
use super::{Committed, Revision, Store, StoreError, Watch};
use crate::facts::{Change, Facts};

/// Format of the tables below. A program that meets a higher one stops.
const FORMAT: u64 = 1;

/// Memory for cached pages. Facts are in memory already, so the cache only serves writes.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
const ACCOUNTS: Table = TableDefinition::new("accounts");
const TUNNELS: Table = TableDefinition::new("tunnels");
const ROUTES: Table = TableDefinition::new("routes");
const CONFIGURATIONS: Table = TableDefinition::new("configurations");

type Open = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync>;

/// Facts in one file.
pub struct RedbStore {
    path: PathBuf,
    open: Open,
    opened: Mutex<Opened>,
}

/// The open file and who watches it.
#[derive(Default)]
struct Opened {
    /// `None` after an error, until the next call opens it again.
    database: Option<Database>,
    feed: Feed,
}

impl RedbStore {
    /// Opens the file, and makes it (mode 0600) when there is none.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it; the other variants when it cannot be read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_with(path.into(), Box::new(open_file))
    }

    fn open_with(path: PathBuf, open: Open) -> Result<Self, StoreError> {
        let store = Self {
            path,
            open,
            opened: Mutex::default(),
        };
        store.with_database(|database, _| store.check_format(database))?;
        Ok(store)
    }

    fn check_format(&self, database: &Database) -> Result<(), Fault> {
        let transaction = begin(database)?;
        let found = transaction
            .open_table(META)?
            .get("format")?
            .map_or(0, |value| value.value());
        match found {
            0 => {
                transaction.open_table(META)?.insert("format", FORMAT)?;
                for table in [ACCOUNTS, TUNNELS, ROUTES, CONFIGURATIONS] {
                    transaction.open_table(table)?;
                }
                transaction.commit()?;
                Ok(())
            }
            FORMAT => Ok(transaction.abort()?),
            newer => Err(Fault::Store(StoreError::Newer {
                path: self.path.clone(),
                found: newer,
                known: FORMAT,
            })),
        }
    }

    fn with_database<T>(
        &self,
        work: impl FnOnce(&Database, &mut Feed) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut opened = self.opened();
        let database = match opened.database.take() {
            Some(database) => database,
            None => (self.open)(&self.path).map_err(|error| self.explain(Fault::Redb(error.into())))?,
        };
        match work(&database, &mut opened.feed) {
            Ok(done) => {
                opened.database = Some(database);
                Ok(done)
            }
            Err(Fault::Refused(error)) => {
                opened.database = Some(database);
                Err(error)
            }
            Err(fault) => {
                // Nobody knows whether a commit is in, so nobody can be told the next one.
                opened.feed.break_off();
                Err(self.explain(fault))
            }
        }
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(|poisoned| {
            // A panic while the lock was held left no database behind, and the next call opens it again.
            let mut opened = PoisonError::into_inner(poisoned);
            opened.feed.break_off();
            opened
        })
    }

    fn explain(&self, fault: Fault) -> StoreError {
        let path = self.path.clone();
        let damaged = |reason: String| StoreError::Damaged {
            path: self.path.clone(),
            reason,
        };
        match fault {
            Fault::Store(error) | Fault::Refused(error) => error,
            Fault::Json(error) => damaged(error.to_string()),
            Fault::Redb(redb::Error::DatabaseAlreadyOpen) => StoreError::InUse { path },
            Fault::Redb(redb::Error::Io(source)) if source.kind() == io::ErrorKind::StorageFull => {
                StoreError::Full { path }
            }
            Fault::Redb(redb::Error::Io(source)) if source.kind() == io::ErrorKind::InvalidData => {
                damaged(source.to_string())
            }
            Fault::Redb(redb::Error::Io(source)) => StoreError::Io { path, source },
            Fault::Redb(other) => damaged(other.to_string()),
        }
    }
}

impl Store for RedbStore {
    fn load(&self) -> Result<(Facts, Revision), StoreError> {
        self.with_database(|database, _| {
            let transaction = database.begin_read()?;
            let meta = transaction.open_table(META)?;
            let generation = meta.get("generation")?.map_or(0, |value| value.value());
            let revision = revision(&meta)?;
            let mut facts = Facts::default();
            facts.apply(Change::Generation(generation));
            each(&transaction, ACCOUNTS, |account| {
                facts.apply(Change::PutAccount(account))
            })?;
            each(&transaction, TUNNELS, |tunnel| {
                facts.apply(Change::PutTunnel(tunnel))
            })?;
            each(&transaction, ROUTES, |route| facts.apply(Change::PutRoute(route)))?;
            each(&transaction, CONFIGURATIONS, |found| {
                facts.apply(Change::PutConfiguration(found))
            })?;
            Ok((facts, revision))
        })
    }

    fn commit(&self, expected: Revision, changes: &[Change]) -> Result<Revision, StoreError> {
        self.with_database(|database, feed| {
            let transaction = begin(database)?;
            let found = revision(&transaction.open_table(META)?)?;
            if found != expected {
                transaction.abort()?;
                return Err(Fault::Refused(StoreError::Raced { expected, found }));
            }
            for change in changes {
                write(&transaction, change)?;
            }
            let next = Revision(found.0 + 1);
            transaction.open_table(META)?.insert("revision", next.0)?;
            transaction.commit()?;
            feed.tell(Committed {
                revision: next,
                changes: changes.into(),
            });
            Ok(next)
        })
    }

    fn watch(&self, from: Revision) -> Result<Watch, StoreError> {
        self.with_database(|database, feed| {
            let newest = revision(&database.begin_read()?.open_table(META)?)?;
            feed.watch(from, newest)
                .ok_or(Fault::Refused(StoreError::Unwatchable { from, newest }))
        })
    }
}

fn revision(meta: &impl ReadableTable<&'static str, u64>) -> Result<Revision, Fault> {
    Ok(Revision(meta.get("revision")?.map_or(0, |value| value.value())))
}

fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    redb::Builder::new().set_cache_size(CACHE_BYTES).create_file(file)
}

fn begin(database: &Database) -> Result<WriteTransaction, Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

fn write(transaction: &WriteTransaction, change: &Change) -> Result<(), Fault> {
    match change {
        Change::Generation(generation) => {
            transaction.open_table(META)?.insert("generation", generation)?;
            Ok(())
        }
        Change::PutAccount(account) => put(transaction, ACCOUNTS, account.tag.as_str(), account),
        Change::PutTunnel(tunnel) => put(transaction, TUNNELS, &tunnel.id.to_string(), tunnel),
        Change::RemoveTunnel(id) => remove(transaction, TUNNELS, &id.to_string()),
        Change::PutRoute(route) => put(transaction, ROUTES, &route.pattern.to_string(), route),
        Change::RemoveRoute(pattern) => remove(transaction, ROUTES, &pattern.to_string()),
        Change::PutConfiguration(value) => put(transaction, CONFIGURATIONS, &value.tunnel.to_string(), value),
        Change::RemoveConfiguration(tunnel) => remove(transaction, CONFIGURATIONS, &tunnel.to_string()),
    }
}

fn put(transaction: &WriteTransaction, table: Table, key: &str, value: &impl Serialize) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(value)?;
    transaction.open_table(table)?.insert(key, bytes.as_slice())?;
    Ok(())
}

fn remove(transaction: &WriteTransaction, table: Table, key: &str) -> Result<(), Fault> {
    transaction.open_table(table)?.remove(key)?;
    Ok(())
}

fn each<T: DeserializeOwned>(
    transaction: &redb::ReadTransaction,
    table: Table,
    mut take: impl FnMut(T),
) -> Result<(), Fault> {
    for entry in transaction.open_table(table)?.iter()? {
        take(serde_json::from_slice(entry?.1.value())?);
    }
    Ok(())
}

/// What can go wrong inside a transaction, before it is put into the operator's words.
enum Fault {
    Redb(redb::Error),
    Json(serde_json::Error),
    Store(StoreError),
    /// The store said no and is as good as before.
    Refused(StoreError),
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

macro_rules! fault_from {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Fault {
            fn from(error: $kind) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}

fault_from!(
    redb::StorageError,
    redb::TransactionError,
    redb::TableError,
    redb::CommitError,
    redb::SetDurabilityError
);

#[cfg(test)]
pub(crate) mod tests;
