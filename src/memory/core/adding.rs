//! How memories come into a vault that is in RAM: those that are new there, in the order in which the log gets them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Added, Core};
use crate::memory::change::Op;
use crate::memory::deletions::{Fate, Said};
use crate::memory::queue::Done;
use crate::memory::seal::{Sealer, VaultRef};
use crate::memory::status::{raise, raise_by};
use crate::memory::vault::{Applied, By, Hashed, Hot, Ready, Vault};
use crate::memory::words::NewMemory;

/// A write lock is held for this many additions, and for the one that brings their terms to this many; those who search
/// meanwhile get in between.
const ADDED_AT_ONCE: usize = 128;
const ADDED_TERMS: usize = 1 << 14;

impl Core {
    /// Adds memories to a hot vault and to the log.
    pub(in crate::memory) fn add(
        &self,
        hot: &Hot,
        memories: Vec<NewMemory>,
        by: By,
        done: Option<Done>,
    ) -> Added {
        let given = memories.len();
        let new = self.without_twins(hot, memories, by);
        let twins = (given - new.len()) as u64;
        let mut added = self.add_new(hot, new, Vec::new(), |_| None, done);
        added.duplicates += twins;
        added
    }

    /// Those that the vault does not hold, or that are said again; the others are counted. Looking for a twin takes a
    /// fraction of what analysing a long text does.
    pub(in crate::memory) fn without_twins(
        &self,
        hot: &Hot,
        memories: Vec<NewMemory>,
        by: By,
    ) -> Vec<Hashed> {
        let given = memories.len();
        let hashed = memories
            .into_iter()
            .map(|memory| Hashed::new(memory, by, &self.hasher));
        // Hashed before the lock is taken.
        let hashed: Vec<Hashed> = hashed.collect();
        let new = hot.read().without_twins(hashed);
        raise_by(&self.counters.duplicates, given - new.len());
        new
    }

    /// Adds what has just been looked for, and with it `also` to the log; where `said` tells when it was said, only
    /// what was not deleted since.
    pub(in crate::memory) fn add_new(
        &self,
        hot: &Hot,
        new: Vec<Hashed>,
        also: Vec<Op>,
        said: impl Fn(&Ready) -> Option<Said>,
        done: Option<Done>,
    ) -> Added {
        let ready: Vec<Ready> = new.into_iter().map(Ready::from).collect();
        let mut added = Added::default();
        let mut ops = also;
        let stays = |new: &Ready| said(new).is_none_or(|said| self.is_stored(hot, new, said));
        let mut ready = ready.into_iter().peekable();
        let mut removals = None;
        loop {
            let mut left = ADDED_TERMS;
            let piece = std::iter::from_fn(|| {
                let next = ready.next_if(|_| left > 0)?;
                left = left.saturating_sub(next.terms());
                Some(next)
            });
            let mut vault = hot.write();
            let removals_before = *removals.get_or_insert(vault.removals());
            let Applied {
                ops: new,
                ids,
                tokens,
                duplicates,
                full,
            } = vault.add(&hot.sealer, piece.take(ADDED_AT_ONCE).filter(stays));
            ops.extend(new);
            added.stored += ids.len() as u64;
            added.tokens += tokens;
            added.duplicates += duplicates;
            added.ids.extend(ids);
            raise_by(&self.counters.dropped, full);
            if ready.peek().is_some() {
                continue;
            }
            if vault.removals() != removals_before {
                // Removed between two pieces, and so not to be written behind its removal.
                ops.retain(|op| !matches!(op, Op::Put { seq, .. } if !vault.holds(*seq)));
            }
            // Under the lock, so that the log gets a vault's changes in their order.
            if !ops.is_empty() || done.is_some() {
                let ticket = self.queue.push(ops, done);
                hot.ticket.store(ticket, Ordering::Release);
            }
            let bytes = vault.recounted();
            drop(vault);
            if let Some(bytes) = bytes {
                self.recount(hot, bytes);
            }
            break;
        }
        self.counters
            .duplicates
            .fetch_add(added.duplicates, Ordering::Relaxed);
        if let Some(embedder) = self.embedder.as_ref().filter(|_| added.stored > 0) {
            embedder.note();
        }
        added
    }

    /// In the place of a vault that another process has now: what is added to it is left for that one.
    pub(in crate::memory) fn stand_in(vault: &VaultRef) -> Arc<Hot> {
        Arc::new(Hot::new(Arc::new(Sealer::new(vault)), Vault::default()))
    }

    /// Whether it was not deleted. To be asked under the vault's lock: a deletion is noted before it takes that.
    fn is_stored(&self, hot: &Hot, new: &Ready, said: Said) -> bool {
        if !self.deletions.any_since(said) {
            return true;
        }
        let session = new.session().map(|session| self.hasher.hash_one(session));
        let tag = &hot.sealer.tag;
        let fate = self.deletions.fate(tag, session, new.hash(), said);
        if fate == Fate::Dropped {
            raise(&self.counters.dropped);
        }
        fate == Fate::Stored
    }
}
