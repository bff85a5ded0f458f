//! What was recalled for the turns that run now, so that an agent's loop gets the same block again, byte for byte.
//!
//! While an agent works on one user message it sends that message again and again with more behind it. What its own
//! steps left in the vault must not change what was put into the message, or the provider's prompt cache would miss.
//! Shared by all cores, bounded in number, bytes and age. Forgetting a vault's memories forgets what its turns got, and
//! not whose words have been stored: a turn that goes on says them no second time.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahash::RandomState;

use super::analyse::tokens;
use super::{MemoryId, Recalled, Window, block};

const SHARDS: usize = 16;
/// With an ordinary block of 4 KiB, some 4,000 turns at once.
const BYTES_PER_SHARD: usize = 1024 * 1024;
/// A turn without a block costs little, and not nothing.
const BYTES_PER_TURN: usize = 256;
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
        }
    }

    /// Whether the user's text is still to be stored; true once.
    pub fn first_time(&self) -> bool {
        !self.remembered.swap(true, Ordering::Relaxed)
    }

    /// Nothing of it but whether the user's text is still to be stored.
    fn emptied(&self) -> Self {
        Self {
            remembered: self.remembered.clone(),
            ..Self::default()
        }
    }

    fn bytes(&self) -> usize {
        BYTES_PER_TURN + self.block.as_ref().map_or(0, String::len) + self.memories.len() * 24
    }
}

/// Names a turn. Vault and session are compared whole: nothing but a turn of the same vault is ever found.
#[derive(Clone, Debug)]
pub struct TurnKey {
    vault: String,
    session: Option<String>,
    text: u64,
    index: u32,
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

struct Entry {
    recollection: Arc<Recollection>,
    used: Instant,
    /// It is to be recalled anew.
    forgotten: bool,
}

#[derive(Default)]
struct Shard {
    turns: HashMap<TurnKey, Entry>,
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
    /// Names the turn of a user's text at this place of a conversation.
    pub fn key(&self, vault: &str, session: Option<&str>, text: &str, index: u32) -> TurnKey {
        TurnKey {
            vault: vault.to_owned(),
            session: session.map(str::to_owned),
            text: self.hasher.hash_one(text),
            index,
            forgotten: self.forgotten(vault).load(Ordering::Relaxed),
        }
    }

    /// What was recalled for it.
    pub fn get(&self, key: &TurnKey, now: Instant) -> Option<Arc<Recollection>> {
        let mut shard = self.shard(key);
        let entry = shard.turns.get_mut(key)?;
        if entry.forgotten || now.saturating_duration_since(entry.used) > AGE_MAX {
            return None;
        }
        entry.used = now;
        Some(entry.recollection.clone())
    }

    /// Keeps what was recalled for it, in the place of what was before. A turn that `loops` has begun before.
    pub fn put(
        &self,
        key: TurnKey,
        mut recollection: Recollection,
        loops: bool,
        now: Instant,
    ) -> Arc<Recollection> {
        let mut shard = self.shard(&key);
        if loops && let Some(before) = shard.turns.get(&key) {
            recollection.remembered = before.recollection.remembered.clone();
        }
        let recollection = Arc::new(recollection);
        // Asked under the shard's lock, which `forget` takes once it has counted.
        let forgotten = self.forgotten(&key.vault).load(Ordering::Relaxed) != key.forgotten;
        let kept = match forgotten {
            true => Arc::new(recollection.emptied()),
            false => recollection.clone(),
        };
        shard.bytes += kept.bytes();
        let entry = Entry {
            recollection: kept,
            used: now,
            forgotten,
        };
        if let Some(before) = shard.turns.insert(key, entry) {
            shard.bytes -= before.recollection.bytes();
        }
        if shard.bytes > BYTES_PER_SHARD {
            shard.drop_older_half();
        }
        recollection
    }

