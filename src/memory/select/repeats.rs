//! Whether two memories say the same: by their terms, since texts differ in what says nothing.

use super::super::index::Index;

/// Of the terms of the longer of two, how many the shorter has where one adds little to the other; of long ones more.
const REPEATS_SHARE: f32 = 0.8;
const REPEATS_SHARE_LONG: f32 = 0.95;
const LONG_TERMS: usize = 40;
const REPEATS_TERMS_MIN: usize = 3;

/// A row's terms in short: how many, and a mark for each in one word. Most pairs of rows are told apart by these alone.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    row: u32,
    count: usize,
    marks: u64,
}

impl Terms {
    pub(super) fn of(index: &Index, row: u32) -> Self {
        let mark = |number: u32| 1_u64 << (number.wrapping_mul(0x9e37_79b1) >> 26);
        let none = Self {
            row,
            count: 0,
            marks: 0,
        };
        index.terms_of(row).fold(none, |terms, (number, _)| Self {
            count: terms.count + 1,
            marks: terms.marks | mark(number),
            ..terms
        })
    }

    /// Whether one has all that the other has, and that is nearly all that it has.
    pub(super) fn repeats(&self, other: &Self, index: &Index) -> bool {
        let (short, long) = if self.count <= other.count {
            (self, other)
        } else {
            (other, self)
        };
        let share = if long.count >= LONG_TERMS {
            REPEATS_SHARE_LONG
        } else {
            REPEATS_SHARE
        };
        short.count >= REPEATS_TERMS_MIN
            && short.marks & !long.marks == 0
            && short.count as f32 >= share * long.count as f32
            && holds_all(index, short.row, long.row)
    }
}

fn holds_all(index: &Index, short: u32, long: u32) -> bool {
    let mut all: Vec<u32> = index.terms_of(long).map(|(number, _)| number).collect();
    all.sort_unstable();
    let mut terms = index.terms_of(short);
    terms.all(|(number, _)| all.binary_search(&number).is_ok())
}
