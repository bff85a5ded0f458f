//! The store on disk: rows by the hour, older ones by the day, in one redb file.
//!
//! `keeper` writes and compacts, `query` and the command line read; a reader in another process sees the last commit.
//! Everything that belongs together is one transaction, so a kill at any moment leaves all of it or nothing. Over a file
//! that somebody damaged redb may panic, in a drop too: who calls in here does so `guarded`.

mod reading;

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::{fmt, fs, io};

use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadableDatabase, ReadableTable, Table,
    TableDefinition, WriteTransaction,
};

use super::counts::Counts;
use super::place::Place;
use super::recorder::Tally;
use crate::files::{self, open_shared};

pub(super) use reading::{Reading, read_foreign, read_foreign_within};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
const HOURS: Rows = TableDefinition::new("hours");
const DAYS: Rows = TableDefinition::new("days");
/// By key: when its current minute began, requests and tokens in it.
const MINUTES: TableDefinition<'static, &str, (i64, u64, u64)> = TableDefinition::new("minutes");
/// Spool files whose rows are in.
const TAKEN: TableDefinition<'static, &str, ()> = TableDefinition::new("taken");
/// The id of the last batch.
const LAST: TableDefinition<'static, (), u128> = TableDefinition::new("last");

/// The whole working set of a day fits; redb's own default is a gigabyte.
const CACHE_BYTES: usize = 16 << 20;

/// Hours of a day, as rows count time.
pub(super) const DAY_HOURS: u32 = 24;

/// What went wrong with the file.
#[derive(Debug)]
pub(super) enum LedgerError {
    /// redb says so.
    Redb(Box<redb::Error>),
    /// redb panicked over it.
    Damaged,
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redb(error) => error.fmt(f),
            Self::Damaged => f.write_str("it is damaged"),
        }
    }
}

impl LedgerError {
    /// Whether another process has the file open; it may just be on its way out.
    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::Redb(error) if matches!(**error, redb::Error::DatabaseAlreadyOpen))
    }

    /// Whether it is the file's contents, which do not heal by themselves.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Redb(error) => matches!(**error, redb::Error::Corrupted(_)),
            Self::Damaged => true,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for LedgerError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

/// A panic in `work` is an error like any other.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    files::guarded(work).unwrap_or(Err(LedgerError::Damaged))
}

type Result<T> = std::result::Result<T, LedgerError>;

/// What is written at once.
pub(super) struct Batch<'a> {
    pub(super) id: u128,
    pub(super) tally: &'a Tally,
    /// Keys whose current minute has changed.
    pub(super) minutes: &'a [(String, Minute)],
}

/// A key's current minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minute {
    /// When it began, in seconds since 1970.
    pub started: i64,
    /// Requests in it.
    pub requests: u64,
    /// Tokens in it.
    pub tokens: u64,
}

/// The open file.
pub(super) struct Ledger(Database);

