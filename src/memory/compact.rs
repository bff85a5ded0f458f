//! Rewrites the log without what was removed from it.
//!
//! redb reuses the pages of removed rows but does not blank them, so their sealed bytes stay in the file until something
//! else is written there. A compaction copies what is left into a new file, a piece at a time between commits, follows
//! the commits that come meanwhile, and puts the new file in the old one's place. Afterwards no file holds them. A page
//! that cannot be read is left behind in the old one, and with it what it held (`past`).

mod past;

use std::ffi::OsString;
use std::fs::{self, File};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};

pub(super) use past::Lost;
use past::Past;

use super::change::{self, Op};
use super::log::{self, Key, Log, LogError, ROWS, SPOOLED, VAULTS, VECTORS};

/// Rows copied in one piece.
const PIECE_ROWS: usize = 2_000;
/// Bytes copied in one piece.
const PIECE_BYTES: usize = 4 << 20;

/// The log is rewritten once this much of it was removed, and at least a tenth of its size,
const REMOVED_BYTES: u64 = 1 << 20;
/// or when anything at all was removed and it was not rewritten for so long, by its size.
pub(super) const AFTER: Duration = Duration::from_mins(1);
const LARGE_AFTER: Duration = Duration::from_hours(1);
const LARGE: u64 = 64 << 20;

/// Whether a file of `size` is to be rewritten, of which so much was removed, so long after the last attempt. If that
/// was given up, the next one is not made at once.
pub(super) fn is_due(removed: u64, size: u64, since: Duration, gave_up: bool) -> bool {
    let much = removed >= REMOVED_BYTES.max(size / 10);
    let after = if size > LARGE { LARGE_AFTER } else { AFTER };
    much && (!gave_up || since >= AFTER) || removed > 0 && since >= after
}

/// A new file on its way.
pub(super) struct Compaction {
    database: Database,
    path: PathBuf,
    /// What was copied last.
    cursor: Option<Key>,
    /// From the first page on that cannot be read.
    past: Option<Past>,
}

/// The new file's name while it is not in its place.
fn new_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

/// Removes what a compaction that did not end has left.
pub(super) fn clear(path: &Path) {
    let _ = fs::remove_file(new_path(path));
}

fn failed(error: &std::io::Error) -> LogError {
    LogError::new(error.to_string())
}

impl Compaction {
    pub(super) fn start(log: &Log) -> Result<Self, LogError> {
        clear(log.path());
        let path = new_path(log.path());
        Ok(Self {
            database: log::guarded(|| log::open(&path))?,
            path,
            cursor: None,
            past: None,
        })
    }

    /// Copies one piece; false once there is no more.
    pub(super) fn step(&mut self, log: &Log) -> Result<bool, LogError> {
        if self.past.is_some() {
            return self.step_past(log);
        }
        match self.step_on(log) {
            Err(error) if error.damaged => {
                self.past = Some(log.with(|old| Past::new(old, self.cursor))?);
                Ok(true)
            }
            done => done,
        }
    }

    /// The same past what cannot be read.
    fn step_past(&mut self, log: &Log) -> Result<bool, LogError> {
        let Some(past) = &mut self.past else {
            return Ok(false);
        };
        log.with(|old| {
            let reading = old.begin_read()?;
            let Some(rows) = past.step(&reading)? else {
                return Ok(false);
            };
            if rows.is_empty() {
                return Ok(true);
            }
            let vectors = reading.open_table(VECTORS).ok();
            let writing = self.database.begin_write()?;
            {
                let mut new = writing.open_table(ROWS)?;
                let mut new_vectors = writing.open_table(VECTORS)?;
                for (key, value) in &rows {
                    new.insert(key, value.as_slice())?;
                    // One that cannot be read is made anew.
                    let vector = vectors.as_ref().and_then(|vectors| {
                        let read =
                            log::guarded(|| Ok(vectors.get(key)?.map(|v| v.value().to_vec())));
                        read.ok().flatten()
                    });
                    if let Some(vector) = vector {
                        new_vectors.insert(key, vector.as_slice())?;
                    }
                }
            }
            writing.commit()?;
            Ok(true)
        })
    }