    /// Nothing of what was recalled from this vault is used again.
    pub fn forget(&self, vault: &str) {
        self.forgotten(vault).fetch_add(1, Ordering::Relaxed);
        for shard in &self.shards {
            lock(shard).forget(vault);
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
    fn forget(&mut self, vault: &str) {
        for (_, entry) in self.turns.iter_mut().filter(|(key, _)| key.vault == vault) {
            let emptied = entry.recollection.emptied();
            self.bytes -= entry.recollection.bytes() - emptied.bytes();
            entry.recollection = Arc::new(emptied);
            entry.forgotten = true;
        }
    }

    fn retain(&mut self, keep: impl Fn(&TurnKey, &Entry) -> bool) {
        self.turns.retain(|key, entry| keep(key, entry));
        self.bytes = self
            .turns
            .values()
            .map(|entry| entry.recollection.bytes())
            .sum();
    }

    fn drop_older_half(&mut self) {
        let mut used: Vec<Instant> = self.turns.values().map(|entry| entry.used).collect();
        let middle = used.len() / 2;
        let (_, median, _) = used.select_nth_unstable(middle);
        let median = *median;
        self.retain(|_, entry| entry.used > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Role;

    fn recollection(text: &str) -> Recollection {
        Recollection::of(&[Recalled {
            id: MemoryId(7),
            text: text.into(),
            role: Role::User,
            at_ms: 0,
            session: None,
            score: 1.0,
            window: Window::Hot,
            tokens: 3,
        }])
    }

    #[test]
    fn a_turn_is_found_by_all_that_names_it() {
        let turns = Turns::default();
        let now = Instant::now();
        let key = turns.key("v", Some("s"), "hello", 3);
        turns.put(key.clone(), recollection("fact"), false, now);
        let found = turns.get(&key, now).unwrap();
        assert!(found.block.as_deref().unwrap().contains("fact"));
        let block = found.block.as_deref().unwrap();
        assert_eq!((found.tokens, found.memories.len()), (tokens(block), 1));
        assert!(found.first_time() && !found.first_time());
        for other in [
            turns.key("w", Some("s"), "hello", 3),
            turns.key("v", None, "hello", 3),
            turns.key("v", Some("s"), "hello!", 3),
            turns.key("v", Some("s"), "hello", 5),
        ] {
            assert!(turns.get(&other, now).is_none(), "{other:?}");
        }
    }

    #[test]
    fn turns_end_by_age_and_with_their_vault() {
        let turns = Turns::default();
        let now = Instant::now();
        let (mine, other) = (turns.key("v", None, "a", 0), turns.key("w", None, "a", 0));
        for key in [&mine, &other] {
            turns.put(key.clone(), recollection("fact"), false, now);
        }
        assert!(turns.get(&mine, now + AGE_MAX).is_some());
        assert!(turns.get(&mine, now + 3 * AGE_MAX).is_none());
        turns.put(mine.clone(), recollection("fact"), false, now);
        turns.forget("v");
        assert!(turns.get(&mine, now).is_none());
        // What was asked for before that, and came back after it, is not kept.
        turns.put(mine.clone(), recollection("fact"), false, now);
        assert!(turns.get(&mine, now).is_none());
        let again = turns.key("v", None, "a", 0);
        turns.put(again.clone(), recollection("fact"), false, now);
        assert!(turns.get(&mine, now).is_some());
        assert!(turns.get(&other, now).is_some());
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let turns = Turns::default();
        let start = Instant::now();
        let text = "x".repeat(10_000);
        let key = |n: u32| turns.key("v", None, "a", n);
        for n in 0..4000 {
            let now = start + Duration::from_millis(u64::from(n));
            turns.put(key(n), recollection(&text), false, now);
            assert!(turns.get(&key(n), now).is_some());
        }
        assert!(turns.get(&key(0), start).is_none());
        let bytes: usize = turns.shards.iter().map(|s| s.lock().unwrap().bytes).sum();
        assert!(bytes <= SHARDS * BYTES_PER_SHARD, "{bytes}");
    }

    #[test]
    fn a_busy_vault_has_room_for_as_many_turns_as_all_together() {
        let turns = Turns::default();
        let start = Instant::now();
        let text = "x".repeat(4_000);
        let key = |n: u32| turns.key("v", None, &n.to_string(), 0);
        for n in 0..2000 {
            let now = start + Duration::from_millis(u64::from(n));
            turns.put(key(n), recollection(&text), false, now);
        }
        assert!((0..2000).all(|n| turns.get(&key(n), start).is_some()));
    }

    #[test]
    fn a_turn_that_goes_on_says_nothing_a_second_time() {
        let turns = Turns::default();
        let now = Instant::now();
        let key = || turns.key("v", None, "a", 0);
        let first = turns.put(key(), recollection("fact"), false, now);
        turns.forget("v");
        // The first step's answer is over behind the deletion.
        assert!(first.first_time());
        let next = turns.put(key(), recollection("other"), true, now);
        assert!(next.block.is_some() && !next.first_time());
        let known = turns.get(&key(), now).unwrap();
        assert!(known.block.is_some() && !known.first_time());
        // Also where the deletion came while it was recalled.
        let before = key();
        turns.forget("v");
        let straddling = turns.put(before, recollection("fact"), true, now);
        assert!(straddling.block.is_some() && turns.get(&key(), now).is_none());
        assert!(
            !turns
                .put(key(), recollection("fact"), true, now)
                .first_time()
        );
        // Somebody begins with these words anew.
        assert!(
            turns
                .put(key(), recollection("fact"), false, now)
                .first_time()
        );
    }
}
