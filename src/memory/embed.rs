//! Vectors from an embedding model, where one is configured: for queries under a deadline, for memories afterwards.
//!
//! Any endpoint that speaks OpenAI's `/v1/embeddings` will do. A query's text is handed to threads of this module; who
//! waits for it waits until the deadline and then goes on by words alone. An endpoint that fails or stalls a few times
//! running is left alone for some seconds, so that it costs one deadline and not every request's. `revector` asks
//! for the memories' vectors, in batches.

mod wire;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use sha2::{Digest as _, Sha256};

use super::core::Core;
use super::log::guarded;
use crate::secret::Secret;
use wire::Endpoint;
pub(super) use wire::NoVectors;

/// Threads that ask for queries' vectors: a slow one holds up no others.
const ASKERS: usize = 4;
/// After so many failures running
const FAILURES_MAX: u32 = 3;
/// queries are not asked for this long.
const PAUSE: Duration = Duration::from_secs(5);
/// A pause so soon after another one is of the same trouble, which has been told of.
const TROUBLE: Duration = Duration::from_mins(1);
/// How long a batch of memories may take; nobody waits for it.
pub(super) const BATCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Models read no more of a text than about this.
pub(super) const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Queries that wait at most; more go by words.
const ASKED_MAX: usize = 256;

/// Where vectors come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingSettings {
    /// With its version: `https://api.openai.com/v1`.
    pub base_url: String,
    /// As the endpoint knows it.
    pub model: String,
    /// Sent as a bearer token.
    pub key: Option<Secret>,
    /// How long a request waits for its query's vector.
    pub deadline: Duration,
}

/// Which model made a vector: those of another say nothing beside it.
pub(super) type ModelId = [u8; 8];

struct Asked {
    text: String,
    due: Instant,
    /// Taken by whoever is first: the answer or the deadline.
    reply: Mutex<Option<oneshot::Sender<Vec<f32>>>>,
}

