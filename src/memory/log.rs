//! The log of all vaults: one redb file of sealed rows. The one door of memory to redb.
//!
//! `writer` commits to it, `loader` reads from it; neither is a worker. Rows are keyed by vault and number; beside the
//! seal only the day stands in the clear, for the retention rule. Whatever goes wrong in here, a panic over a file that
//! somebody damaged included, comes out as an error, and the file is opened anew before it is used again.

mod walk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use nix::fcntl::{Flock, FlockArg};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition,
    TableError,
};

use super::change::{Op, apply};
use super::seal::Tag;
use crate::files::{self, open_shared, open_to_read};
use walk::begins_at;
pub(super) use walk::{Walk, walk};

/// A vault's tag and a number in it, which sort in this order.
pub(super) type Key = [u8; 24];

/// Day and sealed row by vault and number.
pub(super) const ROWS: TableDefinition<'static, &Key, &[u8]> = TableDefinition::new("rows");
/// The next number and the id of each vault.
pub(super) const VAULTS: TableDefinition<'static, &Tag, &[u8]> = TableDefinition::new("vaults");
/// What another process left for a vault, by vault and a running number.
pub(super) const SPOOLED: TableDefinition<'static, &Key, &[u8]> = TableDefinition::new("spooled");
/// Sealed vectors, with the keys of their rows.
pub(super) const VECTORS: TableDefinition<'static, &Key, &[u8]> = TableDefinition::new("vectors");
/// Numbers about the file itself.
pub(super) const ABOUT: TableDefinition<'static, &str, u64> = TableDefinition::new("about");

const FORMAT: &str = "format";
const FORMAT_NOW: u64 = 1;
/// Bytes of rows that were removed since the file was compacted.
pub(super) const REMOVED: &str = "removed bytes";
const DAY_BYTES: usize = 4;
/// From this size on, mending after a kill would be noticed; below, commits are better cheap.
const QUICK_REPAIR_BYTES: u64 = 128 << 20;
/// Pages kept in RAM; the system's own cache holds the rest.
const PAGES_BYTES: usize = 16 << 20;

/// Why the log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogError {
    pub(super) reason: String,
    /// Another process holds the file; it may just be on its way out.
    pub(super) locked: bool,
    /// What it holds makes no sense in some place.
    pub(super) damaged: bool,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl<E: Into<redb::Error>> From<E> for LogError {
    fn from(error: E) -> Self {
        let error = error.into();
        let locked = matches!(error, redb::Error::DatabaseAlreadyOpen);
        let damaged = matches!(error, redb::Error::Corrupted(_));
        let reason = if locked {
            "another process has it open".to_owned()
        } else {
            error.to_string()
        };
        Self {
            reason,
            locked,
            damaged,
        }
    }
}

impl LogError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            locked: false,
            damaged: false,
        }
    }

    fn closed() -> Self {
        Self::new("it is not open")
    }

    pub(super) fn out_of_order() -> Self {
        Self {
            damaged: true,
            ..Self::new("it is damaged: rows are not in their order")
        }
    }
}

/// Where a vault stands before its rows are read.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// The number of the next row.
    pub(super) next_seq: u64,
    /// What another process left, by its number.
    pub(super) spooled: Vec<(u64, Vec<u8>)>,
}

/// The file.
pub(super) struct Log {
    path: PathBuf,
    database: RwLock<Option<Database>>,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            database: RwLock::new(None),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file, or makes it. Only the writer does so.
    pub(super) fn open(&self) -> Result<(), LogError> {
        let database = guarded(|| open(&self.path))?;
        *self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(())
    }

    /// Lets go of the file.
    pub(super) fn close(&self) {
        self.replace(None);
    }

