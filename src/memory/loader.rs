//! The threads that do for memory what must not hold up a worker: cold loads, long analyses, deletes, evictions. What
//! each of them does first is told in `jobs`: no upload holds up the cold loads of others.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;

use super::MemoryError;
use super::change::Op;
use super::core::{Core, Written};
use super::deletions::{Said, What};
use super::jobs::{First, Job};
use super::log::{LogError, guarded};
use super::revector;
use super::row::{self, Row};
use super::seal::{self, Place, Sealer, Tag, VaultRef};
use super::status::{StoreState, raise, raise_by};
use super::vault::{By, Hashed, Hot, Vault, Which};
use super::words::{Delete, NewMemory};
use crate::clock;

/// How often a loader looks whether the log is open by now.
const OPENING_LOOK: Duration = Duration::from_millis(5);
/// How many memories are removed under one lock, and up to how many bytes of text.
const REMOVED_AT_ONCE: usize = 64;
const REMOVED_BYTES: usize = 64 << 10;

/// The threads, with their names.
pub(super) fn threads() -> impl Iterator<Item = (&'static str, fn(&Core))> {
    let loads: fn(&Core) = |core| run(core, First::Loads);
    let removes: fn(&Core) = |core| run(core, First::Removals);
    let uploads: fn(&Core) = |core| run(core, First::Uploads);
    [
        ("memory-load", loads),
        ("memory-remove", removes),
        ("memory-upload", uploads),
    ]
    .into_iter()
}

/// A thread's whole life.
fn run(core: &Core, first: First) {
    while let Some(job) = core.jobs.next(first, || core.ended.load(Ordering::Relaxed)) {
        // A bug in here costs the job, not all those that would come after it.
        let done = guarded(|| {
            work(core, job);
            Ok(())
        });
        if done.is_err() {
            tracing::error!("a job of memory was lost to a bug");
        }
    }
}

pub(super) fn work(core: &Core, job: Job) {
    match job {
        Job::Load(vault) => load_and_tell(core, &vault),
        Job::Clear(vault, reply) => {
            let _ = reply.send(clear_unread(core, &vault));
        }
        Job::Capture(hot, new, begun) => {
            let _arriving = core.queue.arriving(new.iter().map(Hashed::bytes).sum());
            core.add_new(&hot, new, Vec::new(), |_| Some(Said::Since(begun)), None);
        }
        Job::Add(hot, memories, by, reply) => {
            let (done, durable) = oneshot::channel();
            let result = core.add(&hot, memories, by, Some(done));
            let _ = reply.send(Written { result, durable });
        }
        Job::Delete(hot, which, reply) => {
            note(core, &hot, &which);
            let result = match &which {
                Delete::All => clear(core, &hot),
                Delete::One(id) => u64::from(remove(core, &hot, |_| vec![id.0])),
                Delete::Session(session) => remove_many(core, &hot, &Which::Session(session)),
            };
            let (done, durable) = oneshot::channel();
            core.queue.push([], Some(done));
            let bytes = hot.read().ram_bytes();
            core.recount(&hot, bytes);
            let _ = reply.send(Written { result, durable });
        }
        Job::TakeIn(id) => {
            if let Some(hot) = core.find_to_take_in(&id)
                && let Ok(begun) = core.log.read(&hot.sealer.tag, |_, _, _| {})
            {
                take_in(core, &hot, &begun.spooled);
            }
        }
        Job::Evict => core.evict(),
        Job::Retain => retain(core),
    }
}

fn unavailable(error: LogError) -> MemoryError {
    MemoryError::Unavailable(error.reason)
}

fn load_and_tell(core: &Core, vault: &VaultRef) {
    let loaded = guarded(|| load(core, vault));
    note_damage(core, vault, loaded.as_ref().err());
    core.arrived(vault, loaded.map_err(unavailable));
}

/// Empties a vault that cannot be read. Nobody loads it before that is durable.
fn clear_unread(core: &Core, vault: &VaultRef) -> Result<(), MemoryError> {
    let tag = seal::tag(vault.id());
    core.deletions.note(&tag, What::All, clock::unix_millis());
    if !core.hold(vault) {
        return Err(MemoryError::Unavailable("it is being read".into()));
    }
    let (done, mut durable) = oneshot::channel();
    core.queue.push([Op::Clear { tag }], Some(done));
    let result = loop {
        match durable.try_recv() {
            Ok(Some(result)) => break result,
            Ok(None) if !core.ended.load(Ordering::Relaxed) => std::thread::sleep(OPENING_LOOK),
            Ok(None) | Err(_) => break Err(MemoryError::Closed),
        }
    };
    load_and_tell(core, vault);
    result
}

/// Where a part of the file cannot be read the writer makes another without it, and the vault is loaded from that.
fn note_damage(core: &Core, vault: &VaultRef, error: Option<&LogError>) {
    let told = core.told_damaged.lock();
    let mut told = told.unwrap_or_else(PoisonError::into_inner);
    match error {
        None => {
            told.remove(vault.id());
        }
        Some(error) if error.damaged => {
            if told.insert(vault.id().clone()) {
                raise(&core.counters.damaged);
                tracing::error!(vault = %vault.id(), "a vault cannot be read: the memory log is damaged; it is rewritten without that part");
            }
            drop(told);
            core.is_damaged.store(true, Ordering::Relaxed);
            core.queue.nudge();
        }
        Some(_) => {}
    }
}

