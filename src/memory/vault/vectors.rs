//! Which of a vault's memories have vectors, where a model is configured. All are of one length; once the model gives
//! another one, that counts, and those from before are made anew.

use super::Vault;
use crate::memory::dense::{Vectors, is_usable};

impl Vault {
    /// Whether a query's vector would tell anything.
    pub(in crate::memory) fn has_vectors(&self) -> bool {
        self.index.has_vectors()
    }

    /// Gives a memory its vector; false if it is gone, or the vector is no use.
    pub(in crate::memory) fn set_vector(&mut self, seq: u64, vector: &[f32]) -> bool {
        self.index.set_vector(seq, vector)
    }

    /// No vector is to be had for a memory; false if it is gone.
    pub(in crate::memory) fn give_up_vector(&mut self, seq: u64) -> bool {
        self.index.give_up_vector(seq)
    }

    /// Takes a vector that is in the log; an empty one says that none is to be had. Later memories mostly got theirs
    /// later.
    pub(in crate::memory) fn restore_vector(&mut self, seq: u64, vector: &[f32]) {
        if vector.is_empty() {
            self.give_up_vector(seq);
            return;
        }
        if is_usable(vector) && self.is_of_other_length(vector) {
            self.index.vectors = Vectors::default();
        }
        self.set_vector(seq, vector);
    }

    /// Makes room for vectors of another length, once: a model that gives now the one and now the other would be asked
    /// without end. False if it has been so before.
    pub(in crate::memory) fn turn_to_other_length(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.turned, true);
        if is_first {
            self.index.vectors = Vectors::default();
            self.vectors_from = 0;
        }
        is_first
    }

    /// Whether that was done.
    pub(in crate::memory) fn has_turned(&self) -> bool {
        self.turned
    }

    pub(in crate::memory) fn is_of_other_length(&self, vector: &[f32]) -> bool {
        let known = self.index.vectors.dimensions();
        known.is_some_and(|known| known != vector.len())
    }

    /// Some memories that have no vector yet, oldest first.
    pub(in crate::memory) fn without_vector(
        &self,
        at_most: usize,
    ) -> impl Iterator<Item = (u64, &str)> {
        let start = self
            .kept
            .partition_point(|kept| kept.seq < self.vectors_from);
        let without = self.kept[start..]
            .iter()
            .filter(|kept| !self.index.is_settled(kept.seq));
        without.take(at_most).map(|kept| (kept.seq, &*kept.text))
    }

    /// Up to this number all have been asked for.
    pub(in crate::memory) fn looked_for_vectors(&mut self, last: u64) {
        self.vectors_from = self.vectors_from.max(last.saturating_add(1));
    }

    /// Whether all have been asked for, as far as is known.
    pub(in crate::memory) fn vectors_are_settled(&self) -> bool {
        self.vectors_from >= self.next_seq
    }

    /// Passes over those that have theirs, so that nobody looks at them again.
    pub(in crate::memory) fn settle_vectors(&mut self) {
        let next = self.without_vector(1).next().map(|(seq, _)| seq);
        self.vectors_from = next.unwrap_or(self.next_seq);
    }
}
