//! The handle that requests, the admin port and commands reach memory through.
//!
//! Cheap to clone, usable from any thread and any runtime: what has to wait waits for a message from the store's own
//! threads, and what is hot is answered where it is asked. Nothing in here fails a request: an error says that there is
//! no memory now.

mod deleting;

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;

use super::analyse;
use super::change::Op;
use super::core::{Added, Core, Found, Keeping, MemorySettings, text_bytes};
use super::deletions::{Moment, Said};
use super::jobs::Job;
use super::seal::{self, VaultRef};
use super::status::{MemoryStatus, StoreState, raise, raise_by};
use super::turns::Turns;
use super::vault::{By, Hashed, Hot, Ready};
use super::words::{Browse, NewMemory, Query, Recalled, VaultStats};
use super::{embed, loader, queue, revector, writer};

/// Texts up to this length, together, are analysed where they are captured; longer ones by a loader.
const AT_ONCE_BYTES: usize = 16 << 10;
/// How long the end of a process waits for a store that cannot be written.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
const CLOSE_LOOK: Duration = Duration::from_millis(2);

/// Why there is no memory now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryError {
    /// The log cannot be read or written.
    Unavailable(String),
    /// More is waiting to be written than there is room for.
    Full,
    /// It is more at once than there ever is room for: so many bytes.
    TooLarge(usize),
    /// The store was closed.
    Closed,
    /// The vault is open under another key.
    Foreign,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) => write!(f, "the memory log cannot be used: {reason}"),
            Self::Full => f.write_str("too much is waiting to be written to the memory log"),
            Self::TooLarge(limit) => write!(f, "at most {limit} bytes of text at once"),
            Self::Closed => f.write_str("the memory log is closed"),
            Self::Foreign => f.write_str("the vault belongs to another key"),
        }
    }
}

impl std::error::Error for MemoryError {}

/// Memory, open or on its way to be.
#[derive(Clone)]
pub struct MemoryStore(Arc<Handle>);

struct Handle(Arc<Core>);

/// A vault that is in RAM, and stays there for as long as this is held.
pub struct Loaded(Arc<Hot>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
        self.0.queue.close();
        self.0.jobs.wake_all();
        if let Some(embedder) = &self.0.embedder {
            embedder.end();
        }
    }
}

fn tokens_of<'t>(texts: impl Iterator<Item = &'t str>) -> u64 {
    texts.map(|text| u64::from(analyse::tokens(text))).sum()
}

impl MemoryStore {
    /// Starts the store's threads. A log that cannot be opened is not their failure: they try again every second.
    pub fn open(settings: MemorySettings) -> io::Result<Self> {
        let core = Arc::new(Core::new(settings));
        let store = Self(Arc::new(Handle(core.clone())));
        let start = |name: String, run: fn(&Core)| {
            let core = core.clone();
            let thread = std::thread::Builder::new().name(name);
            thread.spawn(move || run(&core)).map(drop)
        };
        start("memory".into(), writer::run)?;
        for (name, run) in loader::threads() {
            start(name.into(), run)?;
        }
        if core.embedder.is_some() {
            start("memory-revector".into(), revector::run)?;
            for (name, run) in embed::threads() {
                start(name, run)?;
            }
        }
        Ok(store)
    }

    fn core(&self) -> &Core {
        &self.0.0
    }

    /// What helps with a query, best first, however long a cold vault takes to load.
    pub async fn recall(
        &self,
        vault: &VaultRef,
        query: &Query<'_>,
    ) -> Result<Vec<Recalled>, MemoryError> {
        let loaded = self.load(vault).await?;
        Ok(self.recall_in(&loaded, query).await)
    }

    /// The first half of a recall: a hot vault is there without waiting. How long a cold one may take is for the caller
    /// to bound.
    pub async fn load(&self, vault: &VaultRef) -> Result<Loaded, MemoryError> {
        raise(&self.core().counters.recalls);
        self.hot(vault).await.map(Loaded)
    }

    /// The second half. It waits for nothing but the query's vector, which has a deadline of its own: past that, words
    /// alone find what they find.
    pub async fn recall_in(&self, Loaded(hot): &Loaded, query: &Query<'_>) -> Vec<Recalled> {
        let core = self.core();
        let counters = &core.counters;
        let mut vector = None;
        if let Some(embedder) = core.embedder.as_ref().filter(|_| hot.read().has_vectors()) {
            vector = embedder.vector_of(query.text).await;
            if vector.is_none() {
                raise(&counters.without_vector);
            }
        }
        let started = Instant::now();
        let oldest = loader::oldest_ms(core);
        let recalled = hot.read().recall(query, vector.as_deref(), oldest);
        counters.recall_times.note(started.elapsed());
        raise_by(&counters.recalled, recalled.len());
        recalled
    }

