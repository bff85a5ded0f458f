//! The thread that writes: commits in groups, opens the log and opens it again, rewrites it, and spools at the end.
//!
//! While the log cannot be written the queue keeps what it has room for, and every second another attempt is made; one
//! line says when that begins and one when it is over. Once the log is closed, what still comes goes into the spool.

mod rewriting;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::MemoryError;
use super::change::Op;
use super::compact::{self, Compaction};
use super::core::Core;
use super::jobs::Job;
use super::log::LogError;
use super::queue::{Batch, Done};
use super::row::Row;
use super::seal::{self, NONCE_BYTES, Place};
use super::spool::{self, Taken};
use super::status::{StoreState, raise, raise_by};

/// Between two attempts to open a log that cannot be used.
const RETRY: Duration = Duration::from_secs(1);
/// The same while another process holds it that may be on its way out, and how long that counts as opening.
const LOCKED_RETRY: Duration = Duration::from_millis(25);
const LOCKED_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the spool, the file's place, and whether it is time to rewrite it.
const LOOK_AROUND: Duration = Duration::from_secs(1);
const RETAIN_EVERY: Duration = Duration::from_hours(1);

/// What waits in the log for one vault: one that cannot be read must not let the file grow with every restart. Room for
/// the largest text there is, and for several times of what waits in RAM.
const SPOOLED_BYTES_MAX: usize = 32 << 20;

/// Device, inode, and when it was made.
type FileId = (u64, u64, Option<SystemTime>);

struct Writer<'c> {
    core: &'c Core,
    /// Taken from the queue, not yet durable.
    held: Batch,
    started: Instant,
    tried_at: Option<Instant>,
    looked_at: Instant,
    retained_at: Option<Instant>,
    /// Which file is open.
    file: Option<FileId>,
    compaction: Option<Compaction>,
    compacted_at: Instant,
    /// The last compaction failed.
    gave_up: bool,
    removed_bytes: u64,
    /// Who waits for a compaction that begins from now on.
    asked: Vec<Done>,
    /// Who waits for the one that runs.
    awaited: Vec<Done>,
}

/// The thread's whole life.
pub(super) fn run(core: &Core) {
    let mut writer = Writer::new(core);
    writer.open();
    loop {
        // Asked before the batch is taken: what was removed before somebody asked is in it, and gone before the copying.
        writer.asked.append(&mut writer.waiting_for_compaction());
        let (batch, closing) = core.queue.take(writer.patience());
        writer.hold(batch);
        if closing || core.ended.load(Ordering::Relaxed) {
            break;
        }
        if writer.open() {
            writer.commit();
            writer.look_around();
            writer.compact();
        }
        writer.refuse_waiting();
    }
    writer.close();
    while !core.ended.load(Ordering::Relaxed) {
        core.load_parked();
        let (batch, _) = core.queue.take(None);
        writer.hold(batch);
        writer.spool();
    }
}

impl<'c> Writer<'c> {
    fn new(core: &'c Core) -> Self {
        let now = Instant::now();
        Self {
            core,
            held: Batch::default(),
            started: now,
            tried_at: None,
            looked_at: now,
            retained_at: None,
            file: None,
            compaction: None,
            compacted_at: now,
            gave_up: false,
            removed_bytes: 0,
            asked: Vec::new(),
            awaited: Vec::new(),
        }
    }

    fn patience(&self) -> Option<Duration> {
        match self.core.counters.state() {
            StoreState::Opening => Some(LOCKED_RETRY),
            StoreState::Failed(_) => Some(RETRY / 4),
            _ if self.compaction.is_some() || !self.asked.is_empty() => Some(Duration::ZERO),
            _ => None,
        }
    }

    fn hold(&mut self, batch: Batch) {
        self.held.ops.extend(batch.ops);
        self.held.done.extend(batch.done);
        self.held.bytes += batch.bytes;
        self.held.ticket = batch.ticket;
    }

