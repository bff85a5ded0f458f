//! Which of an index's memories have vectors.

use super::Index;

impl Index {
    /// Gives a memory its vector; those of another length than the first are not taken. False if nothing was.
    pub fn set_vector(&mut self, seq: u64, vector: &[f32]) -> bool {
        self.row_of(seq)
            .is_some_and(|row| self.vectors.set(row, vector))
    }

    /// True if any memory has a vector.
    pub fn has_vectors(&self) -> bool {
        self.vectors.dimensions().is_some()
    }

    /// True if this one has, or none is to be had for it.
    pub(in crate::memory) fn is_settled(&self, seq: u64) -> bool {
        self.row_of(seq)
            .is_some_and(|row| self.vectors.is_settled(row))
    }

    /// False if there is no such memory.
    pub(in crate::memory) fn give_up_vector(&mut self, seq: u64) -> bool {
        let row = self.row_of(seq);
        row.inspect(|row| self.vectors.give_up(*row)).is_some()
    }
}
