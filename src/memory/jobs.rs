//! What memory does off the workers, and the queue at which its loaders wait.
//!
//! `store` and `core` push, `loader`'s threads take. The queue has no bound of its own: who pushes has either been
//! counted against the writer's, or waits for the answer.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use futures_channel::oneshot;

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
    /// Another process left something for a vault.
    TakeIn(Arc<str>),
    Evict,
    Retain,
}

/// What loaders wait at.
#[derive(Default)]
pub(super) struct Jobs {
    waiting: Mutex<VecDeque<Job>>,
    wake: Condvar,
}

impl Jobs {
    pub(super) fn push(&self, job: Job) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(job);
        drop(waiting);
        self.wake.notify_one();
    }

    /// None when `ended` says so.
    pub(super) fn next(&self, ended: impl Fn() -> bool) -> Option<Job> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if ended() {
                return None;
            }
            if let Some(job) = waiting.pop_front() {
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
