//! What waits to be written: bounded, and cheap to add to from a worker.
//!
//! A capture wakes the writer only if it sleeps with nothing to do; while it gathers or commits, adding is a push under
//! a lock and no system call. Whoever waits for durability wakes it at once. Each push gets a ticket, and the writer
//! tells up to which ticket all is durable.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;

use super::MemoryError;
use super::change::Op;

/// Captures beyond this are dropped and counted: the store must be failing, and RAM is finite.
pub(super) const BYTES_MAX: usize = 64 << 20;
const COUNT_MAX: usize = 200_000;
/// Captures are gathered this long, well inside the second in which they become durable.
const GATHER: Duration = Duration::from_millis(200);
/// Whoever waits for durability waits this long for company.
const GROUP_WAIT: Duration = Duration::from_millis(1);
/// A group of this many waits no longer.
const GROUP: usize = 256;
/// A sleeping writer looks around this often.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Told once all that was pushed before it is durable, or that it could not be written.
pub(super) type Done = oneshot::Sender<Result<(), MemoryError>>;

/// What the writer takes at once.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) ops: Vec<Op>,
    pub(super) done: Vec<Done>,
    /// The last ticket in it.
    pub(super) ticket: u64,
    pub(super) bytes: usize,
}

#[derive(Default)]
struct Waiting {
    batch: Batch,
    /// The writer sleeps until it is woken.
    asleep: bool,
    /// Somebody waits for durability.
    urgent: bool,
    closing: bool,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// With what the writer has taken and not yet written.
    count: AtomicUsize,
    bytes: AtomicUsize,
    durable: AtomicU64,
    closed: AtomicBool,
    /// Captures on their way.
    announced: AtomicUsize,
}

/// A capture that arrives.
pub(super) struct Arriving<'q> {
    queue: &'q Queue,
    bytes: usize,
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.queue.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.queue.announced.fetch_sub(1, Ordering::Release);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a capture that is on its way here: it waits for its vault, or for a thread.
    pub(super) fn announce(&self, bytes: usize) {
        self.announced.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It is counted until this is dropped, whatever becomes of it.
    pub(super) fn arriving(&self, bytes: usize) -> Arriving<'_> {
        Arriving { queue: self, bytes }
    }

    /// Whether anything is not durable yet, or on its way.
    pub(super) fn is_idle(&self) -> bool {
        // In this order: what arrives is counted here before it no longer counts as announced.
        self.announced.load(Ordering::Acquire) == 0 && self.depth().0 == 0
    }

    /// Whether `bytes` more would still be taken from a capture.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.count.load(Ordering::Relaxed) < COUNT_MAX
            && self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= BYTES_MAX
    }

    /// Adds changes; returns their ticket. With `done` the writer hurries.
    pub(super) fn push(&self, ops: impl IntoIterator<Item = Op>, done: Option<Done>) -> u64 {
        let mut waiting = self.lock();
        let before = waiting.batch.ops.len();
        waiting.batch.ops.extend(ops);
        let bytes: usize = waiting.batch.ops[before..].iter().map(Op::bytes).sum();
        let added = waiting.batch.ops.len() - before;
        waiting.batch.bytes += bytes;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.count.fetch_add(added, Ordering::Relaxed);
        waiting.batch.ticket += 1;
        let ticket = waiting.batch.ticket;
        let hurry = done.is_some();
        waiting.batch.done.extend(done);
        // A gathering writer is woken by the first who hurries, a sleeping one by anybody.
        let woken = waiting.asleep || (hurry && !waiting.urgent);
        waiting.asleep = false;
        waiting.urgent |= hurry;
        drop(waiting);
        if woken {
            self.wake.notify_one();
        }
        ticket
    }

    /// Makes the writer write what there is and end; what comes afterwards is for the spool.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// The writer has written to the log for the last time.
    pub(super) fn closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether what comes now is for the spool.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Wakes the writer to look around.
    pub(super) fn nudge(&self) {
        let mut waiting = self.lock();
        waiting.urgent = true;
        waiting.asleep = false;
        drop(waiting);
        self.wake.notify_one();
    }

    /// Waits for something to do, at most `patience` if nothing comes: what was pushed, and whether the end was asked
    /// for.
    pub(super) fn take(&self, patience: Option<Duration>) -> (Batch, bool) {
        let patience = patience.unwrap_or(LOOK_AROUND);
        let mut waiting = self.lock();
        if waiting.batch.ops.is_empty() && !waiting.urgent && !waiting.closing {
            waiting.asleep = true;
            waiting = self.pause(waiting, patience, |w| !w.asleep || w.closing);
            waiting.asleep = false;
        }
        if !waiting.batch.ops.is_empty() && !waiting.urgent && !waiting.closing {
            waiting = self.pause(waiting, GATHER, |w| w.urgent || w.closing);
        }
        if waiting.urgent && waiting.batch.ops.len() < GROUP && !waiting.closing {
            waiting = self.pause(waiting, GROUP_WAIT, |w| {
                w.batch.ops.len() >= GROUP || w.closing
            });
        }
        waiting.urgent = false;
        let closing = std::mem::take(&mut waiting.closing);
        let ticket = waiting.batch.ticket;
        let batch = std::mem::take(&mut waiting.batch);
        waiting.batch.ticket = ticket;
        (batch, closing)
    }

    fn pause<'a>(
        &self,
        mut waiting: MutexGuard<'a, Waiting>,
        time: Duration,
        enough: impl Fn(&Waiting) -> bool,
    ) -> MutexGuard<'a, Waiting> {
        let end = Instant::now() + time;
        while !enough(&waiting) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.wake.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting
    }

    /// The writer is done with this many changes, up to that ticket.
    pub(super) fn written(&self, count: usize, bytes: usize, ticket: u64) {
        self.count.fetch_sub(count, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.durable.fetch_max(ticket, Ordering::Release);
    }

    /// Whether all up to this ticket is durable.
    pub(super) fn is_durable(&self, ticket: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= ticket
    }

    /// Changes and bytes that are not durable yet.
    pub(super) fn depth(&self) -> (usize, usize) {
        let get = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (get(&self.count), get(&self.bytes))
    }
}

