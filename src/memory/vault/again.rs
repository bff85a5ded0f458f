//! What is said again: still one memory, which holds from now on. Of two that contradict each other the one that was said
//! last is what counts, and a retention rule goes by when something was last said.

use std::sync::Arc;

use super::{By, Kept, Vault};
use crate::memory::change::Op;
use crate::memory::row::{self, Row};
use crate::memory::seal::Sealer;
use crate::memory::words::NewMemory;

/// So soon it is no news: a caller that tries again, or says the same with every request.
const AGAIN_MS: i64 = 10_000;

impl Kept {
    /// Whether its twin says it anew. A model that repeats what its user said only quotes it.
    pub(super) fn is_said_again_by(&self, twin: &NewMemory, by: By) -> bool {
        by == By::Turn
            && self.role == twin.role
            && twin.at_ms.saturating_sub(self.at_ms) >= AGAIN_MS
    }
}

impl Vault {
    /// Takes the time of a memory's twin; the change is for the log.
    pub(super) fn say_again(
        &mut self,
        sealer: &Arc<Sealer>,
        seq: u64,
        twin: Row,
        by: By,
    ) -> Option<Op> {
        let place = self.kept.binary_search_by_key(&seq, |kept| kept.seq).ok()?;
        let kept = self.kept.get_mut(place)?;
        if !kept.is_said_again_by(&twin.memory, by) {
            return None;
        }
        let first_ms = *self.first_said.entry(seq).or_insert(kept.at_ms);
        let at_ms = twin.memory.at_ms;
        kept.at_ms = at_ms;
        self.index.set_time(seq, at_ms);
        Some(Op::Put {
            sealer: sealer.clone(),
            seq,
            day: row::day(at_ms),
            record: Row { first_ms, ..twin }.encode(),
            new: false,
        })
    }
}