    pub(super) fn replace(&self, with: Option<Database>) {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *database, with);
        // Closing writes, and so can fail like anything else that does; there is nobody left to tell.
        let _ = guarded(|| {
            drop(before);
            Ok(())
        });
    }

    pub(super) fn is_open(&self) -> bool {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.is_some()
    }

    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(LogError::closed)?;
        guarded(|| work(database))
    }

    /// Writes all of `ops` or nothing; durable when it returns.
    pub(super) fn commit(&self, ops: &[Op]) -> Result<(), LogError> {
        self.with(|database| {
            let mut transaction = database.begin_write()?;
            // After a kill, a file is read whole to mend it, unless each commit has kept its list of free pages.
            let size = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
            transaction.set_quick_repair(size > QUICK_REPAIR_BYTES);
            apply(&transaction, ops, None)?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Reads one vault: `each` gets number, day and sealed bytes of its rows, in order.
    pub(super) fn read(
        &self,
        tag: &Tag,
        mut each: impl FnMut(u64, u32, &[u8]),
    ) -> Result<Begun, LogError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let mut begun = Begun::default();
            if let Some(vault) = transaction.open_table(VAULTS)?.get(tag)? {
                begun.next_seq = vault_of(vault.value()).0;
            }
            let (first, last) = (&key(tag, 0), &key(tag, u64::MAX));
            let walk = walk(&transaction, tag, 0..=u64::MAX, None, |key, value| {
                let seq = seq_of(key);
                begun.next_seq = begun.next_seq.max(seq.saturating_add(1));
                let (day, sealed) = value.split_first_chunk().unwrap_or((&[0; 4], &[]));
                each(seq, u32::from_le_bytes(*day), sealed);
                true
            })?;
            if walk.misplaced > 0 || !begins_at(&transaction, first)? {
                return Err(LogError::out_of_order());
            }
            let spooled = transaction.open_table(SPOOLED)?;
            for entry in spooled.range::<&Key>(first..=last)? {
                let (key, value) = entry?;
                begun
                    .spooled
                    .push((seq_of(key.value()), value.value().to_vec()));
            }
            Ok(begun)
        })
    }

    /// Reads one vault's vectors: `each` gets their numbers and sealed bytes.
    pub(super) fn read_vectors(
        &self,
        tag: &Tag,
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<(), LogError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let vectors = match transaction.open_table(VECTORS) {
                // None was ever written.
                Err(TableError::TableDoesNotExist(_)) => return Ok(()),
                opened => opened?,
            };
            for vector in vectors.range::<&Key>(&key(tag, 0)..=&key(tag, u64::MAX))? {
                let (key, value) = vector?;
                each(seq_of(key.value()), value.value());
            }
            Ok(())
        })
    }

    /// Bytes of what other processes left for a vault.
    pub(super) fn spooled_bytes(&self, tag: &Tag) -> Result<usize, LogError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let spooled = transaction.open_table(SPOOLED)?;
            let mut bytes = 0;
            for entry in spooled.range::<&Key>(&key(tag, 0)..=&key(tag, u64::MAX))? {
                bytes += entry?.1.value().len();
            }
            Ok(bytes)
        })
    }

    /// The ids of all vaults.
    pub(super) fn vaults(&self) -> Result<Vec<String>, LogError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let mut ids = Vec::new();
            for vault in transaction.open_table(VAULTS)?.iter()? {
                ids.push(vault_of(vault?.1.value()).1);
            }
            Ok(ids)
        })
    }

    /// The rows of days before `day`, by vault.
    pub(super) fn older_than(&self, day: u32) -> Result<Vec<(Tag, Vec<u64>)>, LogError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let mut found: Vec<(Tag, Vec<u64>)> = Vec::new();
            for row in transaction.open_table(ROWS)?.iter()? {
                let (key, value) = row?;
                if day_of(value.value()).is_none_or(|at| at >= day) {
                    continue;
                }
                let (tag, seq) = (tag_of(key.value()), seq_of(key.value()));
                match found.last_mut() {
                    Some((last, seqs)) if *last == tag => seqs.push(seq),
                    _ => found.push((tag, vec![seq])),
                }
            }
            Ok(found)
        })
    }

    /// Bytes of rows that were removed and may still stand in the file, sealed.
    pub(super) fn removed_bytes(&self) -> Result<u64, LogError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let about = transaction.open_table(ABOUT)?;
            Ok(about.get(REMOVED)?.map_or(0, |bytes| bytes.value()))
        })
    }
}

/// The day of a row as it is kept.
pub(super) fn day_of(row: &[u8]) -> Option<u32> {
    let day = row.first_chunk::<DAY_BYTES>()?;
    Some(u32::from_le_bytes(*day))
}

/// A panic in `work` is an error like any other.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
    files::guarded(work).unwrap_or_else(|| {
        Err(LogError {
            damaged: true,
            ..LogError::new("it is damaged")
        })
    })
}

/// Whether a process has the file open; redb holds a lock on it meanwhile.
pub fn is_held(path: &Path) -> bool {
    open_to_read(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

/// Opens a file or makes it, with all its tables.
pub(super) fn open(path: &Path) -> Result<Database, LogError> {
    // redb would make it with the rights of any file; an empty one it takes as new.
    open_shared(path, false).map_err(|error| DatabaseError::from(io::Error::from(error)))?;
    let database = Builder::new().set_cache_size(PAGES_BYTES).create(path)?;
    let transaction = database.begin_read()?;
    let found = match transaction.open_table(ABOUT) {
        Ok(about) => about.get(FORMAT)?.map(|format| format.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    drop(transaction);
    match found {
        Some(FORMAT_NOW) => {}
        Some(_) => {
            return Err(LogError::new("it was written by a newer version"));
        }
        None => {
            let transaction = database.begin_write()?;
            transaction.open_table(ABOUT)?.insert(FORMAT, FORMAT_NOW)?;
            transaction.open_table(ROWS)?;
            transaction.open_table(VAULTS)?;
            transaction.open_table(SPOOLED)?;
            transaction.commit()?;
        }
    }
    Ok(database)
}

pub(super) fn vault_of(value: &[u8]) -> (u64, String) {
    let (next_seq, id) = value.split_first_chunk().unwrap_or((&[0; 8], &[]));
    let id = String::from_utf8_lossy(id).into_owned();
    (u64::from_le_bytes(*next_seq), id)
}

pub(super) fn key(tag: &Tag, seq: u64) -> Key {
    let mut key = [0; 24];
    key[..16].copy_from_slice(tag);
    key[16..].copy_from_slice(&seq.to_be_bytes());
    key
}

pub(super) fn tag_of(key: &Key) -> Tag {
    let mut tag = [0; 16];
    tag.copy_from_slice(&key[..16]);
    tag
}

pub(super) fn seq_of(key: &Key) -> u64 {
    let mut seq = [0; 8];
    seq.copy_from_slice(&key[16..]);
    u64::from_be_bytes(seq)
}
