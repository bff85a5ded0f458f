//! What a router that has handed over still has to say: a small file beside the log, taken in by who has the log now.
//!
//! Answers that were running at a hand-over end in the old process, which no longer has the log. Their memories go into
//! this file, sealed like rows; the new process moves them into the log. Both hold the file's lock while they touch it,
//! and the one that has read it removes it, so none is lost and one that is taken in twice is one memory all the same.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::files::open_shared;

/// More than that is not read at once: a record is a text and an id.
const PIECE_BYTES_MAX: usize = 64 << 20;

/// A vault's id and a sealed row.
pub(super) type Record = (String, Vec<u8>);

/// Adds records; durable when it returns.
pub(super) fn append(path: &Path, records: &[Record]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (id, sealed) in records {
        for piece in [id.as_bytes(), sealed] {
            bytes.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            bytes.extend_from_slice(piece);
        }
    }
    loop {
        let mut file = locked(open_shared(path, true)?)?;
        // Removed while we waited for it: then the next one.
        if !stands_at(&file, path)? {
            continue;
        }
        let before = file.metadata()?.len();
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a record would hide those behind it.
            let _ = file.set_len(before);
        }
        return written;
    }
}

/// A spool file that is read and locked; removed by `remove` once its records are safe.
pub(super) struct Taken {
    pub(super) records: Vec<Record>,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Taken {
    /// None if there is none.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => locked(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !stands_at(&file, path)? {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        (&*file).read_to_end(&mut bytes)?;
        Ok(Some(Self {
            records: parse(&bytes),
            path: path.to_owned(),
            _lock: file,
        }))
    }

    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn locked(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn stands_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whole records from the start; a tail that a crash cut off is none.
fn parse(bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while let Some((id, behind)) = piece(rest)
        && let Some((sealed, behind)) = piece(behind)
    {
        rest = behind;
        if let Ok(id) = std::str::from_utf8(id) {
            records.push((id.to_owned(), sealed.to_vec()));
        }
    }
    records
}

fn piece(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > PIECE_BYTES_MAX {
        return None;
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        (id.to_owned(), vec![7; 40])
    }

    #[test]
    fn what_one_adds_the_other_takes_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        assert!(Taken::read(&path).unwrap().is_none());
        append(&path, &[record("a"), record("b")]).unwrap();
        append(&path, &[record("c")]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let taken = Taken::read(&path).unwrap().unwrap();
        assert_eq!(taken.records, [record("a"), record("b"), record("c")]);
        // Who comes in between waits, and then writes a new file.
        std::thread::scope(|scope| {
            scope.spawn(|| append(&path, &[record("d")]).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(20));
            taken.remove().unwrap();
        });
        assert_eq!(Taken::read(&path).unwrap().unwrap().records, [record("d")]);
    }

    #[test]
    fn a_cut_tail_hides_nothing_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        append(&path, &[record("a"), record("b")]).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            let expected = usize::from(cut >= whole.len() / 2);
            assert_eq!(parse(&whole[..cut]).len(), expected);
        }
        assert!(parse(&[0xff; 64]).is_empty());
    }
}