    pub(super) async fn hot(&self, vault: &VaultRef) -> Result<Arc<Hot>, MemoryError> {
        match self.core().find(vault)? {
            Found::Hot(hot) => Ok(hot),
            Found::Coming(told) => {
                let hot = told.await.map_err(|_| MemoryError::Closed)??;
                if hot.sealer.is_for(vault) {
                    Ok(hot)
                } else {
                    Err(MemoryError::Foreign)
                }
            }
        }
    }

    /// Now, for a turn that begins.
    pub fn moment(&self) -> Moment {
        self.core().deletions.moment()
    }

    /// Remembers, without waiting: what is hot knows it at once, and it is durable within a second. What there is no
    /// room for is dropped and counted; what was deleted since the turn had `begun` is not stored. Returns the tokens
    /// that were taken. Where the vault or a thread is still waited for, these may turn out to be there already.
    pub fn capture(&self, vault: &VaultRef, mut memories: Vec<NewMemory>, begun: Moment) -> u64 {
        let core = self.core();
        let bytes = text_bytes(&memories);
        if memories.is_empty() {
            return 0;
        }
        if !core.queue.has_room(bytes) {
            return self.dropped(&memories);
        }
        if core.queue.is_closed() {
            // By its clock the next process tells what was said before a deletion: all of a turn as soon as it began.
            for memory in &mut memories {
                memory.at_ms = memory.at_ms.min(begun.at_ms);
            }
        }
        let (hot, memories) = match core.find(vault) {
            Ok(Found::Hot(hot)) => (hot, memories),
            // A log that cannot be read now may be soon.
            Ok(Found::Coming(_)) | Err(MemoryError::Unavailable(_)) => {
                let tokens = tokens_of(memories.iter().map(|memory| &*memory.text));
                match core.keep_for(vault, memories, begun) {
                    Keeping::IsHere(hot, memories) => (hot, memories),
                    Keeping::Kept => return tokens,
                    Keeping::Dropped => return 0,
                }
            }
            Err(MemoryError::Closed) => (Core::stand_in(vault), memories),
            Err(_) => return self.dropped(&memories),
        };
        let new = core.without_twins(&hot, memories, By::Turn);
        if new.is_empty() {
            return 0;
        }
        if bytes <= AT_ONCE_BYTES {
            let said = |_: &Ready| Some(Said::Since(begun));
            return core.add_new(&hot, new, Vec::new(), said, None).tokens;
        }
        let tokens = tokens_of(new.iter().map(Hashed::text));
        core.queue.announce(new.iter().map(Hashed::bytes).sum());
        core.jobs.push(Job::Capture(hot, new, begun));
        tokens
    }

    fn dropped(&self, memories: &[NewMemory]) -> u64 {
        raise_by(&self.core().counters.dropped, memories.len());
        0
    }

    /// Remembers, and returns once it is durable: all of it or nothing.
    pub async fn add(
        &self,
        vault: &VaultRef,
        memories: Vec<NewMemory>,
    ) -> Result<Added, MemoryError> {
        self.take(vault, memories, By::Upload).await
    }

    /// The same for what was said in a turn: what is there already is said again.
    pub async fn add_turn(
        &self,
        vault: &VaultRef,
        memories: Vec<NewMemory>,
    ) -> Result<Added, MemoryError> {
        self.take(vault, memories, By::Turn).await
    }

    async fn take(
        &self,
        vault: &VaultRef,
        mut memories: Vec<NewMemory>,
        by: By,
    ) -> Result<Added, MemoryError> {
        let core = self.core();
        self.check_writable()?;
        let given = memories.len();
        let oldest = loader::oldest_ms(core);
        memories.retain(|memory| memory.at_ms >= oldest);
        let expired = (given - memories.len()) as u64;
        let bytes = text_bytes(&memories);
        if bytes > queue::BYTES_MAX {
            return Err(MemoryError::TooLarge(queue::BYTES_MAX));
        }
        if !core.queue.has_room(bytes) {
            return Err(MemoryError::Full);
        }
        let hot = self.hot(vault).await?;
        let (added, durable) = if bytes <= AT_ONCE_BYTES && memories.len() <= 16 {
            let (done, durable) = oneshot::channel();
            (core.add(&hot, memories, by, Some(done)), durable)
        } else {
            let (reply, told) = oneshot::channel();
            core.jobs.push(Job::Add(hot, memories, by, reply));
            let written = told.await.map_err(|_| MemoryError::Closed)?;
            (written.result, written.durable)
        };
        durable.await.map_err(|_| MemoryError::Closed)??;
        Ok(Added { expired, ..added })
    }

