//! What memory does off the workers, and the queues at which its loaders wait.
//!
//! `store` and `core` push, `loader`'s threads take. An upload may be long, and so may a removal: each of them has a
//! queue and a loader of its own, so that another one is always free for loads, for which somebody's request waits. The
//! queues have no bound of their own: who pushes has either been counted against the writer's, or waits for the answer.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use futures_channel::oneshot;

use super::MemoryError;
use super::core::{Added, Written};
use super::deletions::Moment;
use super::seal::VaultRef;
use super::vault::{By, Hashed, Hot};
use super::words::{Delete, NewMemory};

/// What is done off the workers.
pub(super) enum Job {
    Load(VaultRef),
    /// Captures that are too long to be analysed on a worker.
    Capture(Arc<Hot>, Vec<Hashed>, Moment),
    Add(
        Arc<Hot>,
        Vec<NewMemory>,
        By,
        oneshot::Sender<Written<Added>>,
    ),
    Delete(Arc<Hot>, Delete, oneshot::Sender<Written<u64>>),
    /// All of a vault that cannot be loaded.
    Clear(VaultRef, oneshot::Sender<Result<(), MemoryError>>),
    /// Another process left something for a vault.
    TakeIn(Arc<str>),
    Evict,
    Retain,
}

/// What a loader does first; what it does else is load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Loads,
    Removals,
    Uploads,
}

#[derive(Default)]
struct Waiting {
    loads: VecDeque<Job>,
    removals: VecDeque<Job>,
    uploads: VecDeque<Job>,
}

impl Waiting {
    fn queue(&mut self, of: First) -> &mut VecDeque<Job> {
        match of {
            First::Loads => &mut self.loads,
            First::Removals => &mut self.removals,
            First::Uploads => &mut self.uploads,
        }
    }

    fn next(&mut self, first: First) -> Option<Job> {
        let own = self.queue(first).pop_front();
        own.or_else(|| self.loads.pop_front())
    }
}

/// What loaders wait at.
#[derive(Default)]
pub(super) struct Jobs {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Jobs {
    pub(super) fn push(&self, job: Job) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let of = match job {
            Job::Load(_) | Job::TakeIn(_) | Job::Evict => First::Loads,
            Job::Delete(..) | Job::Clear(..) | Job::Retain => First::Removals,
            Job::Capture(..) | Job::Add(..) => First::Uploads,
        };
        waiting.queue(of).push_back(job);
        drop(waiting);
        // One alone may be the wrong one.
        self.wake.notify_all();
    }

    /// None when `ended` says so.
    pub(super) fn next(&self, first: First, ended: impl Fn() -> bool) -> Option<Job> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if ended() {
                return None;
            }
            if let Some(job) = waiting.next(first) {
                return Some(job);
            }
            let woken = self.wake.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn wake_all(&self) {
        drop(self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::seal::Sealer;
    use crate::memory::vault::Vault;

    #[test]
    fn whatever_is_long_one_loader_is_free() {
        let vault = VaultRef::new("vault", [1; 32]);
        let hot = Arc::new(Hot::new(Arc::new(Sealer::new(&vault)), Vault::default()));
        let (jobs, never) = (Jobs::default(), || false);
        let is_long = |job: Option<Job>| matches!(job, Some(Job::Capture(..)));
        for _ in 0..2 {
            jobs.push(Job::Capture(hot.clone(), Vec::new(), Moment::default()));
        }
        jobs.push(Job::Retain);
        jobs.push(Job::Load(vault.clone()));
        jobs.push(Job::Load(vault));
        jobs.push(Job::Evict);
        assert!(matches!(jobs.next(First::Loads, never), Some(Job::Load(_))));
        for _ in 0..2 {
            assert!(is_long(jobs.next(First::Uploads, never)));
        }
        assert!(matches!(
            jobs.next(First::Removals, never),
            Some(Job::Retain)
        ));
        assert!(matches!(
            jobs.next(First::Removals, never),
            Some(Job::Load(_))
        ));
        assert!(matches!(jobs.next(First::Uploads, never), Some(Job::Evict)));
        assert!(jobs.next(First::Loads, || true).is_none());
    }
}
