//! Whether two memories say the same: by their terms, since texts differ in what says nothing.

use super::super::index::Index;

/// Of the terms of the longer of two, how many the shorter has where one adds little to the other; of long ones more.
const REPEATS_SHARE: f32 = 0.8;
const REPEATS_SHARE_LONG: f32 = 0.95;
const LONG_TERMS: usize = 40;
const REPEATS_TERMS_MIN: usize = 3;

/// A row's terms, with a mark for each in one word: rows that share few marks share few terms.
pub(super) struct Terms {
    numbers: Vec<u32>,
    marks: u64,
}

impl Terms {
    pub(super) fn of(index: &Index, row: u32) -> Terms {
        let mut numbers: Vec<u32> = index.terms_of(row).map(|(number, _)| number).collect();
        numbers.sort_unstable();
        let mark = |number: &u32| 1_u64 << (number.wrapping_mul(0x9e37_79b1) >> 26);
        let marks = numbers.iter().map(mark).fold(0, |marks, mark| marks | mark);
        Terms { numbers, marks }
    }

    /// Whether one has all that the other has, and that is nearly all that it has.
    pub(super) fn repeats(&self, other: &Terms) -> bool {
        let (short, long) = match self.numbers.len() <= other.numbers.len() {
            true => (self, other),
            false => (other, self),
        };
        let share = if long.numbers.len() >= LONG_TERMS {
            REPEATS_SHARE_LONG
        } else {
            REPEATS_SHARE
        };
        short.numbers.len() >= REPEATS_TERMS_MIN
            && short.marks & !long.marks == 0
            && short.numbers.len() as f32 >= share * long.numbers.len() as f32
            && short
                .numbers
                .iter()
                .all(|number| long.numbers.binary_search(number).is_ok())
    }
}
