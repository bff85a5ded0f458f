//! How much of a vault one choice reads. A vault's owner can fill it with texts that are long to look at or long to tell
//! apart, and the worker that looks has others to serve.

use std::cell::Cell;

/// Terms of memories, or as much as takes the time of one: some milliseconds. Where memories are of the length that
/// people and models write, a choice of thirty looks at some thousands. Hits come best first, so what is left out when it
/// is spent is the least.
const LOOKS_MAX: usize = 1 << 19;
/// What a byte of two texts that are compared word by word takes.
const BYTE_LOOKS: usize = 2;

/// What is left of it.
pub(super) struct Looks(Cell<usize>);

impl Default for Looks {
    fn default() -> Self {
        Self(Cell::new(LOOKS_MAX))
    }
}

impl Looks {
    pub(super) fn are_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// So many terms are looked at.
    pub(super) fn at_terms(&self, count: usize) {
        self.0.set(self.0.get().saturating_sub(count));
    }

    /// So many bytes of texts are compared.
    pub(super) fn at_bytes(&self, count: usize) {
        self.at_terms(count * BYTE_LOOKS);
    }
}
