//! Which of a vault's memories have vectors, where a model is configured.

use super::Vault;

impl Vault {
    /// Whether a query's vector would tell anything.
    pub(in crate::memory) fn has_vectors(&self) -> bool {
        self.index.has_vectors()
    }

    /// Gives a memory its vector; false if it is gone, or the vector is no use.
    pub(in crate::memory) fn set_vector(&mut self, seq: u64, vector: &[f32]) -> bool {
        self.index.set_vector(seq, vector)
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
            .filter(|kept| !self.index.has_vector(kept.seq));
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