    /// Whether the log is open, now or again.
    fn open(&mut self) -> bool {
        let core = self.core;
        if core.log.is_open() {
            return true;
        }
        let retry = match core.counters.state() {
            StoreState::Opening => LOCKED_RETRY / 2,
            _ => RETRY,
        };
        if self.tried_at.is_some_and(|at| at.elapsed() < retry) {
            return false;
        }
        self.tried_at = Some(Instant::now());
        if let Err(error) = core.log.open() {
            self.failed(&error);
            return false;
        }
        compact::clear(core.log.path());
        let file = self.file_now();
        if self.file.is_some() && self.file != file {
            // Another file: what is in RAM is not what is in it.
            for id in core.hot_ids() {
                core.let_go(&id, false);
            }
        }
        self.file = file;
        self.removed_bytes = core.log.removed_bytes().unwrap_or_default();
        // A file that opens may still not be writable: it counts as healed once what is held is in it.
        if self.held.ops.is_empty() {
            self.healed();
        }
        true
    }

    fn file_now(&self) -> Option<FileId> {
        let metadata = fs::metadata(self.core.log.path()).ok()?;
        // An inode's number is given out again, at another time.
        let made = metadata.created().ok();
        Some((metadata.dev(), metadata.ino(), made))
    }

    fn healed(&self) {
        if let StoreState::Failed(_) = self.core.counters.set_state(StoreState::Open) {
            tracing::info!("memories are stored again");
        }
    }

    fn failed(&mut self, error: &LogError) {
        let core = self.core;
        self.compaction = None;
        core.log.close();
        if error.locked && self.started.elapsed() < LOCKED_PATIENCE {
            return;
        }
        raise(&core.counters.failures);
        let before = core
            .counters
            .set_state(StoreState::Failed(error.reason.clone()));
        if !matches!(before, StoreState::Failed(_)) {
            let path = core.log.path().display();
            tracing::error!(%path, reason = %error, "memories cannot be stored; requests go on without, and it is tried every second");
        }
    }

    /// Makes durable what is held.
    fn commit(&mut self) {
        let core = self.core;
        if !self.held.ops.is_empty() {
            let started = Instant::now();
            let mut committed = core.log.commit(&self.held.ops);
            // Where a page cannot be read that is to be changed, only another file without it can be.
            if committed.as_ref().is_err_and(|error| error.damaged) && self.rewrite() {
                committed = core.log.commit(&self.held.ops);
            }
            if let Err(error) = committed {
                return self.failed(&error);
            }
            core.counters.commit_times.note(started.elapsed());
            self.healed();
            let puts = self
                .held
                .ops
                .iter()
                .filter(|op| matches!(op, Op::Put { new: true, .. }));
            raise_by(&core.counters.stored, puts.count());
            self.follow();
            let removes =
                |op: &Op| matches!(op, Op::Remove { .. } | Op::Clear { .. } | Op::Forget { .. });
            if self.held.ops.iter().any(removes) {
                self.removed_bytes = core.log.removed_bytes().unwrap_or_default();
            }
        }
        self.release(|| Ok(()));
    }

    fn follow(&mut self) {
        let followed = self
            .compaction
            .as_ref()
            .map(|compaction| compaction.follow(&self.held.ops));
        if let Some(Err(error)) = followed {
            self.give_up_compaction(&error);
        }
    }

    /// What is held is out of our hands: everybody who waited for it is told.
    fn release(&mut self, result: impl Fn() -> Result<(), MemoryError>) {
        let held = std::mem::take(&mut self.held);
        self.core
            .queue
            .written(held.ops.len(), held.bytes, held.ticket);
        for done in held.done {
            let _ = done.send(result());
        }
    }

    /// Nobody waits for a log that cannot be written; what they gave stays held.
    fn refuse_waiting(&mut self) {
        if let StoreState::Failed(reason) = self.core.counters.state() {
            let waiting = self.held.done.drain(..).chain(self.asked.drain(..));
            for done in waiting.chain(self.awaited.drain(..)) {
                let _ = done.send(Err(MemoryError::Unavailable(reason.clone())));
            }
        }
    }

