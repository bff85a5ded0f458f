//! What the handle and the threads of memory share: vaults in RAM, the queue, the log, and the jobs of the loaders.
//!
//! A vault is hot, or on its way in, or not here at all; an idle one costs no RAM. Whoever needs one that is on its way
//! joins those who wait for it. What is said to it meanwhile is kept, however long the log cannot be read, and taken in
//! before anybody sees the vault. A vault leaves RAM only when all of it is durable and nobody holds it: what lies in
//! the queue belongs to a hot vault, and so a load never has to wait for the writer.

mod adding;
mod arriving;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ahash::RandomState;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_channel::oneshot;

use super::MemoryError;
use super::deletions::{Deletions, Moment};
use super::embed::{Embedder, EmbeddingSettings};
use super::jobs::{Job, Jobs};
use super::log::Log;
use super::queue::{Done, Queue};
use super::seal::VaultRef;
use super::status::{Counters, StoreState, raise, raise_by};
use super::turns::Turns;
use super::vault::Hot;
use super::words::{MemoryId, NewMemory};

/// Turns that end while their vault is on its way, at most: a log that cannot be read for long must not cost all RAM.
const PENDING_MAX: usize = 1024;
/// The same in bytes of one vault, but for a single turn: of the queue's room a vault that cannot be read leaves others
/// the most.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// How memory is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// The log.
    pub path: PathBuf,
    /// RAM for vaults in use.
    pub hot_bytes: usize,
    /// How long memories are kept; none means for ever.
    pub retention: Option<Duration>,
    /// Where vectors come from; without, memories are found by their words.
    pub embeddings: Option<EmbeddingSettings>,
}

/// A vault, if it is there, or the place to wait for it.
pub(super) enum Found {
    Hot(Arc<Hot>),
    Coming(oneshot::Receiver<Result<Arc<Hot>, MemoryError>>),
}

/// What came of keeping something for a vault.
pub(super) enum Keeping {
    Kept,
    Dropped,
    /// The vault has come just now: there it is, with what was to be kept.
    IsHere(Arc<Hot>, Vec<NewMemory>),
}

enum Slot {
    Coming(Coming),
    Hot(Arc<Hot>),
}

/// What was said, and when its turn began.
type Pending = (Vec<NewMemory>, Moment);

#[derive(Default)]
struct Coming {
    waiters: Vec<oneshot::Sender<Result<Arc<Hot>, MemoryError>>>,
    pending: Vec<Pending>,
    /// Something is to be taken in once it is here.
    takes_in: bool,
    /// Its load has failed, and what is pending waits for the next one.
    parked: Option<VaultRef>,
}

impl Coming {
    fn has_room(&self, bytes: usize) -> bool {
        let waiting = self
            .pending
            .iter()
            .map(|(memories, _)| text_bytes(memories));
        self.pending.is_empty()
            || self.pending.len() < PENDING_MAX
                && waiting.sum::<usize>() + bytes <= PENDING_BYTES_MAX
    }
}

/// What came of an explicit write: how it went, and when it is durable.
pub(super) struct Written<T> {
    pub(super) result: T,
    pub(super) durable: oneshot::Receiver<Result<(), MemoryError>>,
}

/// Memories that were stored, or were there already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// How many are new.
    pub stored: u64,
    /// The tokens of those.
    pub tokens: u64,
    /// How many were there.
    pub duplicates: u64,
    /// How many are older than the retention rule keeps.
    pub expired: u64,
    /// The new ones.
    pub ids: Vec<MemoryId>,
}

