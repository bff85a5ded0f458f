//! Rows in a file beside the store, for the process that opens the store next: on a hand-over, or where the store cannot
//! be written when the router ends. A file is whole or not there; its name says which one it is, so that the taker
//! can remember it and nothing is counted twice.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::UnixSeconds;
use super::counts::{Counts, put, take};
use super::recorder::Tally;
use crate::files::{open_shared, open_to_read};

const PREFIX: &str = "usage.spool.";
const TEMPORARY: &str = ".tmp";
/// The process before this one may be writing one right now; nobody takes so long for it.
const LEFT_FOR_SURE: Duration = Duration::from_mins(1);
const MAGIC: &[u8] = b"MRUSAGE1";
/// Larger than any that is written: as many rows as may wait, each of the largest kind.
const BYTES_MAX: u64 = 256 << 20;

/// Writes the rows down, durably.
pub(super) fn write(dir: &Path, tally: &Tally) -> io::Result<()> {
    let id = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let temporary = dir.join(format!(".{PREFIX}{id:016x}{TEMPORARY}"));
    let written = write_new(&temporary, tally)
        .and_then(|()| fs::rename(&temporary, dir.join(format!("{PREFIX}{id:016x}"))));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(dir)?.sync_all()
}

fn write_new(path: &Path, tally: &Tally) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    put(&mut bytes, tally.rows.len() as u64);
    for (place, counts) in &tally.rows {
        let counts = counts.encode();
        put(&mut bytes, place.len() as u64);
        bytes.extend_from_slice(place);
        put(&mut bytes, counts.len() as u64);
        bytes.extend_from_slice(&counts);
    }
    let check = crc32fast::hash(&bytes);
    bytes.extend(check.to_le_bytes());
    let mut file = open_shared(path, false)?;
    file.write_all(&bytes)?;
    file.sync_all()
}

/// Removes what processes that were killed have left of such files.
pub(super) fn clear_leftovers(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_one = name
            .strip_prefix('.')
            .is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(TEMPORARY));
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_one && age().is_some_and(|age| age > LEFT_FOR_SURE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The files that wait, by name.
pub(super) fn list(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(PREFIX)).collect()
}

/// Where a file of that name is.
pub(super) fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}

/// When a file was written; that tells how fresh what it holds is.
pub(super) fn written_at(path: &Path) -> Option<UnixSeconds> {
    let modified = fs::metadata(path).and_then(|data| data.modified()).ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// What a file holds; an error for one that is not whole.
pub(super) fn read(path: &Path) -> io::Result<Tally> {
    let file = open_to_read(path)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let whole = bytes.len() as u64 <= BYTES_MAX;
    let tally = whole.then(|| decode(&bytes)).flatten();
    tally.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn decode(bytes: &[u8]) -> Option<Tally> {
    let (bytes, check) = bytes.split_last_chunk()?;
    if crc32fast::hash(bytes) != u32::from_le_bytes(*check) {
        return None;
    }
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut tally = Tally::default();
    for _ in 0..take(&mut rest)? {
        let place = run(&mut rest)?;
        let counts = Counts::decode(run(&mut rest)?)?;
        tally.rows.insert(place.into(), counts);
    }
    rest.is_empty().then_some(tally)
}

fn run<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(rest)?).ok()?;
    let (run, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::counts::Meter;

    #[test]
    fn what_a_killed_process_has_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let before = std::time::SystemTime::now() - 2 * LEFT_FOR_SURE;
        let names = [
            (".usage.spool.00000000000000a1.tmp", true, false),
            (".usage.spool.00000000000000a2.tmp", false, true),
            ("usage.spool.00000000000000a3", true, true),
            (".keys.snapshot.1.tmp", true, true),
        ];
        for (name, old, _) in names {
            let file = File::create(dir.path().join(name)).unwrap();
            if old {
                file.set_modified(before).unwrap();
            }
        }
        clear_leftovers(dir.path());
        for (name, _, stays) in names {
            assert_eq!(dir.path().join(name).exists(), stays, "{name}");
        }
    }

    #[test]
    fn what_is_spooled_is_read_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut tally = Tally::default();
        for number in 0..3u8 {
            let mut counts = Counts::default();
            counts.add(Meter::Requests, u64::from(number) + 1);
            tally.rows.insert([b'k', number].into(), counts);
        }
        write(dir.path(), &tally).unwrap();
        // What is no file holds up nobody.
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&pipe).is_err() && read(dir.path()).is_err());
        let names = list(dir.path());
        assert_eq!(names.len(), 1);
        let file = path(dir.path(), &names[0]);
        assert_eq!(read(&file).unwrap().rows, tally.rows);
        let bytes = fs::read(&file).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_none(), "{end}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_none(), "{at}");
        }
    }
}
