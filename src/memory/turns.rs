//! What was recalled for the turns that run now, so that an agent's loop gets the same block again, byte for byte.
//!
//! While an agent works on one user message it sends that message again and again with more behind it. What its own
//! steps left in the vault must not change what was put into the message, or the provider's prompt cache would miss.
//! Several agents may begin with the same words, each at its own time: those runs of a turn are told apart by what the
//! model did first. A run's first step is known by the call that the answer held, else it is taken for that of the
//! newest run that has made none. Shared by all cores, bounded in number, bytes and age: where room is short, what runs
//! outlives what is over, and a vault with little outlives what another has too much of. Forgetting a vault's memories
//! forgets what its turns got, and not whose words have been stored: a turn that goes on says them no second time.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ahash::RandomState;

use super::analyse::tokens;
use super::texthash::text_hash;
use super::{MemoryId, Recalled, Window, block};

const SHARDS: usize = 16;
/// With an ordinary block of 4 KiB, some 4,000 turns at once.
const BYTES_PER_SHARD: usize = 1024 * 1024;
/// A run without a block costs little, and not nothing.
const BYTES_PER_RUN: usize = 256;
/// Providers' ids have some 30; what is longer is not kept.
const CALL_BYTES_MAX: usize = 128;
/// Of one turn; with ordinary blocks as many as a shard has room for. Beyond, the one that was idle for longest is
/// dropped.
const RUNS_PER_TURN: usize = 256;
/// A tool may work for long before its result comes back.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// Vaults share these, so that deletions in one hardly ever touch the turns of another.
const COUNTERS: usize = 256;

/// What was recalled for one turn.
#[derive(Debug, Default)]
pub struct Recollection {
    /// The block; none if nothing helped.
    pub block: Option<String>,
    /// What is in it, without the texts.
    pub memories: Vec<(MemoryId, Window, f32)>,
    /// Its tokens.
    pub tokens: u32,
    remembered: Arc<AtomicBool>,
    /// What the answer to it called first.
    call: OnceLock<Box<str>>,
    /// Its newest answer was whole and called nothing: hardly anybody goes on with it.
    is_over: AtomicBool,
}

impl Recollection {
    /// Renders what was recalled.
    pub fn of(memories: &[Recalled]) -> Self {
        let block = block::render(memories);
        Self {
            tokens: block.as_deref().map_or(0, tokens),
            block,
            memories: memories
                .iter()
                .map(|memory| (memory.id, memory.window, memory.score))
                .collect(),
            remembered: Arc::default(),
            call: OnceLock::new(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Whether the user's text is still to be stored; true once.
    pub fn first_time(&self) -> bool {
        !self.remembered.swap(true, Ordering::Relaxed)
    }

    /// The answer calls a tool: the result comes back under this id.
    pub fn called(&self, id: &str) {
        if (1..=CALL_BYTES_MAX).contains(&id.len()) {
            // Only of the first answer: what called it is known by then.
            let _ = self.call.set(id.into());
        }
    }

    /// The caller has the whole answer, and it calls nothing.
    pub fn over(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Nothing of it but whose it is, and whether the user's text is still to be stored.
    fn emptied(&self) -> Self {
        Self {
            remembered: self.remembered.clone(),
            call: self.call.clone(),
            ..Self::default()
        }
    }

    fn bytes(&self) -> usize {
        BYTES_PER_RUN + self.block.as_ref().map_or(0, String::len) + self.memories.len() * 24
    }
}

/// What the model did first in a turn that goes on.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// The id of its call; empty if it has none.
    pub call: &'a str,
}

/// Names a turn. Vault and session are compared whole: nothing but a turn of the same vault is ever found.
#[derive(Clone, Debug)]
pub struct TurnKey {
    vault: String,
    session: Option<String>,
    text: u64,
    index: u32,
    /// What the model did first, in a turn that goes on: it tells the runs of one turn apart.
    step: Option<u64>,
    call: String,
    /// How often something was forgotten when the turn was named: what is recalled before is not kept after.
    forgotten: u64,
}

impl PartialEq for TurnKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.vault, &self.session, self.text, self.index)
            == (&other.vault, &other.session, other.text, other.index)
    }
}

impl Eq for TurnKey {}

impl Hash for TurnKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.vault, &self.session, self.text, self.index).hash(state);
    }
}

