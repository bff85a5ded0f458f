//! Private files on disk: read with suspicion, replaced whole, changed under a lock.
//!
//! `keys` keeps its files through here, `memory`, `usage`, `audit`, `admin` and `cli` make theirs. A file is opened
//! once and judged on that descriptor, so it cannot be exchanged between look and read. A write goes to a new file in
//! the same directory, is synced, renamed over the old one, and the directory synced: after a crash there is the old
//! file or the new one.

mod error;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

pub use error::FileError;

/// Owner may read and write, nobody else anything.
const PRIVATE: u32 = 0o600;

/// Reads a file that only its owner may touch, and that belongs to us or to root. Root reads anybody's.
pub fn read_private(path: &Path, bytes_max: usize) -> Result<Vec<u8>, FileError> {
    read_guarded(path, bytes_max, 0o077)
}

/// Reads a file that a service manager keeps for this service alone. It may be root's, and readable to us by an access
/// list, which shows as the group's right to read.
pub fn read_credential(path: &Path, bytes_max: usize) -> Result<Vec<u8>, FileError> {
    read_guarded(path, bytes_max, 0o037)
}

fn read_guarded(path: &Path, bytes_max: usize, forbidden: u32) -> Result<Vec<u8>, FileError> {
    let (file, metadata) = open_regular(path)?;
    // Root looks after the files of the service's user.
    let user = geteuid();
    if !user.is_root() && metadata.uid() != user.as_raw() && metadata.uid() != 0 {
        return Err(FileError::Owner);
    }
    if metadata.mode() & forbidden != 0 {
        return Err(FileError::Permissions(metadata.mode() & 0o777));
    }
    read_whole(&file, &metadata, bytes_max)
}

/// No list of models, prices or certificates comes near it.
const SETTINGS_BYTES_MAX: usize = 16 << 20;

/// Reads a file that an operator has written for the router, whoever else may read it. Whoever waits for it is never held
/// up: it is read anew while signals wait.
pub fn read_settings(path: &Path) -> Result<Vec<u8>, FileError> {
    let (file, metadata) = open_regular(path)?;
    read_whole(&file, &metadata, SETTINGS_BYTES_MAX)
}

fn open_regular(path: &Path) -> Result<(File, fs::Metadata), FileError> {
    let file = open_to_read(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

fn read_whole(
    file: &File,
    metadata: &fs::Metadata,
    bytes_max: usize,
) -> Result<Vec<u8>, FileError> {
    // Before any of it is in memory. It may grow meanwhile all the same.
    if metadata.len() > bytes_max as u64 {
        return Err(FileError::TooLarge);
    }
    // Of the whole length at once: growing would leave parts of a secret behind, and take twice the room.
    let mut bytes = Vec::with_capacity(metadata.len() as usize + 1);
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(FileError::TooLarge);
    }
    Ok(bytes)
}

/// Opens a file, and nothing else.
pub fn open_to_read(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(PATIENT);
    judged(options.open(path)?)
}

/// A pipe in a file's place must not hold us up before it is judged.
const PATIENT: i32 = nix::libc::O_NONBLOCK;

fn judged(file: File) -> Result<File, FileError> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(FileError::NotRegular),
    }
}

/// Writes a file that must not exist yet: afterwards it is there whole, or not at all. Only where the file system makes
/// no links can a crash leave a part of it.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(FileError::Exists);
    }
    let prepared = Prepared::new(path, bytes)?;
    // Unlike a rename, a link never takes the place of what somebody else has made meanwhile.
    match fs::hard_link(&prepared.temporary, path) {
        Err(error) if has_no_links(&error) => write_new(path, bytes, owner_beside(path))?,
        linked => linked?,
    }
    sync_directory(path)
}

/// Whether it is the file system that makes no links, or none to another one.
pub fn has_no_links(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, Unsupported};
    matches!(error.kind(), Unsupported | CrossesDevices)
        || error.raw_os_error() == Some(nix::libc::EPERM)
}

/// Puts `bytes` in the place of the file; through a symbolic link, in the place of what it points at.
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    Prepared::new(path, bytes)?.put()?;
    sync_directory(path)
}

/// Gives a file, behind whatever link, a second name, under which it stays when another takes its place. Something else
/// of that name goes; if that is a link, the link itself, since in another user's directory it may lead anywhere.
pub fn keep_as(path: &Path, name: &Path) -> Result<(), FileError> {
    let temporary = temporary_name(name);
    let _ = fs::remove_file(&temporary);
    let target = target(path);
    match fs::hard_link(&target, &temporary) {
        Err(error) if has_no_links(&error) => copy_new(&target, &temporary)?,
        linked => linked?,
    }
    let kept = fs::rename(&temporary, name);
    // Still there where both names are the file's already.
    let _ = fs::remove_file(&temporary);
    Ok(kept?)
}

