//! What was in use last, in a small file beside the snapshot: what a file is held against before it is taken.
//!
//! `store` writes it whenever it takes a version, so that a start and the commands refuse what a running router would.

use std::io::ErrorKind;
use std::path::Path;

use super::open::Opened;
use super::store::Refusal;
use crate::files::{self, FileError};

/// A generation, a hash in hexadecimal, a number of keys.
const SEEN_BYTES_MAX: usize = 256;

/// The highest version that was in use, which file that was, and how many keys it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) generation: u64,
    pub(super) file_hash: [u8; 32],
    keys: usize,
}

impl Seen {
    /// A file that is in use, or lies there to be used.
    pub(super) fn of(opened: &Opened) -> Self {
        Self {
            generation: opened.header.generation,
            file_hash: opened.file_hash,
            keys: opened.contents.keys.len(),
        }
    }

    /// Reads the memory of `path`; none if nothing was ever seen. One that is there and cannot be read is refused like the
    /// snapshot itself: taken for none, it would let any older file in.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Refusal> {
        let bytes = match files::read_private(path, SEEN_BYTES_MAX) {
            Err(FileError::Io(error)) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| Refusal::Seen(path.to_owned(), Some(error)))?,
        };
        let seen = String::from_utf8(bytes).ok();
        let seen = seen.and_then(|text| Self::parse(&text));
        let seen = seen.ok_or_else(|| Refusal::Seen(path.to_owned(), None))?;
        Ok(Some(seen))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (generation, hash) = (words.next()?.parse().ok()?, words.next()?);
        let mut file_hash = [0; 32];
        for (at, byte) in file_hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hash.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self {
            generation,
            file_hash,
            // Earlier versions did not write it.
            keys: words.next().and_then(|keys| keys.parse().ok()).unwrap_or(0),
        })
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), FileError> {
        let hash: String = self
            .file_hash
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let text = format!("{} {hash} {}\n", self.generation, self.keys);
        files::replace_private(path, text.as_bytes())
    }

    /// Whether a file may follow what was seen.
    pub(super) fn admits(&self, opened: &Opened) -> Result<(), Refusal> {
        let found = opened.header.generation;
        if found < self.generation {
            return Err(Refusal::RolledBack {
                found,
                seen: self.generation,
            });
        }
        if opened.file_hash == self.file_hash {
            return Ok(());
        }
        if found == self.generation {
            return Err(Refusal::Forked(self.generation));
        }
        let (before, after) = (self.keys, opened.contents.keys.len());
        if has_shrunk(before, after) && !opened.header.shrinks {
            return Err(Refusal::Shrunk { before, after });
        }
        Ok(())
    }
}

/// Whether so many keys are gone that somebody must have said so.
pub fn has_shrunk(before: usize, after: usize) -> bool {
    after * 2 < before
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn is_kept_and_read_in_the_form_before_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen");
        let seen = Seen {
            generation: 7,
            file_hash: std::array::from_fn(|at| at as u8),
            keys: 1000,
        };
        seen.write(&path).unwrap();
        let read = || Seen::read(&path).unwrap();
        assert_eq!(read(), Some(seen));
        let text = std::fs::read_to_string(&path).unwrap();
        let before = text.trim_end().rsplit_once(' ').unwrap().0;
        std::fs::write(&path, format!("{before}\n")).unwrap();
        assert_eq!(read(), Some(Seen { keys: 0, ..seen }));
        for bad in ["", "7", "x y", &text[..40]] {
            std::fs::write(&path, bad).unwrap();
            let refused = Seen::read(&path).unwrap_err().to_string();
            assert!(refused.contains("seen holds no"), "{bad}: {refused}");
        }
        seen.write(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Seen::read(&path).unwrap_err().to_string();
        assert!(refused.contains("seen is open to"), "{refused}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(), None);
    }
}
