//! Private files on disk: read with suspicion, replaced whole, changed under a lock.
//!
//! `master`, `store` and `edit` go through here. A file is opened once and judged on that descriptor, so it cannot be
//! exchanged between look and read. A write goes to a new file in the same directory, is synced, renamed over the old
//! one, and the directory synced: after a crash there is the old file or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

/// Owner may read and write, nobody else anything.
const PRIVATE: u32 = 0o600;

/// Why a file cannot be used.
#[derive(Debug)]
pub enum FileError {
    /// The system says so.
    Io(io::Error),
    /// A directory, a pipe, a device.
    NotRegular,
    /// It belongs to another user.
    Owner,
    /// Its group or others may read or write it.
    Permissions(u32),
    /// More bytes than such a file can have.
    TooLarge,
    /// It is there already, and would be overwritten.
    Exists,
}

impl std::fmt::Display for FileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("does not exist")
            }
            Self::Io(error) => write!(f, "{error}"),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::Owner => f.write_str("belongs to another user"),
            Self::Permissions(mode) => {
                write!(
                    f,
                    "is open to its group or to others (mode {mode:o}); chmod 600 it"
                )
            }
            Self::TooLarge => f.write_str("is too large to be one"),
            Self::Exists => f.write_str("exists already"),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::AlreadyExists {
            Self::Exists
        } else {
            Self::Io(error)
        }
    }
}

/// Reads a file that only its owner may touch, and that belongs to us or to root.
pub fn read_private(path: &Path, bytes_max: usize) -> Result<Vec<u8>, FileError> {
    read_guarded(path, bytes_max, 0o077)
}

/// Reads a file that a service manager keeps for this service alone. It may be root's, and readable to us by an access
/// list, which shows as the group's right to read.
pub(super) fn read_credential(path: &Path, bytes_max: usize) -> Result<Vec<u8>, FileError> {
    read_guarded(path, bytes_max, 0o037)
}

fn read_guarded(path: &Path, bytes_max: usize, forbidden: u32) -> Result<Vec<u8>, FileError> {
    // Non-blocking, so that a pipe in the file's place cannot hold us up before it is judged.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular);
    }
    if metadata.uid() != geteuid().as_raw() && metadata.uid() != 0 {
        return Err(FileError::Owner);
    }
    if metadata.mode() & forbidden != 0 {
        return Err(FileError::Permissions(metadata.mode() & 0o777));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(FileError::TooLarge);
    }
    Ok(bytes)
}

/// Writes a file that must not exist yet.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_new(path, bytes)?;
    sync_directory(path)?;
    Ok(())
}

/// What root changes stays its owner's: the service that reads it may be another user's.
fn keep_owner(new: &Path, old: &Path) -> io::Result<()> {
    let Ok(owner) = fs::metadata(old) else {
        return Ok(());
    };
    if geteuid().is_root() && owner.uid() != 0 {
        std::os::unix::fs::chown(new, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Puts `bytes` in the place of the file; through a symbolic link, in the place of what it points at.
pub(super) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let temporary = temporary_name(&target);
    // Left over from a crash of a process with our id; nobody else writes under the lock.
    let _ = fs::remove_file(&temporary);
    let replaced = write_new(&temporary, bytes)
        .and_then(|()| Ok(keep_owner(&temporary, &target)?))
        .and_then(|()| Ok(fs::rename(&temporary, &target)?));
    if replaced.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    replaced?;
    sync_directory(&target)?;
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// The lock over a file's changes; held until dropped, released by the system if the process dies.
pub(super) struct Lock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// Waits for the lock beside `path`. Readers need none: they see the old file or the new one.
pub(super) fn lock(path: &Path) -> Result<Lock, FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(path.with_file_name(name))?;
    let lock =
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
    Ok(Lock(lock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn reads_only_private_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert!(matches!(read_private(&path, 10), Err(FileError::Io(_))));
        create_private(&path, b"hello").unwrap();
        assert_eq!(read_private(&path, 5).unwrap(), b"hello");
        assert!(matches!(read_private(&path, 4), Err(FileError::TooLarge)));
        assert!(matches!(
            create_private(&path, b"x"),
            Err(FileError::Exists)
        ));
        for mode in [0o610, 0o640, 0o604, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(read_private(&path, 10), Err(FileError::Permissions(_))),
                "{mode:o}"
            );
        }
        assert!(matches!(
            read_private(dir.path(), 10),
            Err(FileError::NotRegular)
        ));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(matches!(
            read_private(&pipe, 10),
            Err(FileError::NotRegular)
        ));
    }

    #[test]
    fn replaces_behind_a_link_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("a"), dir.path().join("link"));
        create_private(&path, b"1").unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        replace_private(&link, b"2").unwrap();
        assert_eq!(read_private(&path, 10).unwrap(), b"2");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, PRIVATE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
