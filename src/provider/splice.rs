//! Edits of a body as a sorted list of (range, replacement) over the caller's own bytes.
//!
//! What no edit names leaves as it came, byte for byte: the body is never parsed and written anew. `exchange` gathers
//! the edits, asks for the length that results (it becomes Content-Length) and sends the segments. Edits never
//! overlap: a plan that would is refused when it is made.

use std::ops::Range;

/// An edit that meets another one, or whose range runs backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap;

/// A run of the resulting body, possibly empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A run of the original.
    Kept(Range<usize>),
    /// A replacement.
    New(&'a [u8]),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Edit {
    range: Range<usize>,
    replacement: Box<[u8]>,
}

/// Edits of one body; empty means untouched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splices {
    edits: Vec<Edit>,
}

impl Splices {
    /// No edits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The body leaves as it came.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Takes the bytes of `range` out.
    pub fn remove(&mut self, range: Range<usize>) -> Result<(), Overlap> {
        self.replace(range, [])
    }

    /// Puts `bytes` before the byte at `at`; several at one place stand in the order in which they were added.
    pub fn insert(&mut self, at: usize, bytes: impl Into<Box<[u8]>>) -> Result<(), Overlap> {
        self.replace(at..at, bytes)
    }

    /// Puts `bytes` in the place of `range`. Adding in ascending order costs nothing; the few that come out of order
    /// are sorted in.
    pub fn replace(
        &mut self,
        range: Range<usize>,
        bytes: impl Into<Box<[u8]>>,
    ) -> Result<(), Overlap> {
        if range.start > range.end {
            return Err(Overlap);
        }
        let replacement = bytes.into();
        if range.is_empty() && replacement.is_empty() {
            return Ok(());
        }
        // Behind all that start before it, and behind insertions at its own start. An edit that ends where the next
        // one starts touches it and does not overlap it.
        let index = match self.edits.last() {
            Some(last) if !stands_before(last, range.start) => self
                .edits
                .partition_point(|edit| stands_before(edit, range.start)),
            _ => self.edits.len(),
        };
        let before_ends = index
            .checked_sub(1)
            .map_or(0, |before| self.edits[before].range.end);
        let behind_starts = self
            .edits
            .get(index)
            .map_or(usize::MAX, |edit| edit.range.start);
        if before_ends > range.start || range.end > behind_starts {
            return Err(Overlap);
        }
        self.edits.insert(index, Edit { range, replacement });
        Ok(())
    }

    /// How long a body of `original_len` bytes becomes.
    pub fn len_after(&self, original_len: usize) -> usize {
        self.edits.iter().fold(original_len, |len, edit| {
            let range = clamp(&edit.range, original_len);
            len - range.len() + edit.replacement.len()
        })
    }

    /// The resulting body as ranges of an original of `original_len` bytes, and replacements, in order.
    pub fn pieces(&self, original_len: usize) -> impl Iterator<Item = Piece<'_>> {
        let mut kept_from = 0;
        let edited = self.edits.iter().flat_map(move |edit| {
            let range = clamp(&edit.range, original_len);
            let kept = Piece::Kept(kept_from..range.start);
            kept_from = range.end;
            [kept, Piece::New(&edit.replacement)]
        });
        let tail_from = match self.edits.last() {
            Some(last) => clamp(&last.range, original_len).end,
            None => 0,
        };
        edited.chain([Piece::Kept(tail_from..original_len)])
    }

    /// The pieces as bytes, none empty.
    pub fn segments<'a>(&'a self, original: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let bytes = |piece| match piece {
            Piece::Kept(range) => &original[range],
            Piece::New(bytes) => bytes,
        };
        self.pieces(original.len())
            .map(bytes)
            .filter(|bytes: &&[u8]| !bytes.is_empty())
    }

    /// The resulting body in one piece.
    pub fn apply(&self, original: &[u8]) -> Vec<u8> {
        let mut result = Vec::with_capacity(self.len_after(original.len()));
        for segment in self.segments(original) {
            result.extend_from_slice(segment);
        }
        result
    }
}

/// Insertions at `start` itself come first.
fn stands_before(edit: &Edit, start: usize) -> bool {
    edit.range.start < start || edit.range == (start..start)
}

/// A plan made for another, longer body cuts what there is and cannot panic.
fn clamp(range: &Range<usize>, len: usize) -> Range<usize> {
    range.start.min(len)..range.end.min(len)
}

#[cfg(test)]
mod tests;
