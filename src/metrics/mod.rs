//! What is counted while the router runs: one set of counters per core, written by that core alone and read by whoever
//! shows them.
//!
//! `worker` holds a core's set, `exchange` and `server` count into it, `admin` reads all of them together. Counting an
//! exchange takes one lock that nobody else wants (a reader comes once in a while), no allocation once its labels are
//! known, and no system call. How many labels there can be is bounded here, whatever callers send.

mod recent;
mod tally;
mod timing;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::record::Record;

pub use recent::Recent;
pub use tally::{Answered, ByProvider, Sides, Tally};
pub use timing::Timing;

/// Every core's counters.
#[derive(Default)]
pub struct Metrics {
    cores: Mutex<Vec<Arc<CoreMetrics>>>,
}

/// One core's counters.
#[derive(Default)]
pub struct CoreMetrics {
    /// Callers accepted.
    pub accepted: AtomicU64,
    /// Accepts that failed.
    pub accept_failures: AtomicU64,
    /// Callers connected now.
    pub connections: AtomicUsize,
    /// Requests that are with a provider now.
    pub in_flight: AtomicUsize,
    /// Event streams that are being relayed now.
    pub streams: AtomicUsize,
    /// Requests sent over a connection that was open already.
    pub pool_hits: AtomicU64,
    /// Requests that had to dial.
    pub pool_misses: AtomicU64,
    /// Dials that came to nothing.
    pub dial_failures: AtomicU64,
    /// Connections to providers that wait for a request now.
    pub idle_upstream: AtomicUsize,
    /// Requests sent once more because an old connection had died.
    pub retries: AtomicU64,
    /// Requests that went on with another key or provider.
    pub fallbacks: AtomicU64,
    exchanges: Mutex<Exchanges>,
}

/// What is known of exchanges that are over.
#[derive(Default)]
struct Exchanges {
    tally: Tally,
    recent: recent::Ring,
}

impl Metrics {
    /// A set for one more core.
    pub fn core(&self) -> Arc<CoreMetrics> {
        let core = Arc::<CoreMetrics>::default();
        lock(&self.cores).push(core.clone());
        core
    }

    /// The sets of all cores, in the order in which they were made.
    pub fn cores(&self) -> Vec<Arc<CoreMetrics>> {
        lock(&self.cores).clone()
    }

    /// All cores' exchanges together.
    pub fn tally(&self) -> Tally {
        let mut all = Tally::default();
        for core in self.cores() {
            all.add(&lock(&core.exchanges).tally);
        }
        all
    }

    /// The last exchanges of all cores, newest first.
    pub fn recent(&self, count: usize) -> Vec<Recent> {
        let mut all = Vec::new();
        for (index, core) in self.cores().iter().enumerate() {
            lock(&core.exchanges).recent.copy(index, &mut all);
        }
        all.sort_by_key(|recent| std::cmp::Reverse(recent.at_ms));
        all.truncate(count);
        all
    }
}

impl CoreMetrics {
    /// Counts an exchange that was over at `at_ms` since 1970. `by_key` counts it for its key too.
    pub fn finished(&self, record: Record, by_key: bool, at_ms: i64) {
        let mut exchanges = lock(&self.exchanges);
        exchanges.tally.count(&record, record.total(), by_key);
        exchanges.recent.push(record, at_ms);
    }

    /// Exchanges that are over.
    pub fn requests(&self) -> u64 {
        lock(&self.exchanges).tally.requests()
    }

    /// Exchanges that are over, and those of them that failed.
    pub fn requests_and_failures(&self) -> (u64, u64) {
        let exchanges = lock(&self.exchanges);
        (
            exchanges.tally.requests(),
            exchanges.tally.sides().failures(),
        )
    }
}

/// Counts something for as long as it lives.
pub struct Live<'a>(&'a AtomicUsize);

impl<'a> Live<'a> {
    /// One more.
    pub fn new(gauge: &'a AtomicUsize) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds one.
pub fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A panic while counting leaves counts, not rubbish.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