pub(super) struct Core {
    pub(super) settings: MemorySettings,
    pub(super) log: Log,
    pub(super) queue: Queue,
    pub(super) jobs: Jobs,
    pub(super) counters: Counters,
    pub(super) hasher: RandomState,
    /// What was recalled for the turns that run.
    pub(super) turns: Turns,
    /// What may not be stored any more.
    pub(super) deletions: Deletions,
    /// Gives vectors, where a model is configured.
    pub(super) embedder: Option<Embedder>,
    /// Who waits for the file to be rewritten.
    pub(super) compactions: Mutex<Vec<Done>>,
    /// A part of the file cannot be read, and it is to be rewritten without that.
    pub(super) is_damaged: AtomicBool,
    /// Vaults of which that has been told.
    pub(super) told_damaged: Mutex<BTreeSet<Arc<str>>>,
    /// Nobody has a handle any more.
    pub(super) ended: AtomicBool,
    vaults: DashMap<Arc<str>, Slot>,
    /// Some vault may be parked: so that nobody looks through all of them for nothing.
    any_parked: AtomicBool,
    evicting: AtomicBool,
    started: Instant,
}

pub(super) fn text_bytes(memories: &[NewMemory]) -> usize {
    memories.iter().map(|memory| memory.text.len()).sum()
}

impl Core {
    pub(super) fn new(settings: MemorySettings) -> Self {
        Self {
            log: Log::new(settings.path.clone()),
            embedder: settings.embeddings.clone().map(Embedder::new),
            settings,
            queue: Queue::default(),
            jobs: Jobs::default(),
            counters: Counters::default(),
            hasher: RandomState::new(),
            turns: Turns::default(),
            deletions: Deletions::default(),
            compactions: Mutex::default(),
            is_damaged: AtomicBool::new(false),
            told_damaged: Mutex::default(),
            ended: AtomicBool::new(false),
            vaults: DashMap::new(),
            any_parked: AtomicBool::new(false),
            evicting: AtomicBool::new(false),
            started: Instant::now(),
        }
    }

    /// What the process before this one left, or the one after it will find.
    pub(super) fn spool(&self) -> PathBuf {
        self.settings.path.with_extension("spool")
    }

    pub(super) fn hot_vaults(&self) -> usize {
        self.vaults.len()
    }

    /// The vault, or the place to wait for it. Only the first who waits causes a load.
    pub(super) fn find(&self, vault: &VaultRef) -> Result<Found, MemoryError> {
        if self.queue.is_closed() {
            return Err(MemoryError::Closed);
        }
        if let Some(slot) = self.vaults.get(&**vault.id())
            && let Slot::Hot(hot) = &*slot
        {
            return self.used(hot, vault).map(Found::Hot);
        }
        match self.counters.state() {
            StoreState::Failed(reason) => return Err(MemoryError::Unavailable(reason)),
            StoreState::Closed => return Err(MemoryError::Closed),
            StoreState::Opening | StoreState::Open => {}
        }
        let (waiter, told) = oneshot::channel();
        match self.vaults.entry(vault.id().clone()) {
            Entry::Occupied(mut slot) => match slot.get_mut() {
                Slot::Hot(hot) => return self.used(hot, vault).map(Found::Hot),
                Slot::Coming(coming) => {
                    coming.waiters.push(waiter);
                    if let Some(vault) = coming.parked.take() {
                        self.jobs.push(Job::Load(vault));
                    }
                }
            },
            Entry::Vacant(place) => {
                place.insert(Slot::Coming(Coming {
                    waiters: vec![waiter],
                    ..Coming::default()
                }));
                self.jobs.push(Job::Load(vault.clone()));
            }
        }
        Ok(Found::Coming(told))
    }

    /// The vault if it is in RAM, for what another process left in the log. One that is on its way may have been read
    /// before that: then it comes once the vault is here. A load that begins from now on finds it by itself.
    pub(super) fn find_to_take_in(&self, id: &str) -> Option<Arc<Hot>> {
        match self.vaults.get_mut(id)?.value_mut() {
            Slot::Hot(hot) => Some(hot.clone()),
            Slot::Coming(coming) => {
                coming.takes_in = true;
                None
            }
        }
    }

    fn used(&self, hot: &Arc<Hot>, vault: &VaultRef) -> Result<Arc<Hot>, MemoryError> {
        // The id alone opens nothing.
        if !hot.sealer.is_for(vault) {
            return Err(MemoryError::Foreign);
        }
        raise(&self.counters.hits);
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        hot.used_ms.store(now, Ordering::Relaxed);
        Ok(hot.clone())
    }

