//! Notices a new snapshot file: by looking, four times a second, from a thread of its own.
//!
//! A look is one `stat`, which sees a rename, an in-place write and a swapped symbolic link alike, on every file system;
//! notifications would miss the last two in some set-ups and need a fallback like this one anyway. The file is read
//! when it has changed and then held still for one look, so that a slow in-place write is not met half-way; and after a
//! few looks in any case, so that no stream of changes keeps a revoked key in use. The master key's file is looked at
//! too: where both are exchanged, either may come last.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use super::snapshot::Snapshot;
use super::store::{KeyStore, Refusal, Reload};

/// Two looks fit well into the two seconds in which a new file must be in use.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Looks at a file that changes each time; together a second.
const RESTLESS_LOOKS_MAX: u32 = 4;

/// Stops the watch and waits for its thread when dropped.
pub struct WatchGuard {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl KeyStore {
    /// Starts to watch the file. `taken` hears of each version that is taken, whoever took it; of several within one look
    /// of the last.
    pub fn watch(&self, taken: impl Fn(&Snapshot) + Send + 'static) -> io::Result<WatchGuard> {
        let store = self.clone();
        let (stop, stopped) = channel::<()>();
        let mut told = store.current().generation;
        let watch = move || {
            let mut looked = Looked::default();
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                looked.look(&store);
                store.let_go();
                let current = store.current();
                if current.generation != told {
                    told = current.generation;
                    taken(&current);
                }
            }
        };
        let thread = thread::Builder::new().name("keys".into()).spawn(watch)?;
        Ok(WatchGuard {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The snapshot's and the master key's.
type Stamps = (Option<Stamp>, Option<Stamp>);

#[derive(Default)]
struct Looked {
    last: Stamps,
    /// What was read last; a look at the same again brings nothing new.
    read: Option<Stamps>,
    /// Looks since then at which the file had changed once more.
    restless: u32,
}

impl Looked {
    fn look(&mut self, store: &KeyStore) {
        let files = store.files();
        let stamps = (Stamp::of(&files.snapshot), Stamp::of(files.master.path()));
        let still = stamps == self.last;
        self.last = stamps;
        if stamps.0.is_some() && Some(stamps) == self.read {
            return;
        }
        if !still {
            self.restless += 1;
            if self.restless < RESTLESS_LOOKS_MAX {
                return;
            }
        }
        self.restless = 0;
        self.read = match store.reload() {
            // A fault outside the file may heal while the file stays as it is.
            Reload::Refused(Refusal::File(_) | Refusal::Master(_)) => None,
            _ => Some(stamps),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{self, KeyFiles, KeyState, MasterSource, NewKey};

    #[test]
    fn a_master_key_that_comes_behind_its_snapshot_is_met() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = |dir: &Path| KeyFiles {
            snapshot: dir.join("keys.snapshot"),
            master: MasterSource::File(dir.join("master.key")),
        };
        let (own, copy) = (files(here.path()), files(there.path()));
        keys::init(&own).unwrap();
        let store = KeyStore::open(own.clone()).unwrap();
        let bring = |name: &str, from: &Path, to: &Path| {
            fs::copy(from.join(name), to.join(name)).unwrap();
        };
        for name in ["keys.snapshot", "master.key"] {
            bring(name, here.path(), there.path());
        }
        keys::rekey(&copy, None).unwrap();
        let mut looked = Looked::default();
        let mut look = || (0..3).for_each(|_| looked.look(&store));
        look();
        bring("keys.snapshot", there.path(), here.path());
        look();
        look();
        let status = store.status();
        assert_eq!((status.generation, status.refusals), (1, 1), "{status:?}");
        bring("master.key", there.path(), here.path());
        look();
        let status = store.status();
        assert_eq!((status.generation, status.last_refusal), (2, None));
    }

    #[test]
    fn what_is_taken_is_told_whoever_took_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = KeyFiles {
            snapshot: dir.path().join("keys.snapshot"),
            master: MasterSource::File(dir.path().join("master.key")),
        };
        keys::init(&files).unwrap();
        let store = KeyStore::open(files.clone()).unwrap();
        let (tell, told) = channel();
        let taken = move |snapshot: &Snapshot| {
            tell.send((snapshot.generation, snapshot.keys)).unwrap();
        };
        let _watch = store.watch(taken).unwrap();
        for keys in 1..3 {
            let new = NewKey {
                account: "default".into(),
                ..NewKey::default()
            };
            store.edit(|editor| editor.add_key(new)).unwrap();
            store.reload();
            assert_eq!(told.recv().unwrap(), (keys as u64 + 1, keys));
        }
    }

    #[test]
    fn a_file_that_changes_at_each_look_is_taken_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let files = KeyFiles {
            snapshot: dir.path().join("keys.snapshot"),
            master: MasterSource::File(dir.path().join("master.key")),
        };
        keys::init(&files).unwrap();
        let add = || {
            let new = NewKey {
                account: "default".into(),
                ..NewKey::default()
            };
            keys::edit(&files, |editor| editor.add_key(new)).unwrap()
        };
        let (record, token) = add();
        let store = KeyStore::open(files.clone()).unwrap();
        let mut looked = Looked::default();
        for _ in 0..3 {
            looked.look(&store);
        }
        keys::edit(&files, |editor| {
            editor.set_state(&record.id, KeyState::Revoked)
        })
        .unwrap();
        let works = || store.current().authenticate(token.expose(), 0).is_some();
        for _ in 1..RESTLESS_LOOKS_MAX {
            looked.look(&store);
            assert!(works(), "it may be half written");
            add();
        }
        looked.look(&store);
        assert!(!works());
    }
}
