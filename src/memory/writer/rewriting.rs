//! When the file is rewritten, and what comes of it: where much was removed, where somebody asked, and where a part of it
//! cannot be read.

use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Writer;
use crate::memory::MemoryError;
use crate::memory::compact::{self, Compaction, Lost};
use crate::memory::log::LogError;
use crate::memory::queue::Done;
use crate::memory::status::{raise, raise_by};

/// How long a compaction may go on without a look at the queue.
const COMPACT_AT_ONCE: Duration = Duration::from_millis(50);

impl<'c> Writer<'c> {
    /// Goes on with rewriting the file, or begins if it is time.
    pub(super) fn compact(&mut self) {
        let core = self.core;
        if !core.log.is_open() {
            return;
        }
        if self.compaction.is_some() || self.compaction_due() {
            self.go_on(COMPACT_AT_ONCE);
        }
    }

    /// Rewrites the file at once, as a whole; false if that cannot be.
    pub(super) fn rewrite(&mut self) -> bool {
        let before = self.core.counters.compactions.load(Ordering::Relaxed);
        self.go_on(Duration::MAX);
        self.core.counters.compactions.load(Ordering::Relaxed) > before
    }

    fn go_on(&mut self, at_once: Duration) {
        let core = self.core;
        if self.compaction.is_none() {
            self.awaited.append(&mut self.asked);
            core.is_damaged.store(false, Ordering::Relaxed);
            match Compaction::start(&core.log) {
                Ok(compaction) => self.compaction = Some(compaction),
                Err(error) => return self.give_up_compaction(&error),
            }
        }
        let started = Instant::now();
        while let Some(compaction) = &mut self.compaction {
            match compaction.step(&core.log) {
                Err(error) => return self.give_up_compaction(&error),
                Ok(true) if started.elapsed() >= at_once => return,
                Ok(true) => {}
                Ok(false) => break,
            }
        }
        if let Some(compaction) = self.compaction.take() {
            match compaction.finish(&core.log) {
                Ok(lost) => self.compacted(&lost),
                Err(error) => self.give_up_compaction(&error),
            }
        }
    }

    pub(super) fn compaction_due(&self) -> bool {
        let size = fs::metadata(self.core.log.path()).map_or(0, |metadata| metadata.len());
        let since = self.compacted_at.elapsed();
        let wanted = !self.asked.is_empty() || self.is_damaged(since);
        wanted || compact::is_due(self.removed_bytes, size, since, self.gave_up)
    }

    /// Whether a vault waits for a file without a page that cannot be read. What was given up is not tried at once again.
    fn is_damaged(&self, since: Duration) -> bool {
        let is_new = !self.gave_up || since >= compact::AFTER;
        is_new && self.core.is_damaged.load(Ordering::Relaxed)
    }

    pub(super) fn waiting_for_compaction(&self) -> MutexGuard<'c, Vec<Done>> {
        let waiting = self.core.compactions.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }

    fn compacted(&mut self, lost: &[Lost]) {
        for Lost { vault, rows } in lost {
            raise_by(&self.core.counters.damaged, *rows as usize);
            let vault = vault.as_deref().unwrap_or("unknown");
            tracing::error!(%vault, rows, "memories are lost: they stood in a damaged part of the file");
        }
        self.file = self.file_now();
        (self.compacted_at, self.gave_up) = (Instant::now(), false);
        self.removed_bytes = self.core.log.removed_bytes().unwrap_or_default();
        raise(&self.core.counters.compactions);
        for done in self.awaited.drain(..) {
            let _ = done.send(Ok(()));
        }
    }

    pub(super) fn give_up_compaction(&mut self, error: &LogError) {
        tracing::warn!(reason = %error, "the memory log could not be rewritten");
        self.core
            .is_damaged
            .fetch_or(error.damaged, Ordering::Relaxed);
        self.compaction = None;
        compact::clear(self.core.log.path());
        // Not at once again: a full disk stays full for a while.
        (self.compacted_at, self.gave_up) = (Instant::now(), true);
        for done in self.awaited.drain(..) {
            let _ = done.send(Err(MemoryError::Unavailable(error.reason.clone())));
        }
    }
}