    fn step_on(&mut self, log: &Log) -> Result<bool, LogError> {
        let from = self.cursor;
        let copied = log.with(|old| {
            let reading = old.begin_read()?;
            let writing = self.database.begin_write()?;
            let mut last: Option<Key> = None;
            {
                let rows = reading.open_table(ROWS)?;
                let mut new = writing.open_table(ROWS)?;
                // A vector goes with its row. Before the first there is no table of them.
                let vectors = reading.open_table(VECTORS).ok();
                let mut new_vectors = writing.open_table(VECTORS)?;
                let vaults = reading.open_table(VAULTS)?;
                let (mut bytes, mut count) = (0, 0);
                let start = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                for row in rows.range::<&Key>((start, Bound::Unbounded))? {
                    let (key, value) = row?;
                    let (key, before) = (*key.value(), last.or(from));
                    // The first one behind the piece is looked at too: what is out of its place is seen by that.
                    let tag = log::tag_of(&key);
                    if before.is_some_and(|before| key <= before)
                        || before.is_none_or(|before| log::tag_of(&before) != tag)
                            && vaults.get(&tag)?.is_none()
                    {
                        return Err(LogError::out_of_order());
                    }
                    if count >= PIECE_ROWS || bytes >= PIECE_BYTES {
                        break;
                    }
                    new.insert(&key, value.value())?;
                    bytes += value.value().len();
                    let vector = vectors.as_ref().map(|vectors| vectors.get(&key));
                    if let Some(vector) = vector.transpose()?.flatten() {
                        new_vectors.insert(&key, vector.value())?;
                        bytes += vector.value().len();
                    }
                    count += 1;
                    last = Some(key);
                }
            }
            writing.commit()?;
            Ok(last)
        })?;
        self.cursor = copied.or(self.cursor);
        Ok(copied.is_some())
    }

    /// Repeats what was committed to the old file, as far as it is copied; all of it where there is no telling how far.
    pub(super) fn follow(&self, ops: &[Op]) -> Result<(), LogError> {
        let until = match (&self.past, &self.cursor) {
            (None, None) => return Ok(()),
            (None, cursor) => cursor.as_ref(),
            (Some(_), _) => None,
        };
        log::guarded(|| {
            let writing = self.database.begin_write()?;
            change::apply(&writing, ops, until)?;
            writing.commit()?;
            Ok(())
        })
    }

    /// Copies what is small and puts the new file in the old one's place. Returns what could not be read.
    pub(super) fn finish(self, log: &Log) -> Result<Vec<Lost>, LogError> {
        let missing = log.with(|old| {
            let reading = old.begin_read()?;
            let writing = self.database.begin_write()?;
            // Noted beside the rows, not counted by reading them.
            let rows = (
                reading.open_table(ROWS)?.len()?,
                writing.open_table(ROWS)?.len()?,
            );
            writing.delete_table(SPOOLED)?;
            writing.delete_table(VAULTS)?;
            {
                let (mut vaults, mut spooled) =
                    (writing.open_table(VAULTS)?, writing.open_table(SPOOLED)?);
                for vault in reading.open_table(VAULTS)?.iter()? {
                    let (key, value) = vault?;
                    vaults.insert(key.value(), value.value())?;
                }
                let left = log::guarded(|| {
                    let mut left: Vec<(Key, Vec<u8>)> = Vec::new();
                    for entry in reading.open_table(SPOOLED)?.iter()? {
                        let (key, value) = entry?;
                        left.push((*key.value(), value.value().to_vec()));
                    }
                    Ok(left)
                });
                match left {
                    Ok(left) => {
                        for (key, value) in &left {
                            spooled.insert(key, value.as_slice())?;
                        }
                    }
                    Err(error) if error.damaged => {
                        tracing::error!("what the process before this one left cannot be read and is passed over");
                    }
                    Err(error) => return Err(error),
                }
            }
            writing.commit()?;
            Ok(rows.0.saturating_sub(rows.1))
        })?;
        // Both are open and locked while the name changes: nobody else can get in between.
        fs::rename(&self.path, log.path()).map_err(|error| failed(&error))?;
        log.replace(Some(self.database));
        let directory = log
            .path()
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty());
        let synced = File::open(directory.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all());
        synced.map_err(|error| failed(&error))?;
        Ok(past::lost(self.past, missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_by_what_was_removed_and_by_time() {
        const MIB: u64 = 1 << 20;
        let soon = Duration::from_secs(1);
        for (removed, size, since, gave_up, due) in [
            (0, 100 * MIB, LARGE_AFTER, false, false),
            (0, 100 * MIB, LARGE_AFTER, true, false),
            (1, MIB, soon, false, false),
            (1, MIB, AFTER, false, true),
            (1, MIB, soon, true, false),
            (1, MIB, AFTER, true, true),
            (1, 100 * MIB, AFTER, false, false),
            (1, 100 * MIB, LARGE_AFTER, true, true),
            (MIB, 5 * MIB, soon, false, true),
            (MIB, 5 * MIB, soon, true, false),
            (20 * MIB, 100 * MIB, soon, false, true),
            (20 * MIB, 100 * MIB, soon, true, false),
            (20 * MIB, 100 * MIB, AFTER, true, true),
        ] {
            let found = is_due(removed, size, since, gave_up);
            assert_eq!(found, due, "{removed} {size} {since:?} {gave_up}");
        }
    }
}