/// Reads a vault from the log.
fn load(core: &Core, vault: &VaultRef) -> Result<Arc<Hot>, LogError> {
    // Right after a start, or a hand-over, the log is about to be opened.
    while core.counters.state() == StoreState::Opening && !core.ended.load(Ordering::Relaxed) {
        std::thread::sleep(OPENING_LOOK);
    }
    let started = Instant::now();
    let sealer = Arc::new(Sealer::new(vault));
    let mut loaded = Vault::default();
    let (mut damaged, mut old) = (0, Vec::new());
    let oldest = oldest_ms(core);
    let begun = core.log.read(&sealer.tag, |seq, day, sealed| {
        let plain = sealer.open(Place::Log { seq, day }, sealed);
        match plain.and_then(|plain| Row::decode(&plain)) {
            Some(row) if row.memory.at_ms < oldest => old.push(seq),
            Some(row) => loaded.restore(seq, row, &core.hasher),
            None => damaged += 1,
        }
    })?;
    loaded.set_next_seq(begun.next_seq);
    revector::load(core, &sealer, |seq, vector| {
        loaded.restore_vector(seq, vector);
    });
    loaded.settle();
    if damaged > 0 {
        raise_by(&core.counters.damaged, damaged);
        tracing::error!(vault = %sealer.id, rows = damaged, "memories cannot be read and are passed over");
    }
    let hot = Arc::new(Hot::new(sealer, loaded));
    if !old.is_empty() {
        let tag = hot.sealer.tag;
        let ticket = core.queue.push(
            [Op::Remove {
                tag,
                seqs: old,
                before: None,
            }],
            None,
        );
        hot.ticket.store(ticket, Ordering::Release);
    }
    take_in(core, &hot, &begun.spooled);
    raise(&core.counters.loads);
    core.counters.load_times.note(started.elapsed());
    Ok(hot)
}

/// Moves what another process left into the vault and its log.
fn take_in(core: &Core, hot: &Arc<Hot>, spooled: &[(u64, Vec<u8>)]) {
    if spooled.is_empty() {
        return;
    }
    let rows = spooled.iter().filter_map(|(_, sealed)| {
        let plain = hot.sealer.open(Place::Spool, sealed)?;
        Some(Row::decode(&plain)?.memory)
    });
    let memories: Vec<NewMemory> = rows.collect();
    raise_by(&core.counters.damaged, spooled.len() - memories.len());
    let numbers = spooled.iter().map(|(number, _)| *number).collect();
    let tag = hot.sealer.tag;
    let also = vec![Op::Unspool { tag, numbers }];
    let new = core.without_twins(hot, memories, By::Turn);
    // Another process's moments mean nothing here; its clock does.
    core.add_new(hot, new, also, |new| Some(Said::At(new.at_ms())), None);
}

/// Before anything is removed, so that what is on its way into the vault does not come after it.
fn note(core: &Core, hot: &Hot, which: &Delete) {
    let what = match which {
        Delete::All => What::All,
        Delete::Session(session) => What::Session(core.hasher.hash_one(session.as_str())),
        Delete::One(id) => match hot.read().hash_of(id.0, &core.hasher) {
            Some(text) => What::Text(text),
            None => return,
        },
    };
    core.deletions
        .note(&hot.sealer.tag, what, clock::unix_millis());
}

fn clear(core: &Core, hot: &Hot) -> u64 {
    let mut vault = hot.write();
    let tag = hot.sealer.tag;
    let ticket = core.queue.push([Op::Clear { tag }], None);
    hot.ticket.store(ticket, Ordering::Release);
    let gone = vault.clear();
    drop(vault);
    gone.stats().memories
}

/// Removes many a few at a time, so that those who search meanwhile get in between.
fn remove_many(core: &Core, hot: &Hot, which: &Which<'_>) -> u64 {
    let mut count = 0;
    loop {
        let mut some = 0;
        let removed = remove(core, hot, |vault| {
            let seqs = vault.some_of(which, REMOVED_AT_ONCE, REMOVED_BYTES);
            some = seqs.len();
            seqs
        });
        if !removed {
            return count;
        }
        count += some as u64;
    }
}

/// Removes some from answers and then from the log; false if there were none.
fn remove(core: &Core, hot: &Hot, which: impl FnOnce(&Vault) -> Vec<u64>) -> bool {
    let mut vault = hot.write();
    let seqs = which(&vault);
    let op = vault.remove(&hot.sealer, seqs, &core.hasher);
    let removed = op.is_some();
    if removed {
        let ticket = core.queue.push(op, None);
        hot.ticket.store(ticket, Ordering::Release);
    }
    removed
}

/// What is older is not kept.
pub(super) fn oldest_ms(core: &Core) -> i64 {
    core.settings.retention.map_or(i64::MIN, |retention| {
        let kept = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        clock::unix_seconds()
            .saturating_mul(1000)
            .saturating_sub(kept)
    })
}

/// Removes what a retention rule no longer allows: exactly in hot vaults, by whole days in the others.
fn retain(core: &Core) {
    let oldest = oldest_ms(core);
    if oldest == i64::MIN {
        return;
    }
    for hot in core.all_hot() {
        remove_many(core, &hot, &Which::OlderThan(oldest));
    }
    let before = row::day(oldest);
    let rows: Vec<(Tag, Vec<u64>)> = core.log.older_than(before).unwrap_or_default();
    if !rows.is_empty() {
        let before = Some(before);
        let remove = |(tag, seqs)| Op::Remove { tag, seqs, before };
        core.queue.push(rows.into_iter().map(remove), None);
    }
}
