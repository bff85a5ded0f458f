//! One vault in RAM: its index, its texts, and who may touch them.
//!
//! Workers search under a read lock and add under a write lock that is held for the additions alone: analysis and
//! encoding are done before. Texts stay in RAM beside the index, counted in the budget, because a read of the file could
//! block a worker. A vault is written only through here, so what the log gets is in the order of what was answered.

mod again;
mod gone;
mod read;
mod vectors;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ahash::RandomState;

pub(super) use gone::Which;

use super::analyse::tokens;
use super::block::line_tokens;
use super::change::Op;
use super::index::{Entry, Index};
use super::row::{self, Row};
use super::seal::Sealer;
use super::texthash::text_hash;
use super::words::{MemoryId, NewMemory, Role};

/// What an allocation costs beside its bytes, and a table per entry beside key and value.
const OVERHEAD: usize = 16;
/// No vault is as large: it counts no more.
const LEFT: usize = usize::MAX;

/// By what a memory comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Somebody says it.
    Turn,
    /// It is put in. What is there already stays as it is.
    Upload,
}

/// A memory with the hash by which its twin is found.
pub(super) struct Hashed {
    memory: NewMemory,
    hash: u64,
    by: By,
}

impl Hashed {
    pub(super) fn text(&self) -> &str {
        &self.memory.text
    }

    /// Bytes of its text.
    pub(super) fn bytes(&self) -> usize {
        self.memory.text.len()
    }

    pub(super) fn new(memory: NewMemory, by: By, hasher: &RandomState) -> Self {
        Self {
            hash: hash(hasher, memory.session.as_deref(), &memory.text),
            memory,
            by,
        }
    }
}

/// A memory ready to be added: analysed and encoded.
pub(super) struct Ready {
    row: Row,
    record: Vec<u8>,
    hash: u64,
    by: By,
}

impl Ready {
    pub(super) fn session(&self) -> Option<&str> {
        self.row.memory.session.as_deref()
    }

    pub(super) fn at_ms(&self) -> i64 {
        self.row.memory.at_ms
    }

