//! Reading the store, at one moment and without holding up who writes: in its own process or in another.

use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use redb::{
    DatabaseError, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableError,
};

use super::{DAY_HOURS, DAYS, HOURS, MINUTES, Minute, Result, builder, key_from};
use crate::usage::counts::Counts;
use crate::usage::place::Place;

/// Reads a file that another process may be writing.
pub(in crate::usage) fn read_foreign(path: &Path) -> Result<Option<Reading>> {
    if !path.exists() {
        return Ok(None);
    }
    let database = match builder().open_read_only(path) {
        // Left behind by a killed process, and nobody has opened it since: that takes a moment of writing.
        Err(DatabaseError::RepairAborted) => {
            drop(builder().open(path)?);
            builder().open_read_only(path)?
        }
        opened => opened?,
    };
    let mut reading = Reading::new(&database.begin_read()?)?;
    reading.foreign = Some(database);
    Ok(Some(reading))
}

/// The same, but waits for so long while another one opens it, in which nobody else can.
pub(in crate::usage) fn read_foreign_within(
    patience: Duration,
    path: &Path,
) -> Result<Option<Reading>> {
    let started = Instant::now();
    loop {
        match read_foreign(path) {
            Err(error) if error.is_held() && started.elapsed() < patience => {
                thread::sleep(Duration::from_millis(5));
            }
            read => return read,
        }
    }
}

/// A view of the file at one moment.
pub(in crate::usage) struct Reading {
    hours: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    days: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    minutes: Option<ReadOnlyTable<&'static str, (i64, u64, u64)>>,
    /// Held open for as long as it is read.
    foreign: Option<ReadOnlyDatabase>,
}

impl Reading {
    pub(super) fn new(read: &ReadTransaction) -> Result<Self> {
        Ok(Self {
            hours: table(read.open_table(HOURS))?,
            days: table(read.open_table(DAYS))?,
            minutes: table(read.open_table(MINUTES))?,
            foreign: None,
        })
    }

    /// Every key that has rows, in order.
    pub(in crate::usage) fn keys(&self) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        for table in [&self.hours, &self.days].into_iter().flatten() {
            let mut from = Vec::new();
            while let Some(key) = key_from(table, &from)? {
                from = Place::behind(&key);
                keys.push(key);
            }
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Hands each row of a key whose hour is in `hours` to `each`; that of a day counts by its first hour.
    pub(in crate::usage) fn rows(
        &self,
        key: &str,
        hours: Range<u32>,
        mut each: impl FnMut(Place<'_>, Counts),
    ) -> Result<()> {
        let days = hours.start.div_ceil(DAY_HOURS)..hours.end.div_ceil(DAY_HOURS);
        for (table, time, unit) in [(&self.days, days, DAY_HOURS), (&self.hours, hours, 1)] {
            let Some(table) = table.as_ref().filter(|_| time.start < time.end) else {
                continue;
            };
            let (start, end) = (Place::start(key, time.start), Place::start(key, time.end));
            for row in table.range::<&[u8]>(start.as_slice()..end.as_slice())? {
                let (place, counts) = row?;
                if let Some(place) = Place::read(place.value())
                    && let Some(counts) = Counts::decode(counts.value())
                {
                    let time = place.time.saturating_mul(unit);
                    each(Place { time, ..place }, counts);
                }
            }
        }
        Ok(())
    }

    /// A key's last minute.
    pub(in crate::usage) fn minute(&self, key: &str) -> Result<Option<Minute>> {
        let Some(minutes) = &self.minutes else {
            return Ok(None);
        };
        let row = minutes.get(key)?.map(|row| row.value());
        Ok(row.map(|(started, requests, tokens)| Minute {
            started,
            requests,
            tokens,
        }))
    }
}

/// A file in which nothing was written yet has no tables.
fn table<T>(opened: std::result::Result<T, TableError>) -> Result<Option<T>> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::ledger::Ledger;

    #[test]
    fn who_reads_waits_for_who_opens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.redb");
        drop(Ledger::open(&path).unwrap());
        let alone = redb::Database::open(&path).unwrap();
        assert!(read_foreign(&path).is_err_and(|error| error.is_held()));
        let reader = thread::spawn(move || {
            read_foreign_within(Duration::from_secs(60), &path).map(|reading| reading.is_some())
        });
        thread::sleep(Duration::from_millis(50));
        drop(alone);
        assert!(reader.join().unwrap().unwrap());
    }
}