impl Op {
    /// RAM that it takes while it waits, about.
    fn bytes(&self) -> usize {
        const FIXED: usize = 96;
        FIXED
            + match self {
                Self::Put { record, .. } | Self::Vector { record, .. } => record.len(),
                Self::Remove { seqs, .. } | Self::Unspool { numbers: seqs, .. } => seqs.len() * 8,
                Self::Spool { sealed, .. } => sealed.len(),
                Self::Clear { .. } | Self::Forget { .. } => 0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op() -> Op {
        Op::Clear { tag: [0; 16] }
    }

    #[test]
    fn captures_gather_and_tickets_count() {
        let queue = Queue::default();
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..10 {
                    queue.push([op(), op()], None);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let (mut count, mut ticket) = (0, 0);
            while count < 20 {
                let (batch, closing) = queue.take(None);
                assert!(!closing);
                count += batch.ops.len();
                ticket = batch.ticket;
                queue.written(batch.ops.len(), batch.bytes, batch.ticket);
            }
            assert_eq!((count, ticket), (20, 10));
        });
        assert!(started.elapsed() >= GATHER);
        assert!(queue.is_durable(10) && !queue.is_durable(11));
        assert_eq!(queue.depth(), (0, 0));
    }

    #[test]
    fn who_waits_for_durability_does_not_wait_for_the_gathering() {
        let queue = Queue::default();
        queue.push([op()], None);
        let (done, _told) = oneshot::channel();
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(5));
                queue.push([op()], Some(done));
            });
            let (batch, _) = queue.take(None);
            assert_eq!((batch.ops.len(), batch.done.len()), (2, 1));
        });
        assert!(started.elapsed() < GATHER);
        queue.close();
        let (batch, closing) = queue.take(None);
        assert!(batch.ops.is_empty() && closing);
    }

    #[test]
    fn is_bounded() {
        let queue = Queue::default();
        assert!(queue.has_room(BYTES_MAX) && !queue.has_room(BYTES_MAX + 1));
        queue.push((0..COUNT_MAX).map(|_| op()), None);
        assert!(!queue.has_room(0));
    }
}
