//! How memory is doing: counters that workers raise without waiting, and a state that threads set.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets that times fall into, in microseconds; a last bucket takes the rest.
pub const BOUNDS_MICROS: [u64; 14] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000,
];

/// Whether the store can be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreState {
    /// It is being opened.
    #[default]
    Opening,
    /// It can.
    Open,
    /// It cannot, for this reason; tried again every second.
    Failed(String),
    /// Another process has it now, or nobody.
    Closed,
}

/// Times by bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How many fell into each bucket of [`BOUNDS_MICROS`], the last one without a bound.
    pub counts: [u64; BOUNDS_MICROS.len() + 1],
    /// All of them together.
    pub sum_micros: u64,
}

/// A look at the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStatus {
    /// Whether it can be written.
    pub state: StoreState,
    /// Vaults in RAM.
    pub hot_vaults: usize,
    /// What they take, about.
    pub hot_bytes: usize,
    /// Changes that are not durable yet.
    pub queued: usize,
    /// What they take.
    pub queued_bytes: usize,
    /// Memories that were not taken, because the queue was full or the store closed.
    pub dropped: u64,
    /// Memories made durable.
    pub stored: u64,
    /// Memories that were there already.
    pub duplicates: u64,
    /// Rows that could not be read.
    pub damaged: u64,
    /// Recalls, in all.
    pub recalls: u64,
    /// Memories that they gave back.
    pub recalled: u64,
    /// Recalls by words alone, because the embedder gave no vector in time.
    pub without_vector: u64,
    /// Recalls and writes that found their vault in RAM.
    pub hits: u64,
    /// Vaults read from the file.
    pub loads: u64,
    /// Vaults that left RAM for others.
    pub evictions: u64,
    /// Failed writes.
    pub failures: u64,
    /// Rewrites of the file that leave out what was removed.
    pub compactions: u64,
    /// Searches in hot vaults.
    pub recall_times: Times,
    /// Cold loads.
    pub load_times: Times,
    /// Commits.
    pub commit_times: Times,
}

/// Counts times; any thread may.
#[derive(Default)]
pub(super) struct Clocked {
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Clocked {
    pub(super) fn note(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn times(&self) -> Times {
        let mut times = Times {
            sum_micros: self.sum_micros.load(Ordering::Relaxed),
            ..Times::default()
        };
        for (to, from) in times.counts.iter_mut().zip(&self.counts) {
            *to = from.load(Ordering::Relaxed);
        }
        times
    }
}

/// What all threads count into.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) hot_bytes: AtomicUsize,
    pub(super) dropped: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) damaged: AtomicU64,
    pub(super) recalls: AtomicU64,
    pub(super) recalled: AtomicU64,
    pub(super) without_vector: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) loads: AtomicU64,
    pub(super) evictions: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) recall_times: Clocked,
    pub(super) load_times: Clocked,
    pub(super) commit_times: Clocked,
    state: Mutex<StoreState>,
}

impl Counters {
    pub(super) fn state(&self) -> StoreState {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    /// Returns what it was.
    pub(super) fn set_state(&self, to: StoreState) -> StoreState {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *state, to)
    }

    /// All but what the queue and the vaults know.
    pub(super) fn status(&self) -> MemoryStatus {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MemoryStatus {
            state: self.state(),
            hot_vaults: 0,
            hot_bytes: self.hot_bytes.load(Ordering::Relaxed),
            queued: 0,
            queued_bytes: 0,
            dropped: get(&self.dropped),
            stored: get(&self.stored),
            duplicates: get(&self.duplicates),
            damaged: get(&self.damaged),
            recalls: get(&self.recalls),
            recalled: get(&self.recalled),
            without_vector: get(&self.without_vector),
            hits: get(&self.hits),
            loads: get(&self.loads),
            evictions: get(&self.evictions),
            failures: get(&self.failures),
            compactions: get(&self.compactions),
            recall_times: self.recall_times.times(),
            load_times: self.load_times.times(),
            commit_times: self.commit_times.times(),
        }
    }
}

/// Adds one.
pub(super) fn raise(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds some.
pub(super) fn raise_by(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let clocked = Clocked::default();
        for micros in [0, 5, 6, 1_000_000, 1_000_001] {
            clocked.note(Duration::from_micros(micros));
        }
        let times = clocked.times();
        assert_eq!(times.counts[..2], [2, 1]);
        assert_eq!(times.counts[13..], [1, 1]);
        assert_eq!(times.sum_micros, 2_000_012);
    }
}
