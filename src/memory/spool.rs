//! What a router that has handed over still has to say: a small file beside the log, taken in by who has the log now.
//!
//! Answers that were running at a hand-over end in the old process, which no longer has the log. Their memories go into
//! this file, sealed like rows; the new process moves them into the log. Both hold the file's lock while they touch it,
//! and the one that has read it removes it, so none is lost and one that is taken in twice is one memory all the same.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::files::{FileError, open_shared, open_to_read, replace_private};

/// More than that is not read at once: a record is a text and an id.
const PIECE_BYTES_MAX: usize = 64 << 20;

/// A vault's id and a sealed row.
pub(super) type Record = (String, Vec<u8>);

/// Adds records; durable when it returns. Returns whether half a record was cut off and put aside, one of a process that
/// was killed: it would hide those behind it.
pub(super) fn append(path: &Path, records: &[Record]) -> io::Result<bool> {
    let mut bytes = Vec::new();
    for (id, sealed) in records {
        write(&mut bytes, id.as_bytes());
        write(&mut bytes, sealed);
    }
    loop {
        let file = match open_shared(path, true) {
            Err(FileError::NotRegular) => {
                move_aside(path)?;
                continue;
            }
            file => file?,
        };
        let mut file = locked(file)?;
        // Removed while we waited for it: then the next one.
        if !stands_at(&file, path)? {
            continue;
        }
        let found = Found::in_file(&file)?;
        let cut = !found.tail.is_empty();
        if cut {
            put_aside(path, &found.tail);
            file.set_len(found.tail_at)?;
        }
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        if written.is_err() {
            let _ = file.set_len(found.tail_at);
        }
        return written.map(|()| cut);
    }
}

fn write(out: &mut Vec<u8>, piece: &[u8]) {
    out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
    out.extend_from_slice(piece);
}

/// A spool file that is read and locked; removed by `remove` once its records are safe.
pub(super) struct Taken {
    pub(super) records: Vec<Record>,
    /// How many pieces of it cannot be read.
    pub(super) damaged: usize,
    rest: Vec<u8>,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Taken {
    /// None if there is none.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match open_to_read(path) {
            Ok(file) => locked(file)?,
            Err(FileError::NotRegular) => {
                move_aside(path)?;
                return Ok(None);
            }
            Err(FileError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if !stands_at(&file, path)? {
            return Ok(None);
        }
        let found = Found::in_file(&file)?;
        Ok(Some(Self {
            damaged: found.strange + usize::from(!found.tail.is_empty()),
            rest: [found.strange_bytes, found.tail].concat(),
            records: found.records,
            path: path.to_owned(),
            _lock: file,
        }))
    }

    /// What cannot be read stays beside it.
    pub(super) fn remove(self) -> io::Result<()> {
        if self.damaged > 0 {
            put_aside(&self.path, &self.rest);
        }
        fs::remove_file(&self.path)
    }
}

/// Where what cannot be read is kept for whoever wants to look at it; the newest only.
fn aside(path: &Path) -> PathBuf {
    let mut name = OsString::from("bad.");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn put_aside(path: &Path, rest: &[u8]) {
    let aside = aside(path);
    let file = aside.display();
    match replace_private(&aside, rest) {
        Ok(()) => tracing::error!(%file, "a part of the memory spool is damaged and put aside"),
        Err(error) => {
            tracing::error!(%file, %error, "a part of the memory spool is damaged, and cannot be put aside");
        }
    }
}

/// The same for what is no file at all.
fn move_aside(path: &Path) -> io::Result<()> {
    let aside = aside(path);
    fs::rename(path, &aside)?;
    tracing::error!(file = %aside.display(), "what stood in the memory spool's place is no file; it is put aside");
    Ok(())
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

/// What a spool file holds.
#[derive(Default)]
struct Found {
    records: Vec<Record>,
    /// Whole records whose id is none.
    strange: usize,
    strange_bytes: Vec<u8>,
    /// What stands behind the last whole record, and where.
    tail: Vec<u8>,
    tail_at: u64,
}

impl Found {
    fn in_file(mut file: &File) -> io::Result<Self> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let mut rest = bytes;
        while let Some((id, behind)) = piece(rest)
            && let Some((sealed, behind)) = piece(behind)
        {
            let record = &rest[..rest.len() - behind.len()];
            rest = behind;
            match std::str::from_utf8(id) {
                Ok(id) if !id.is_empty() => found.records.push((id.to_owned(), sealed.to_vec())),
                _ => {
                    found.strange += 1;
                    found.strange_bytes.extend_from_slice(record);
                }
            }
        }
        found.tail.extend_from_slice(rest);
        found.tail_at = (bytes.len() - rest.len()) as u64;
        found
    }
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
    fn what_is_damaged_is_put_aside_and_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        append(&path, &[record("a"), record("b")]).unwrap();
        let whole = fs::read(&path).unwrap();
        let no_text: Vec<u8> = whole
            .iter()
            .map(|byte| if *byte == b'a' { 0xff } else { *byte })
            .collect();
        let huge = [
            &whole[..],
            &[1, 0, 0, 0, b'z'],
            &3_000_000_000_u32.to_le_bytes(),
            &[1; 100],
        ]
        .concat();
        let cuts = (0..=whole.len()).map(|cut| {
            let half = whole.len() / 2;
            let kept: &[&str] = match cut {
                _ if cut < half => &[],
                _ if cut < whole.len() => &["a"],
                _ => &["a", "b"],
            };
            (whole[..cut].to_vec(), kept, usize::from(cut % half > 0))
        });
        let others = [
            (vec![0xff; 64], &[][..], 1),
            (no_text, &["b"][..], 1),
            (huge, &["a", "b"][..], 1),
        ];
        for (bytes, kept, damaged) in cuts.chain(others) {
            fs::write(&path, &bytes).unwrap();
            let _ = fs::remove_file(aside(&path));
            let taken = Taken::read(&path).unwrap().unwrap();
            let ids: Vec<&str> = taken.records.iter().map(|(id, _)| &**id).collect();
            assert_eq!((&*ids, taken.damaged), (kept, damaged), "{bytes:?}");
            taken.remove().unwrap();
            assert_eq!(aside(&path).exists(), damaged > 0);
            // The same where somebody adds to it before it is taken.
            fs::write(&path, &bytes).unwrap();
            let cut = append(&path, &[record("c")]).unwrap();
            let taken = Taken::read(&path).unwrap().unwrap();
            let ids: Vec<&str> = taken.records.iter().map(|(id, _)| &**id).collect();
            assert_eq!(ids, [kept, &["c"]].concat());
            assert_eq!(usize::from(cut) + taken.damaged, damaged);
            taken.remove().unwrap();
        }
    }

    #[test]
    fn what_is_no_file_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let pipe = || nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        pipe();
        assert!(Taken::read(&path).unwrap().is_none());
        assert!(!path.exists() && aside(&path).exists());
        pipe();
        append(&path, &[record("a")]).unwrap();
        assert_eq!(Taken::read(&path).unwrap().unwrap().records, [record("a")]);
    }
}
