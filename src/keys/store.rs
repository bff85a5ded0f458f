//! The published snapshot: loaded, judged, swapped whole, read by every worker without a lock.
//!
//! `server` opens one store for the process; `watch` calls `reload` off the workers. Whatever is wrong with a new file,
//! the old keys keep serving: the reason is logged once, counted, and shown by `/ready`. What was taken
//! last is kept in a small file beside the snapshot (`seen`), so a rolled-back file is refused after a restart too.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Cache};

use super::UnixSeconds;
use super::contents::ContentsError;
use super::master::{MasterError, MasterSource};
use super::open::{self, Closed, Opened};
use super::seal::SealError;
use super::seen::Seen;
use super::snapshot::Snapshot;
use crate::clock;
use crate::files::FileError;

/// Where the keys lie.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The sealed file.
    pub snapshot: PathBuf,
    /// What opens it.
    pub master: MasterSource,
}

impl KeyFiles {
    /// The small file that remembers the highest generation.
    pub(super) fn seen(&self) -> PathBuf {
        let mut name = self.snapshot.file_name().unwrap_or_default().to_owned();
        name.push(".seen");
        self.snapshot.with_file_name(name)
    }
}

/// Why a file is not taken.
#[derive(Debug)]
pub enum Refusal {
    /// The file itself.
    File(FileError),
    /// The master key.
    Master(MasterError),
    /// Its seal.
    Seal(SealError),
    /// What it holds.
    Contents(ContentsError),
    /// A provider key does not belong where it stands.
    ProviderKey,
    /// The master key is a copy that a service manager made when it started this process, and not the one any more.
    StaleCredential,
    /// What was in use last is written in a file that cannot be read, or that holds something else.
    Seen(PathBuf, Option<FileError>),
    /// An older version than one that was in use.
    RolledBack {
        /// What the file says.
        found: u64,
        /// What was seen.
        seen: u64,
    },
    /// Another file of the same version as one that was in use.
    Forked(u64),
    /// More than half of the keys are gone, and the writer did not say so.
    Shrunk {
        /// Keys before.
        before: usize,
        /// Keys in the file.
        after: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "key snapshot {error}"),
            Self::Master(error) => write!(f, "{error}"),
            Self::Seal(error) => write!(f, "key snapshot refused: {error}"),
            Self::Contents(error) => write!(f, "key snapshot refused: {error}"),
            Self::ProviderKey => {
                f.write_str("key snapshot refused: a provider key stands at another's place")
            }
            Self::StaleCredential => f.write_str(
                "key snapshot refused: sealed under another master key than the service was started with; restart it",
            ),
            Self::Seen(path, why) => {
                let path = path.display();
                write!(f, "key snapshot refused: what was in use before is not known: {path} ")?;
                match why {
                    Some(error) => write!(f, "{error}"),
                    None => f.write_str("holds no version; remove it to take any"),
                }
            }
            Self::RolledBack { found, seen } => {
                write!(
                    f,
                    "key snapshot refused: generation {found} is older than {seen}, which was in use"
                )
            }
            Self::Forked(generation) => {
                write!(
                    f,
                    "key snapshot refused: another file of generation {generation} was in use"
                )
            }
            Self::Shrunk { before, after } => write!(
                f,
                "key snapshot refused: it holds {after} keys where {before} were in use, and does not say that it should \
                 (snapshot import --allow-shrink does)"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// What a look at the file came to.
#[derive(Debug)]
pub enum Reload {
    /// The same file as before.
    Unchanged,
    /// A new version is in use.
    Taken {
        /// Its generation.
        generation: u64,
        /// Its memory keys.
        keys: usize,
    },
    /// The old keys keep serving.
    Refused(Refusal),
}

/// The state of the keys, for people and metrics.
#[derive(Clone, Debug)]
pub struct Status {
    /// The version in use.
    pub generation: u64,
    /// When it was written.
    pub created_at: UnixSeconds,
    /// When it was taken into use.
    pub loaded_at: UnixSeconds,
    /// Memory keys in it.
    pub keys: usize,
    /// Files refused since the start.
    pub refusals: u64,
    /// Why the last one was, as long as the file is still bad.
    pub last_refusal: Option<String>,
}

/// The keys of this process.
#[derive(Clone)]
pub struct KeyStore(Arc<Shared>);

struct Shared {
    files: KeyFiles,
    published: Arc<ArcSwap<Snapshot>>,
    /// Versions that were in use. Whoever lets go of a large one last frees all of it: that is never a worker.
    retired: Mutex<Vec<Arc<Snapshot>>>,
    refusals: AtomicU64,
    /// What the file was when it was taken; held for the length of a reload, so that there is one at a time.
    seen: Mutex<Seen>,
    /// For `status`, which workers ask: held for no longer than a copy.
    told: Mutex<Told>,
}

#[derive(Clone)]
struct Told {
    loaded_at: UnixSeconds,
    last_refusal: Option<String>,
}

/// A worker's view: one atomic load while nothing changes.
pub struct Reader {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    held: Held,
}

/// The keys as a core holds them. Copies are counted by this core alone: over the one count of all cores their
/// requests would get in each other's way.
#[derive(Clone)]
pub struct Held(Rc<Whole>);

/// Of all cores.
struct Whole(Arc<Snapshot>);

impl Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0.0
    }
}