    fn check_writable(&self) -> Result<(), MemoryError> {
        match self.core().counters.state() {
            StoreState::Failed(reason) => Err(MemoryError::Unavailable(reason)),
            StoreState::Closed => Err(MemoryError::Closed),
            StoreState::Opening | StoreState::Open => Ok(()),
        }
    }

    /// Looks through a vault, as a person does.
    pub async fn search(
        &self,
        vault: &VaultRef,
        browse: &Browse<'_>,
    ) -> Result<Vec<Recalled>, MemoryError> {
        let hot = self.hot(vault).await?;
        let vault = hot.read();
        Ok(vault.browse(browse))
    }

    /// What a vault holds, in numbers.
    pub async fn stats(&self, vault: &VaultRef) -> Result<VaultStats, MemoryError> {
        Ok(self.hot(vault).await?.read().stats())
    }

    /// Brings a vault into RAM.
    pub async fn warmup(&self, vault: &VaultRef) -> Result<VaultStats, MemoryError> {
        self.stats(vault).await
    }

    /// Drops the rows of vaults that no key names any more; nobody could read them. Returns how many vaults they were.
    /// Reads the log: not for a worker.
    pub fn forget_vaults(&self, live: &dyn Fn(&str) -> bool) -> Result<usize, MemoryError> {
        let core = self.core();
        let ids = core.log.vaults();
        let ids = ids.map_err(|error| MemoryError::Unavailable(error.reason))?;
        let mut gone: Vec<Arc<str>> = ids.into_iter().map(Arc::from).collect();
        // With those whose first rows are still in the queue.
        gone.extend(core.hot_ids());
        gone.retain(|id| !live(id));
        gone.sort_unstable();
        gone.dedup();
        for id in &gone {
            core.let_go(id, true);
            self.turns().forget(id);
        }
        let forget = |id: &Arc<str>| Op::Forget { tag: seal::tag(id) };
        if !gone.is_empty() {
            core.queue.push(gone.iter().map(forget), None);
            if !self.flush() {
                let reason = "it is not written yet".to_owned();
                return Err(MemoryError::Unavailable(reason));
            }
        }
        Ok(gone.len())
    }

    /// Rewrites the log without what was removed; afterwards no file holds any of it.
    pub async fn compact(&self) -> Result<(), MemoryError> {
        self.check_writable()?;
        let core = self.core();
        let (done, told) = oneshot::channel();
        core.compactions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(done);
        core.queue.nudge();
        told.await.map_err(|_| MemoryError::Closed)?
    }

    /// What was recalled for the turns that run.
    pub fn turns(&self) -> &Turns {
        &self.core().turns
    }

    /// How it is doing.
    pub fn status(&self) -> MemoryStatus {
        let core = self.core();
        let (queued, queued_bytes) = core.queue.depth();
        MemoryStatus {
            hot_vaults: core.hot_vaults(),
            queued,
            queued_bytes,
            ..core.counters.status()
        }
    }

    /// Waits until what was captured is durable, at most ten seconds; false if it is not. Blocks: not for a worker.
    pub fn flush(&self) -> bool {
        let core = self.core();
        core.queue.nudge();
        let started = Instant::now();
        while !core.queue.is_idle() {
            let failing = matches!(core.counters.state(), StoreState::Failed(_));
            if failing || started.elapsed() > CLOSE_PATIENCE {
                return false;
            }
            std::thread::sleep(CLOSE_LOOK);
        }
        true
    }

    /// Lets go of the log, so that another process can have it. From then on that one alone knows what vaults hold:
    /// nothing is recalled or shown here any more, and what is captured is left for it. Blocks: not for a worker.
    pub fn hand_over(&self) {
        self.close_until(|core| core.queue.depth().0 == 0);
    }

    /// The same once nothing is captured any more: makes durable, or leaves, what still is on its way.
    pub fn close(&self) {
        self.close_until(|core| core.queue.is_idle());
    }

    fn close_until(&self, done: impl Fn(&Core) -> bool) {
        let core = self.core();
        core.queue.close();
        let started = Instant::now();
        while core.counters.state() != StoreState::Closed || !done(core) {
            if started.elapsed() > CLOSE_PATIENCE {
                tracing::error!("the memory log did not close in time");
                return;
            }
            core.queue.nudge();
            std::thread::sleep(CLOSE_LOOK);
        }
    }
}

#[cfg(test)]
mod tests;