    fn look_around(&mut self) {
        if self.looked_at.elapsed() < LOOK_AROUND || !self.core.log.is_open() {
            return;
        }
        self.looked_at = Instant::now();
        if self.file_now() != self.file {
            return self.failed(&LogError::new("the file was removed or replaced"));
        }
        self.take_spool();
        self.core.load_parked();
        let due = |at: Instant| at.elapsed() >= RETAIN_EVERY;
        if self.core.settings.retention.is_some() && self.retained_at.is_none_or(due) {
            self.retained_at = Some(Instant::now());
            self.core.jobs.push(Job::Retain);
        }
    }

    /// Takes in what another process left.
    fn take_spool(&mut self) {
        let core = self.core;
        let taken = match Taken::read(&core.spool()) {
            Ok(Some(taken)) => taken,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "the memory spool cannot be read"),
        };
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        let mut fits = |id, bytes| {
            let left = left.entry(id).or_insert_with(|| {
                let there = core.log.spooled_bytes(&seal::tag(id)).unwrap_or_default();
                SPOOLED_BYTES_MAX.saturating_sub(there)
            });
            let is_kept = *left >= bytes;
            *left -= if is_kept { bytes } else { 0 };
            is_kept
        };
        let kept = taken
            .records
            .iter()
            .filter(|(id, sealed)| fits(id, sealed.len()));
        let ops: Vec<Op> = kept
            .map(|(id, sealed)| Op::Spool {
                id: id.clone(),
                sealed: sealed.clone(),
            })
            .collect();
        raise_by(&core.counters.dropped, taken.records.len() - ops.len());
        if let Err(error) = core.log.commit(&ops) {
            return self.failed(&error);
        }
        raise_by(&core.counters.damaged, taken.damaged);
        let ids: BTreeSet<Arc<str>> = taken.records.iter().map(|(id, _)| id[..].into()).collect();
        if let Err(error) = taken.remove() {
            tracing::warn!(%error, "the memory spool cannot be removed");
        }
        for id in ids {
            core.jobs.push(Job::TakeIn(id));
        }
    }

    /// Writes what there is and lets go of the file.
    fn close(&mut self) {
        self.tried_at = None;
        if self.open() {
            self.commit();
        }
        if self.compaction.take().is_some() {
            compact::clear(self.core.log.path());
        }
        // From here on nothing that is pushed can get into the log any more.
        self.core.queue.closed();
        self.core.log.close();
        self.spool();
        self.core.counters.set_state(StoreState::Closed);
        self.asked.append(&mut self.waiting_for_compaction());
        self.asked.append(&mut self.awaited);
        for done in self.asked.drain(..) {
            let _ = done.send(Err(MemoryError::Closed));
        }
    }

    /// Leaves what is held to the next process.
    fn spool(&mut self) {
        let mut records = Vec::new();
        for op in &self.held.ops {
            let mut nonce = [0; NONCE_BYTES];
            if let Op::Put { sealer, record, .. } = op
                && Row::decode(record).is_some()
                && getrandom::fill(&mut nonce).is_ok()
                && let Some(sealed) = sealer.seal(Place::Spool, nonce, record)
            {
                records.push((sealer.id.to_string(), sealed));
            }
        }
        if !records.is_empty() {
            let counters = &self.core.counters;
            match spool::append(&self.core.spool(), &records) {
                Ok(cut) => raise_by(&counters.damaged, cut.into()),
                Err(error) => {
                    raise_by(&counters.dropped, records.len());
                    tracing::error!(%error, memories = records.len(), "memories are lost: the spool cannot be written");
                }
            }
        }
        self.release(|| Err(MemoryError::Closed));
    }
}

#[cfg(test)]
mod tests;