impl Held {
    fn new(snapshot: &Arc<Snapshot>) -> Self {
        Self(Rc::new(Whole(snapshot.clone())))
    }
}

impl Reader {
    /// The keys as they are now.
    pub fn get(&mut self) -> Held {
        let now = self.cache.load();
        if !Arc::ptr_eq(now, &self.held.0.0) {
            self.held = Held::new(now);
        }
        self.held.clone()
    }
}

impl KeyStore {
    /// Loads the keys for the first time; without any the router does not start.
    pub fn open(files: KeyFiles) -> Result<Self, Refusal> {
        let opened = open::open_file(&files, None)?;
        if let Some(seen) = Seen::read(&files.seen())? {
            seen.admits(&opened)?;
        }
        let (seen, snapshot) = accept(opened)?;
        remember(&seen, &files);
        let told = Told {
            loaded_at: clock::unix_seconds(),
            last_refusal: None,
        };
        Ok(Self(Arc::new(Shared {
            files,
            published: Arc::new(ArcSwap::from_pointee(snapshot)),
            retired: Mutex::default(),
            refusals: AtomicU64::new(0),
            seen: Mutex::new(seen),
            told: Mutex::new(told),
        })))
    }

    /// A view for one worker.
    pub fn reader(&self) -> Reader {
        Reader {
            cache: Cache::new(self.0.published.clone()),
            held: Held::new(&self.0.published.load_full()),
        }
    }

    /// The keys as they are now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.published.load_full()
    }

    /// Where they lie.
    pub fn files(&self) -> &KeyFiles {
        &self.0.files
    }

    /// Looks at the file and takes it if it may be taken. Blocks: never called on a worker.
    pub fn reload(&self) -> Reload {
        self.let_go();
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = self.look_again(&mut seen);
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        match looked {
            Ok(None) => {
                told.last_refusal = None;
                Reload::Unchanged
            }
            Ok(Some(snapshot)) => {
                let (generation, keys) = (snapshot.generation, snapshot.keys);
                let before = self.0.published.swap(Arc::new(snapshot));
                self.retired().push(before);
                *told = Told {
                    loaded_at: clock::unix_seconds(),
                    last_refusal: None,
                };
                drop(told);
                remember(&seen, &self.0.files);
                tracing::info!(generation, keys, "key snapshot taken");
                Reload::Taken { generation, keys }
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                // A fault outside the file's contents is looked at again and again, and told once.
                let lasting = matches!(refusal, Refusal::File(_) | Refusal::Master(_));
                if !lasting || told.last_refusal.as_ref() != Some(&reason) {
                    self.0.refusals.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(
                        reason,
                        "key snapshot refused; the keys loaded before keep serving"
                    );
                    told.last_refusal = Some(reason);
                }
                Reload::Refused(refusal)
            }
        }
    }

    /// Frees the versions that nobody reads any more. Blocks: never called on a worker.
    pub(super) fn let_go(&self) {
        let only_here = |snapshot: &mut Arc<Snapshot>| Arc::strong_count(snapshot) == 1;
        let over: Vec<_> = self.retired().extract_if(.., only_here).collect();
        drop(over);
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Arc<Snapshot>>> {
        let retired = self.0.retired.lock();
        retired.unwrap_or_else(PoisonError::into_inner)
    }

    fn look_again(&self, seen: &mut Seen) -> Result<Option<Snapshot>, Refusal> {
        let closed = Closed::read(&self.0.files.snapshot).map_err(Refusal::File)?;
        if closed.hash == seen.file_hash {
            return Ok(None);
        }
        let opened = closed.open(&self.0.files.master, Some(&self.current()))?;
        seen.admits(&opened)?;
        let (taken, snapshot) = accept(opened)?;
        *seen = taken;
        Ok(Some(snapshot))
    }

    /// The state of the keys.
    pub fn status(&self) -> Status {
        let snapshot = self.0.published.load();
        let told = self
            .0
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Status {
            generation: snapshot.generation,
            created_at: snapshot.created_at,
            loaded_at: told.loaded_at,
            keys: snapshot.keys,
            refusals: self.0.refusals.load(Ordering::Relaxed),
            last_refusal: told.last_refusal,
        }
    }
}

fn accept(opened: Opened) -> Result<(Seen, Snapshot), Refusal> {
    let seen = Seen::of(&opened);
    let Opened {
        header,
        contents,
        master,
        ..
    } = opened;
    let snapshot = Snapshot::build(&header, contents, &master).ok_or(Refusal::ProviderKey)?;
    Ok((seen, snapshot))
}

/// A read-only directory is no reason not to serve; a rollback is then noticed only while the process lives.
fn remember(seen: &Seen, files: &KeyFiles) {
    let path = files.seen();
    if Seen::read(&path).ok().flatten() != Some(*seen)
        && let Err(error) = seen.write(&path)
    {
        tracing::warn!(path = %path.display(), %error, "cannot remember the key snapshot's generation");
    }
}

#[cfg(test)]
mod tests;