/// Copies a file beside another user's only if it is the same user's: judged on what is read, whatever a name leads to
/// by then.
fn copy_new(from: &Path, to: &Path) -> Result<(), FileError> {
    let owner = owner_beside(to);
    let mut file = File::open(from)?;
    let from_user = file.metadata()?.uid();
    if owner.is_some_and(|(user, _)| user != 0 && user != from_user) {
        return Err(FileError::Owner);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    write_new(to, &bytes, owner)
}

/// New bytes on disk beside a file, not yet in its place. Gone when dropped.
pub struct Prepared {
    temporary: PathBuf,
    target: PathBuf,
}

impl Prepared {
    /// Writes them, readable to the owner only; that is the file's owner where root writes.
    pub fn new(path: &Path, bytes: &[u8]) -> Result<Self, FileError> {
        let target = target(path);
        check_reach(path, &target)?;
        let temporary = temporary_name(&target);
        // Left over from a crash of a process with our id; nobody else writes under the lock.
        let _ = fs::remove_file(&temporary);
        let owner = owner_of(&target).or_else(|| owner_beside(&target));
        write_new(&temporary, bytes, owner)?;
        Ok(Self { temporary, target })
    }

    /// Renames it into its place. The directory is not synced yet.
    pub fn put(self) -> Result<(), FileError> {
        Ok(fs::rename(&self.temporary, &self.target)?)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Nobody takes so long to write a file.
const LEFT_FOR_SURE: Duration = Duration::from_mins(1);

/// Removes what processes that were killed have left beside a file and those named after it. Under its lock only.
pub fn clear_leftovers(path: &Path) {
    let target = target(path);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let start = format!(".{name}.");
    for entry in fs::read_dir(directory_of(&target))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let rest = name.strip_prefix(&start);
        let Some(middle) = rest.and_then(|rest| rest.strip_suffix(TEMPORARY)) else {
            continue;
        };
        // One of a longer name, `NAME.seen`, may be on its way right now: a router writes it without this lock.
        let own = middle.bytes().all(|byte| byte.is_ascii_digit());
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if own || age().is_some_and(|age| age > LEFT_FOR_SURE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Refuses what a link in another user's directory leads root to, unless that is the same user's: it may have come just
/// now, to have any file of the machine replaced.
fn check_reach(path: &Path, target: &Path) -> Result<(), FileError> {
    let stays = fs::canonicalize(directory_of(path)).is_ok_and(|dir| {
        path.file_name()
            .is_some_and(|name| dir.join(name) == target)
    });
    match (owner_beside(path), owner_of(target)) {
        (Some((user, _)), Some((owner, _))) if !stays && user != 0 && owner != user => {
            Err(FileError::Owner)
        }
        _ => Ok(()),
    }
}

/// User and group of a file; none where it does not matter, because only root can give a file away.
fn owner_of(path: &Path) -> Option<(u32, u32)> {
    let metadata = fs::metadata(path).ok().filter(|_| geteuid().is_root())?;
    Some((metadata.uid(), metadata.gid()))
}

/// What root makes is its directory's owner's: the service that reads it may be another user's.
fn owner_beside(path: &Path) -> Option<(u32, u32)> {
    owner_of(directory_of(path))
}

fn write_new(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> Result<(), FileError> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FileError::NoDirectory,
        _ => error.into(),
    })?;
    let written = give(&file, owner)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all());
    // Half a file in a name's place would be there for good.
    written.inspect_err(|_| drop(fs::remove_file(path)))?;
    Ok(())
}

fn give(file: &File, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some((user, group)) if user != 0 => fchown(file, Some(user), Some(group)),
        _ => Ok(()),
    }
}

/// Opens a file that root's commands and the service both write, and makes one that is missing. Root follows no link
/// in another user's directory.
pub fn open_shared(path: &Path, append: bool) -> Result<File, FileError> {
    let owner = owner_beside(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).append(append).mode(PRIVATE);
    let follow = match owner {
        Some((user, _)) if user != 0 => nix::libc::O_NOFOLLOW,
        _ => 0,
    };
    options.custom_flags(PATIENT | follow);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            give(&file, owner)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => judged(options.open(path)?),
        Err(error) => Err(FileError::Io(error)),
    }
}

const TEMPORARY: &str = ".tmp";

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}{TEMPORARY}", std::process::id()));
    path.with_file_name(name)
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Makes sure that a name that was put into its directory is there after a crash.
pub fn sync_directory(path: &Path) -> Result<(), FileError> {
    Ok(File::open(directory_of(&target(path)))?.sync_all()?)
}

/// The lock over a file's changes; held until dropped, released by the system if the process dies.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// Waits for the lock beside the file that `path` leads to, so that two names of one file have one lock. Readers need
/// none: they see the old file or the new one.
pub fn lock(path: &Path) -> Result<Lock, FileError> {
    loop {
        let before = target(path);
        let lock = lock_beside(&before)?;
        // A link may have been exchanged during the wait: then another file would be changed, without its lock.
        if target(path) == before {
            return Ok(lock);
        }
    }
}

fn lock_beside(target: &Path) -> Result<Lock, FileError> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let file = open_shared(&target.with_file_name(name), false)?;
    Ok(Lock(wait(file, target)?))
}

/// Nobody takes so long to change a file; whoever types a command wonders by then.
const SILENT_WAIT: Duration = Duration::from_secs(1);
const WAIT_LOOK: Duration = Duration::from_millis(10);

/// Says once what is waited for, if it does not come soon.
fn wait(mut file: File, target: &Path) -> io::Result<Flock<File>> {
    let began = Instant::now();
    while began.elapsed() < SILENT_WAIT {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            locked => return locked.map_err(|(_, errno)| errno.into()),
        };
        std::thread::sleep(WAIT_LOOK);
    }
    tracing::warn!(
        "{} is being changed by another process; waiting for its lock",
        target.display()
    );
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// What `work` gives; none if it panics, as the crate that reads a store does over a file that somebody damaged.
/// Whatever it had open is to be let go of.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
mod tests;