/// One run of a turn.
#[derive(Clone)]
struct Run {
    recollection: Arc<Recollection>,
    used: Instant,
    /// What the model did first; none before that is known.
    step: Option<u64>,
    /// It is to be recalled anew.
    forgotten: bool,
    /// It makes room.
    leaves: bool,
}

#[derive(Default)]
struct Shard {
    /// Of each turn its runs, the newest last.
    turns: HashMap<TurnKey, Vec<Run>>,
    bytes: usize,
}

/// The turns.
pub struct Turns {
    shards: [Mutex<Shard>; SHARDS],
    /// How often something was forgotten.
    forgotten: [AtomicU64; COUNTERS],
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            forgotten: std::array::from_fn(|_| AtomicU64::default()),
            hasher: RandomState::new(),
        }
    }
}

impl Turns {
    /// Names the turn of a user's text at this place of a conversation; with `step`, what the model did first, one that
    /// goes on.
    pub fn key(
        &self,
        vault: &str,
        session: Option<&str>,
        text: &str,
        index: u32,
        step: Option<Step<'_>>,
    ) -> TurnKey {
        TurnKey {
            vault: vault.to_owned(),
            session: session.map(str::to_owned),
            text: text_hash(&self.hasher, text),
            index,
            step: step.map(|step| self.hasher.hash_one(step.bytes)),
            // The caller's word, and kept with the turn: one that is longer than any that is known fits none.
            call: step
                .map(|step| step.call)
                .filter(|call| call.len() <= CALL_BYTES_MAX)
                .unwrap_or_default()
                .to_owned(),
            forgotten: self.forgotten(vault).load(Ordering::Relaxed),
        }
    }

    /// What was recalled for it when it began. One that begins now is recalled anew.
    pub fn get(&self, key: &TurnKey, now: Instant) -> Option<Arc<Recollection>> {
        let mut shard = self.shard(key);
        let run = shard.run(key)?;
        if run.forgotten || now.saturating_duration_since(run.used) > AGE_MAX {
            return None;
        }
        run.used = now;
        run.recollection.is_over.store(false, Ordering::Relaxed);
        Some(run.recollection.clone())
    }

    /// Keeps what was recalled for it; of one that goes on, in the place of what was before.
    pub fn put(
        &self,
        key: TurnKey,
        mut recollection: Recollection,
        now: Instant,
    ) -> Arc<Recollection> {
        let mut shard = self.shard(&key);
        if let Some(before) = shard.run(&key) {
            recollection.remembered = before.recollection.remembered.clone();
        }
        if key.step.is_some() {
            // What its own answer calls for is no first step.
            recollection.called(&key.call);
        }
        let recollection = Arc::new(recollection);
        // Asked under the shard's lock, which `forget` takes once it has counted.
        let forgotten = self.forgotten(&key.vault).load(Ordering::Relaxed) != key.forgotten;
        let kept = match forgotten {
            true => Arc::new(recollection.emptied()),
            false => recollection.clone(),
        };
        let run = Run {
            recollection: kept,
            used: now,
            step: key.step,
            forgotten,
            leaves: false,
        };
        shard.put(key, run);
        if shard.bytes > BYTES_PER_SHARD {
            shard.make_room();
        }
        recollection
    }

    /// Nothing of what was recalled from this vault is used again.
    pub fn forget(&self, vault: &str) {
        self.forget_where(vault, &|_| true);
    }

    /// The same for what holds one memory of it.
    pub fn forget_one(&self, vault: &str, id: MemoryId) {
        self.forget_where(vault, &|recollection| {
            recollection.memories.iter().any(|(its, ..)| *its == id)
        });
    }

    fn forget_where(&self, vault: &str, goes: &dyn Fn(&Recollection) -> bool) {
        self.forgotten(vault).fetch_add(1, Ordering::Relaxed);
        for shard in &self.shards {
            lock(shard).forget(vault, goes);
        }
    }

    fn forgotten(&self, vault: &str) -> &AtomicU64 {
        &self.forgotten[self.hasher.hash_one(vault) as usize % COUNTERS]
    }