    /// Keeps what is said to a vault that is not here until it is; causes a load if nobody else has.
    pub(super) fn keep_for(
        &self,
        vault: &VaultRef,
        memories: Vec<NewMemory>,
        begun: Moment,
    ) -> Keeping {
        let count = memories.len();
        let bytes = text_bytes(&memories);
        match self.vaults.entry(vault.id().clone()) {
            Entry::Occupied(mut slot) => match slot.get_mut() {
                Slot::Hot(hot) => return Keeping::IsHere(hot.clone(), memories),
                Slot::Coming(coming) if coming.has_room(bytes) => {
                    self.queue.announce(bytes);
                    coming.pending.push((memories, begun));
                }
                Slot::Coming(_) => {
                    raise_by(&self.counters.dropped, count);
                    return Keeping::Dropped;
                }
            },
            Entry::Vacant(place) => {
                self.queue.announce(bytes);
                place.insert(Slot::Coming(Coming {
                    pending: vec![(memories, begun)],
                    ..Coming::default()
                }));
                self.jobs.push(Job::Load(vault.clone()));
            }
        }
        Keeping::Kept
    }

    /// Counts a vault's RAM anew, and sees to it that all of them stay within the budget.
    pub(super) fn recount(&self, hot: &Hot, bytes: usize) {
        let Some(before) = hot.count(bytes) else {
            return;
        };
        let total = &self.counters.hot_bytes;
        total.fetch_add(bytes, Ordering::Relaxed);
        let all = total.fetch_sub(before, Ordering::Relaxed) - before;
        if all > self.settings.hot_bytes && !self.evicting.swap(true, Ordering::Relaxed) {
            self.jobs.push(Job::Evict);
        }
    }

    /// Lets those go that were not used for longest, until there is some room again.
    pub(super) fn evict(&self) {
        self.evicting.store(false, Ordering::Relaxed);
        let target = self.settings.hot_bytes / 10 * 9;
        let mut oldest: Vec<(u64, Arc<str>)> = Vec::with_capacity(self.vaults.len());
        for slot in &self.vaults {
            if let Slot::Hot(hot) = slot.value() {
                oldest.push((hot.used_ms.load(Ordering::Relaxed), slot.key().clone()));
            }
        }
        oldest.sort_unstable_by_key(|(used, _)| *used);
        for (_, id) in oldest {
            if self.counters.hot_bytes.load(Ordering::Relaxed) <= target {
                break;
            }
            if self.let_go(&id, false) {
                raise(&self.counters.evictions);
            }
        }
    }

    /// Takes a vault out of RAM, if all of it is durable and nobody has it in hand; with `forced` in any case.
    pub(super) fn let_go(&self, id: &str, forced: bool) -> bool {
        let removed = self.vaults.remove_if(id, |_, slot| match slot {
            Slot::Hot(hot) => {
                // Under the table's lock nobody can get hold of it anew.
                let idle = Arc::strong_count(hot) == 1
                    && self.queue.is_durable(hot.ticket.load(Ordering::Acquire));
                idle || forced
            }
            Slot::Coming(_) => false,
        });
        let Some((_, Slot::Hot(hot))) = removed else {
            return false;
        };
        let counted = hot.leave();
        self.counters
            .hot_bytes
            .fetch_sub(counted, Ordering::Relaxed);
        true
    }

    /// The ids of all vaults in RAM.
    pub(super) fn hot_ids(&self) -> Vec<Arc<str>> {
        let hot = self
            .vaults
            .iter()
            .filter(|slot| matches!(slot.value(), Slot::Hot(_)));
        hot.map(|slot| slot.key().clone()).collect()
    }

    /// All vaults in RAM, one after the other: whoever goes through them keeps none but the one in hand from leaving.
    pub(super) fn all_hot(&self) -> impl Iterator<Item = Arc<Hot>> {
        let by_id = |id: Arc<str>| match self.vaults.get(&*id)?.value() {
            Slot::Hot(hot) => Some(hot.clone()),
            Slot::Coming(_) => None,
        };
        self.hot_ids().into_iter().filter_map(by_id)
    }
}