    /// How many it brings into the index.
    pub(super) fn terms(&self) -> usize {
        self.row.analysed.terms.len()
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

impl From<Hashed> for Ready {
    fn from(hashed: Hashed) -> Self {
        let row = Row::new(hashed.memory);
        Self {
            record: row.encode(),
            row,
            hash: hashed.hash,
            by: hashed.by,
        }
    }
}

fn hash(hasher: &RandomState, session: Option<&str>, text: &str) -> u64 {
    hasher.hash_one((session, text_hash(hasher, text)))
}

/// A memory as it is kept.
struct Kept {
    seq: u64,
    at_ms: i64,
    tokens: u32,
    role: Role,
    session: Option<Arc<str>>,
    text: Box<str>,
}

/// A vault that is in RAM.
pub(super) struct Hot {
    pub(super) sealer: Arc<Sealer>,
    vault: RwLock<Vault>,
    /// When it was last asked, in milliseconds since the store was opened.
    pub(super) used_ms: AtomicU64,
    /// The ticket of its last change.
    pub(super) ticket: AtomicU64,
    /// RAM that it counts as in the budget.
    counted: AtomicUsize,
}

impl Hot {
    pub(super) fn new(sealer: Arc<Sealer>, vault: Vault) -> Self {
        Self {
            sealer,
            vault: RwLock::new(vault),
            used_ms: AtomicU64::new(0),
            ticket: AtomicU64::new(0),
            counted: AtomicUsize::new(0),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Vault> {
        self.vault.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Vault> {
        self.vault.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts it anew; returns what it was counted as before. None once it has left.
    pub(super) fn count(&self, bytes: usize) -> Option<usize> {
        let still_here = |counted| (counted != LEFT).then_some(bytes);
        let order = Ordering::Relaxed;
        self.counted.fetch_update(order, order, still_here).ok()
    }

    /// It leaves, and counts no more; returns what it was counted as.
    pub(super) fn leave(&self) -> usize {
        self.counted.swap(LEFT, Ordering::Relaxed)
    }
}

/// What a vault holds.
#[derive(Default)]
pub(super) struct Vault {
    index: Index,
    /// In the order of their numbers.
    kept: Vec<Kept>,
    by_text: HashMap<u64, u64>,
    sessions: HashMap<Arc<str>, u32>,
    /// When those were said first that were said again, by their numbers.
    first_said: HashMap<u64, i64>,
    next_seq: u64,
    text_bytes: usize,
    total_tokens: u64,
    /// How often something was removed.
    removals: u64,
    /// How many it held when its RAM was counted, and the bytes of their texts.
    counted_at: (usize, usize),
    /// Before this number, memories have their vectors as far as there are any.
    vectors_from: u64,
    /// They are of another length than those before.
    turned: bool,
}

/// What came of memories that were given.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) ops: Vec<Op>,
    pub(super) ids: Vec<MemoryId>,
    /// The tokens of those.
    pub(super) tokens: u64,
    pub(super) duplicates: u64,
    /// How many the vault has no room for: it holds more than any person says in a life.
    pub(super) full: usize,
}

impl Vault {
    pub(super) fn set_next_seq(&mut self, next_seq: u64) {
        self.next_seq = self.next_seq.max(next_seq);
    }

    pub(super) fn removals(&self) -> u64 {
        self.removals
    }

    /// The hash by which a memory's twin is found.
    pub(super) fn hash_of(&self, seq: u64, hasher: &RandomState) -> Option<u64> {
        let kept = self.get(seq)?;
        Some(hash(hasher, kept.session.as_deref(), &kept.text))
    }

    pub(super) fn holds(&self, seq: u64) -> bool {
        self.get(seq).is_some()
    }

    /// Takes a row that is in the log.
    pub(super) fn restore(&mut self, seq: u64, row: Row, hasher: &RandomState) {
        let hash = hash(hasher, row.memory.session.as_deref(), &row.memory.text);
        self.put(seq, row, hash);
        self.next_seq = self.next_seq.max(seq.saturating_add(1));
    }

    /// False if there is no room.
    fn put(&mut self, seq: u64, row: Row, hash: u64) -> bool {
        let Row {
            memory,
            analysed,
            first_ms,
        } = row;
        let tokens = tokens(&memory.text);
        let entry = Entry {
            seq,
            at_ms: first_ms,
            session: memory.session.as_deref(),
            tokens: line_tokens(&memory.role, &memory.text),
            analysed: &analysed,
        };
        if !self.index.add(&entry) {
            return false;
        }
        if first_ms != memory.at_ms {
            self.index.set_time(seq, memory.at_ms);
            self.first_said.insert(seq, first_ms);
        }
        let session = memory.session.map(|session| {
            let known = self.sessions.get_key_value(session.as_str());
            let shared = known.map_or_else(|| Arc::from(session), |(known, _)| known.clone());
            *self.sessions.entry(Arc::clone(&shared)).or_default() += 1;
            shared
        });
        self.text_bytes += memory.text.len();
        self.total_tokens += u64::from(tokens);
        self.by_text.insert(hash, seq);
        self.kept.push(Kept {
            seq,
            at_ms: memory.at_ms,
            tokens,
            role: memory.role,
            session,
            text: memory.text.into(),
        });
        true
    }

    fn twin(&self, memory: &NewMemory, hash: u64) -> Option<&Kept> {
        let twin = self.by_text.get(&hash).and_then(|seq| self.get(*seq))?;
        let same =
            *twin.text == *memory.text && twin.session.as_deref() == memory.session.as_deref();
        same.then_some(twin)
    }

    /// Leaves out those that are there already and not said again.
    pub(super) fn without_twins(&self, mut memories: Vec<Hashed>) -> Vec<Hashed> {
        memories.retain(|new| {
            let twin = self.twin(&new.memory, new.hash);
            twin.is_none_or(|twin| twin.is_said_again_by(&new.memory, new.by))
        });
        memories
    }

    /// Adds what is not there yet, and says again what is; the changes are for the log.
    pub(super) fn add(
        &mut self,
        sealer: &Arc<Sealer>,
        ready: impl IntoIterator<Item = Ready>,
    ) -> Applied {
        let mut applied = Applied::default();
        for new in ready {
            let (row, record, hash) = (new.row, new.record, new.hash);
            if let Some(twin) = self.twin(&row.memory, hash) {
                applied.duplicates += 1;
                let seq = twin.seq;
                applied.ops.extend(self.say_again(sealer, seq, row, new.by));
                continue;
            }
            let (seq, day) = (self.next_seq, row::day(row.memory.at_ms));
            let tokens_before = self.total_tokens;
            if !self.put(seq, row, hash) {
                applied.full += 1;
                continue;
            }
            self.next_seq += 1;
            applied.ids.push(MemoryId(seq));
            applied.tokens += self.total_tokens - tokens_before;
            applied.ops.push(Op::Put {
                sealer: sealer.clone(),
                seq,
                day,
                record,
                new: true,
            });
        }
        applied
    }

    fn get(&self, seq: u64) -> Option<&Kept> {
        let place = self.kept.binary_search_by_key(&seq, |kept| kept.seq).ok()?;
        self.kept.get(place)
    }

    /// After a cold load: gives back what growing took too much of.
    pub(super) fn settle(&mut self) {
        self.index.shrink();
        self.kept.shrink_to_fit();
        self.by_text.shrink_to_fit();
    }

    /// RAM that it takes, about, if it has grown or shrunk by enough for a new count.
    pub(super) fn recounted(&mut self) -> Option<usize> {
        // A large vault takes long to count, and is not much larger for one memory more, if that is not a large one.
        let near = |now: usize, then: usize| now.abs_diff(then) <= then / 16;
        let (count, bytes) = self.counted_at;
        if near(self.kept.len(), count) && near(self.text_bytes, bytes) {
            return None;
        }
        self.counted_at = (self.kept.len(), self.text_bytes);
        Some(self.ram_bytes())
    }

    /// RAM that it takes, about.
    pub(super) fn ram_bytes(&self) -> usize {
        size_of::<Hot>()
            + size_of::<Sealer>()
            + self.index.bytes()
            + self.text_bytes
            + self.kept.len() * OVERHEAD
            + self.kept.capacity() * size_of::<Kept>()
            + (self.by_text.capacity() + self.first_said.capacity()) * (2 * size_of::<u64>() + 1)
            + self.sessions.capacity() * (2 * size_of::<u64>() + 4 + 2 * OVERHEAD)
    }
}