    /// By the turn and not by its vault: one that is busy has room for as many turns as all together.
    fn shard(&self, key: &TurnKey) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.hasher.hash_one(key) as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Whatever happened to the one who held it: each change is whole.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    /// The run that a turn goes on with: the one whose answer called for what came back, and among these the one whose
    /// first step it was; else the one with that step; else the newest that has made none, or of all, but never one whose
    /// answer called for something else. A caller may rewrite what stands behind its message: it goes on with the newest
    /// of all, which stays what it is for others.
    fn run(&mut self, key: &TurnKey) -> Option<&mut Run> {
        let step = Some(key.step?);
        let runs = self.turns.get_mut(key)?;
        let call = |run: &Run| run.recollection.call.get().is_some();
        let calls = |run: &Run| {
            run.recollection
                .call
                .get()
                .is_some_and(|call| **call == key.call)
        };
        let may = |run: &Run| key.call.is_empty() || !call(run) || calls(run);
        let newest = |fits: &dyn Fn(&Run) -> bool| runs.iter().rposition(fits);
        let at = newest(&|run| calls(run) && run.step == step)
            .or_else(|| newest(&|run| calls(run) && run.step.is_none()))
            .or_else(|| newest(&|run| may(run) && run.step == step))
            .or_else(|| newest(&|run| !call(run) && run.step.is_none()))
            .or_else(|| newest(&|run| may(run) && run.step.is_none()));
        if at.is_none() {
            let run = runs.get(newest(&may)?)?.clone();
            self.put(key.clone(), Run { step, ..run });
        }
        let runs = self.turns.get_mut(key)?;
        let run = match at {
            Some(at) => runs.get_mut(at)?,
            None => runs.last_mut()?,
        };
        run.step = step;
        Some(run)
    }

    /// Keeps a run, in the place of the one with the same first step.
    fn put(&mut self, key: TurnKey, run: Run) {
        self.bytes += run.recollection.bytes();
        let runs = self.turns.entry(key).or_default();
        let call = |run: &Run| run.recollection.call.get().cloned();
        let same = |before: &Run| {
            run.step.is_some() && before.step == run.step && call(before) == call(&run)
        };
        let gone = match runs.iter().position(same) {
            None if runs.len() < RUNS_PER_TURN => None,
            None => {
                let oldest = runs.iter().enumerate().min_by_key(|(_, run)| run.used);
                oldest.map(|(at, _)| at)
            }
            same => same,
        };
        if let Some(at) = gone {
            self.bytes -= runs.remove(at).recollection.bytes();
        }
        runs.push(run);
    }

    fn forget(&mut self, vault: &str, goes: &dyn Fn(&Recollection) -> bool) {
        let turns = self.turns.iter_mut().filter(|(key, _)| key.vault == vault);
        let runs = turns.flat_map(|(_, runs)| runs);
        for run in runs.filter(|run| goes(&run.recollection)) {
            let emptied = run.recollection.emptied();
            self.bytes -= run.recollection.bytes() - emptied.bytes();
            run.recollection = Arc::new(emptied);
            run.forgotten = true;
        }
    }

    /// Drops a fourth: first what is over, then of what runs that of which its own vault has most that is newer, then what
    /// was idle for longest. So one vault has all of the room only for as long as no other wants any.
    fn make_room(&mut self) {
        let all = self.turns.iter_mut();
        let mut all: Vec<(&str, bool, usize, &mut Run)> = all
            .flat_map(|(key, runs)| runs.iter_mut().map(|run| (&*key.vault, run)))
            .map(|(vault, run)| {
                let is_over = run.recollection.is_over.load(Ordering::Relaxed);
                (vault, is_over, 0, run)
            })
            .collect();
        all.sort_unstable_by_key(|(.., run)| Reverse(run.used));
        let mut newer: HashMap<(&str, bool), usize> = HashMap::new();
        for (vault, is_over, before, run) in &mut all {
            let bytes = newer.entry((*vault, *is_over)).or_default();
            *before = *bytes;
            *bytes += run.recollection.bytes();
        }
        all.sort_unstable_by_key(|(_, is_over, newer, run)| (!is_over, Reverse(*newer), run.used));
        for (.., run) in all {
            if self.bytes <= BYTES_PER_SHARD / 4 * 3 {
                break;
            }
            self.bytes -= run.recollection.bytes();
            run.leaves = true;
        }
        self.turns.retain(|_, runs| {
            runs.retain(|run| !run.leaves);
            !runs.is_empty()
        });
    }
}

#[cfg(test)]
mod tests;