impl Ledger {
    /// Opens the file. Where there is none it is made aside, so that whoever reads it meanwhile finds none or all of it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::open_by(path, |aside| fs::hard_link(aside, path))
    }

    /// The same, with the means to give a file that was made aside its name.
    pub(super) fn open_by(path: &Path, link: impl Fn(&Path) -> io::Result<()>) -> Result<Self> {
        if !path.exists() {
            // Of this process alone, and linked, not renamed: whoever else starts just now keeps the file it has open.
            let aside = path.with_extension(format!("new.{}", std::process::id()));
            let _ = fs::remove_file(&aside);
            drop(Self::at(&aside)?);
            let linked = link(&aside);
            fs::remove_file(&aside).map_err(DatabaseError::from)?;
            match linked {
                // Then it is made in its place: whoever reads it in that moment has to ask again.
                Err(error) if files::has_no_links(&error) => drop(Self::at(path)?),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(DatabaseError::from(error).into());
                }
                _ => {}
            }
            if let Some(directory) = path.parent() {
                let synced = File::open(directory).and_then(|directory| directory.sync_all());
                synced.map_err(DatabaseError::from)?;
            }
        }
        Self::at(path)
    }

    fn at(path: &Path) -> Result<Self> {
        // redb would make it with the rights of any file; an empty one it takes as new.
        open_shared(path, true).map_err(|error| DatabaseError::from(io::Error::from(error)))?;
        let database = builder().create(path)?;
        let write = begin(&database)?;
        write.open_table(HOURS)?;
        write.open_table(DAYS)?;
        write.open_table(MINUTES)?;
        write.open_table(TAKEN)?;
        write.open_table(LAST)?;
        write.commit()?;
        Ok(Self(database))
    }

    /// The id of the batch that was written last.
    pub(super) fn last_batch(&self) -> Result<Option<u128>> {
        let last = self.0.begin_read()?.open_table(LAST)?.get(())?;
        Ok(last.map(|id| id.value()))
    }

    pub(super) fn write(&self, batch: &Batch<'_>) -> Result<()> {
        let write = begin(&self.0)?;
        add(&mut write.open_table(HOURS)?, batch.tally)?;
        let mut minutes = write.open_table(MINUTES)?;
        for (key, minute) in batch.minutes {
            let Minute {
                started,
                requests,
                tokens,
            } = *minute;
            minutes.insert(key.as_str(), (started, requests, tokens))?;
        }
        drop(minutes);
        write.open_table(LAST)?.insert((), batch.id)?;
        write.commit()?;
        Ok(())
    }

    /// Adds the rows of a spool file, unless they are in; says whether they were added.
    pub(super) fn take_in(&self, spool: &str, tally: &Tally) -> Result<bool> {
        let write = begin(&self.0)?;
        let new = write.open_table(TAKEN)?.insert(spool, ())?.is_none();
        if new {
            add(&mut write.open_table(HOURS)?, tally)?;
        }
        write.commit()?;
        Ok(new)
    }

    /// Forgets the names of spool files that are gone, and minutes that are over.
    pub(super) fn tidy(&self, spools: &[String], minutes_before: i64) -> Result<()> {
        let write = begin(&self.0)?;
        write
            .open_table(TAKEN)?
            .retain(|name, ()| spools.iter().any(|spool| spool == name))?;
        write
            .open_table(MINUTES)?
            .retain(|_, (started, ..)| started >= minutes_before)?;
        write.commit()?;
        Ok(())
    }

    /// Goes on with a pass over all rows, `rows_max` of them at most: hours before `hour` become days, days before `day`
    /// go. None once the pass is done.
    pub(super) fn compact(
        &self,
        from: Pass,
        hour: u32,
        day: u32,
        rows_max: usize,
    ) -> Result<Option<Pass>> {
        let write = begin(&self.0)?;
        let next = from.step(&write, hour, day, rows_max)?;
        write.commit()?;
        Ok(next)
    }

    /// A view of what is written now.
    pub(super) fn read(&self) -> Result<Reading> {
        Reading::new(&self.0.begin_read()?)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

fn begin(database: &Database) -> Result<WriteTransaction> {
    let mut write = database.begin_write()?;
    // After a kill the file is open again at once, however large it is.
    write.set_quick_repair(true);
    Ok(write)
}

fn add(table: &mut Table<'_, &'static [u8], &'static [u8]>, tally: &Tally) -> Result<()> {
    for (place, counts) in &tally.rows {
        add_row(table, place, counts)?;
    }
    Ok(())
}

/// A row that cannot be read is of another version or damaged: it starts anew, since nothing can be added to it.
fn add_row(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    place: &[u8],
    counts: &Counts,
) -> Result<()> {
    let known = table
        .get(place)?
        .and_then(|row| Counts::decode(row.value()));
    let encoded = match known {
        Some(mut known) => {
            known.merge(counts);
            known.encode()
        }
        None => counts.encode(),
    };
    table.insert(place, encoded.as_slice())?;
    Ok(())
}

/// How far a pass has come.
pub(super) enum Pass {
    /// Among the hours, behind these bytes.
    Hours(Vec<u8>),
    /// Among the days.
    Days(Vec<u8>),
}

impl Pass {
    pub(super) fn new() -> Self {
        Self::Hours(Vec::new())
    }

    fn step(
        self,
        write: &WriteTransaction,
        hour: u32,
        day: u32,
        rows_max: usize,
    ) -> Result<Option<Self>> {
        let mut left = rows_max;
        match self {
            Self::Hours(from) => {
                let mut hours = write.open_table(HOURS)?;
                let mut days = write.open_table(DAYS)?;
                let mut next = from;
                while left > 0 {
                    let Some(key) = key_from(&hours, &next)? else {
                        return Ok(Some(Self::Days(Vec::new())));
                    };
                    let old = rows_between(&hours, &key, 0..hour, left)?;
                    for (place, counts) in &old {
                        hours.remove(place.as_slice())?;
                        if let Some(mut row) = Place::read(place) {
                            row.time /= DAY_HOURS;
                            let mut place = Vec::new();
                            row.write(&mut place);
                            add_row(&mut days, &place, counts)?;
                        }
                    }
                    // A key costs a look even if nothing of it is old.
                    left = left.saturating_sub(old.len() + 1);
                    if left > 0 {
                        next = Place::behind(&key);
                    }
                }
                Ok(Some(Self::Hours(next)))
            }
            Self::Days(from) => {
                let mut days = write.open_table(DAYS)?;
                let mut next = from;
                while left > 0 {
                    let Some(key) = key_from(&days, &next)? else {
                        return Ok(None);
                    };
                    let old = rows_between(&days, &key, 0..day, left)?;
                    for (place, _) in &old {
                        days.remove(place.as_slice())?;
                    }
                    left = left.saturating_sub(old.len() + 1);
                    if left > 0 {
                        next = Place::behind(&key);
                    }
                }
                Ok(Some(Self::Days(next)))
            }
        }
    }
}

/// The key of the first row behind `from`.
fn key_from(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    from: &[u8],
) -> Result<Option<String>> {
    let mut from = from.to_vec();
    loop {
        let Some(row) = table.range::<&[u8]>(from.as_slice()..)?.next() else {
            return Ok(None);
        };
        let (place, _) = row?;
        // A damaged one, which would be found again behind all others, and they behind it.
        if place.value() < from.as_slice() {
            return Err(LedgerError::Damaged);
        }
        match Place::read(place.value()) {
            Some(place) => return Ok(Some(place.key.to_owned())),
            // Not ours to read: on behind it.
            None => from = [place.value(), &[0]].concat(),
        }
    }
}

type Row = (Vec<u8>, Counts);

fn rows_between(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &str,
    time: Range<u32>,
    rows_max: usize,
) -> Result<Vec<Row>> {
    let (start, end) = (Place::start(key, time.start), Place::start(key, time.end));
    let mut rows = Vec::new();
    for row in table
        .range::<&[u8]>(start.as_slice()..end.as_slice())?
        .take(rows_max)
    {
        let (place, counts) = row?;
        rows.push((
            place.value().to_vec(),
            Counts::decode(counts.value()).unwrap_or_default(),
        ));
    }
    Ok(rows)
}