impl Asked {
    fn reply(&self) -> Option<oneshot::Sender<Vec<f32>>> {
        self.reply
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

#[derive(Default)]
struct Waiting {
    /// Not yet asked.
    asked: VecDeque<Arc<Asked>>,
    /// In the order of their deadlines, which is that in which they came.
    due: VecDeque<Arc<Asked>>,
    /// Memories may be without vectors.
    dirty: bool,
    ended: bool,
}

/// The endpoint, and who waits for it.
pub(super) struct Embedder {
    pub(super) model: ModelId,
    endpoint: Endpoint,
    deadline: Duration,
    waiting: Mutex<Waiting>,
    /// Somebody asks, or it ends.
    wake: Condvar,
    /// It has been told that the model gives vectors of another length.
    pub(super) told_length: AtomicBool,
    failures: AtomicU32,
    /// In milliseconds since `started`.
    paused_until: AtomicU64,
    /// The same for pauses that are not told of.
    told_until: AtomicU64,
    started: Instant,
}

impl Embedder {
    pub(super) fn new(settings: EmbeddingSettings) -> Self {
        let digest = Sha256::new()
            .chain_update(b"memoryrouter model")
            .chain_update(&settings.base_url)
            .chain_update([0])
            .chain_update(&settings.model)
            .finalize();
        let mut model = [0; 8];
        model.copy_from_slice(&digest[..8]);
        Self {
            model,
            deadline: settings.deadline,
            endpoint: Endpoint::new(settings),
            waiting: Mutex::default(),
            wake: Condvar::new(),
            told_length: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            paused_until: AtomicU64::new(0),
            told_until: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A query's vector; None once the deadline is over, or at once while the endpoint fails.
    pub(super) async fn vector_of(&self, text: &str) -> Option<Vec<f32>> {
        self.ask(text)?.await.ok()
    }

    fn ask(&self, text: &str) -> Option<oneshot::Receiver<Vec<f32>>> {
        if self.paused_until.load(Ordering::Relaxed) > self.now_ms() {
            return None;
        }
        let (reply, told) = oneshot::channel();
        let asked = Arc::new(Asked {
            text: beginning(text).to_owned(),
            due: Instant::now() + self.deadline,
            reply: Mutex::new(Some(reply)),
        });
        let mut waiting = self.lock();
        if waiting.asked.len() >= ASKED_MAX || waiting.ended {
            return None;
        }
        waiting.asked.push_back(asked.clone());
        waiting.due.push_back(asked);
        drop(waiting);
        self.wake.notify_all();
        Some(told)
    }

    /// Vectors of memories, in their order. Blocks.
    pub(super) fn vectors_of(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, NoVectors> {
        self.endpoint.ask(texts, BATCH_TIMEOUT)
    }

    /// Whether it takes any text at all, as far as a word tells. Blocks.
    pub(super) fn takes_a_word(&self, timeout: Duration) -> bool {
        self.endpoint.ask(&["memory"], timeout).is_ok()
    }

    /// There may be memories without vectors.
    pub(super) fn note(&self) {
        self.lock().dirty = true;
        self.wake.notify_all();
    }

    /// Waits until there may be memories without vectors, or some time is over; false at the end.
    pub(super) fn wait_for_work(&self, patience: Duration) -> bool {
        let waiting = self.lock();
        let idle = |waiting: &mut Waiting| !waiting.dirty && !waiting.ended;
        let woken = self.wake.wait_timeout_while(waiting, patience, idle);
        let mut waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        waiting.dirty = false;
        !waiting.ended
    }

    /// Waits for some time, or the end.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let woken = self
            .wake
            .wait_timeout_while(self.lock(), time, |waiting| !waiting.ended);
        !woken.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.wake.notify_all();
    }

    /// Asks for one query after the other.
    fn answer(&self) {
        let mut waiting = self.lock();
        loop {
            if waiting.ended {
                return;
            }
            let Some(asked) = waiting.asked.pop_front() else {
                let woken = self.wake.wait(waiting);
                waiting = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(waiting);
            let left = asked.due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let answer = guarded(|| Ok(self.endpoint.ask(&[&asked.text], left)));
                match answer {
                    Ok(Ok(mut vectors)) => {
                        self.note_result(true);
                        if let (Some(reply), Some(vector)) = (asked.reply(), vectors.pop()) {
                            let _ = reply.send(vector);
                        }
                    }
                    // It says something about this text, and nothing about those of others, unless it says so to all.
                    Ok(Err(NoVectors::Refused(_))) => {
                        drop(asked.reply());
                        if !self.takes_a_word(self.deadline) {
                            self.note_result(false);
                        }
                    }
                    Ok(Err(NoVectors::Failed(_))) | Err(_) => self.note_result(false),
                }
            }
            // Failed, it need not wait for the deadline.
            drop(asked.reply());
            waiting = self.lock();
        }
    }

    fn note_result(&self, good: bool) {
        if good {
            self.failures.store(0, Ordering::Relaxed);
            return;
        }
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.failures.store(0, Ordering::Relaxed);
            if self.pause(self.now_ms()) {
                tracing::warn!(
                    "the embedding endpoint fails or is too slow; memories are found by their words meanwhile"
                );
            }
        }
    }

    /// Leaves the endpoint alone from now on for a while; true if that is to be told.
    fn pause(&self, now_ms: u64) -> bool {
        let after = |time: Duration| now_ms + time.as_millis() as u64;
        self.paused_until.store(after(PAUSE), Ordering::Relaxed);
        self.told_until.swap(after(TROUBLE), Ordering::Relaxed) <= now_ms
    }

    /// Lets those go whose deadline is over, whatever becomes of the answer.
    fn keep_deadlines(&self) {
        let mut waiting = self.lock();
        while !waiting.ended {
            let now = Instant::now();
            match waiting.due.front().map(|asked| asked.due) {
                Some(due) if due <= now => {
                    let over = waiting.due.pop_front();
                    drop(over.and_then(|asked| asked.reply()));
                }
                Some(due) => {
                    let woken = self.wake.wait_timeout(waiting, due - now);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    let woken = self.wake.wait(waiting);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        for asked in waiting.due.drain(..) {
            drop(asked.reply());
        }
    }
}

/// What a model reads of a text.
pub(super) fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// The threads beside `revector`'s, with their names.
pub(super) fn threads() -> impl Iterator<Item = (String, fn(&Core))> {
    let deadlines: fn(&Core) = |core| {
        if let Some(embedder) = &core.embedder {
            embedder.keep_deadlines();
        }
    };
    let askers = (0..ASKERS).map(|index| {
        let ask: fn(&Core) = |core| {
            if let Some(embedder) = &core.embedder {
                embedder.answer();
            }
        };
        (format!("memory-ask-{index}"), ask)
    });
    askers.chain(std::iter::once(("memory-due".to_owned(), deadlines)))
}

#[cfg(test)]
mod tests;
