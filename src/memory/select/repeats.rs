//! Whether two memories say the same: by their terms, since texts differ in what says nothing. Terms know no order and
//! no symbols; where they are alike, the texts tell who owes whom, and C++ from C#.

use std::collections::HashSet;

use super::super::index::Index;
use super::looks::Looks;

/// Of the terms of the longer of two, how many the shorter has where one adds little to the other; of long ones more.
const REPEATS_SHARE: f32 = 0.8;
const REPEATS_SHARE_LONG: f32 = 0.95;
const LONG_TERMS: usize = 40;
const REPEATS_TERMS_MIN: usize = 3;
/// Of two long texts with the same terms the starts are compared, which takes some ten microseconds.
const COMPARED_BYTES: usize = 4096;

/// A row's terms in short: how many, and a mark for each in one word. Most pairs of rows are told apart by these alone.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    row: u32,
    count: usize,
    marks: u64,
}

impl Terms {
    pub(super) fn of(index: &Index, row: u32, looks: &Looks) -> Self {
        let mark = |number: u32| 1_u64 << (number.wrapping_mul(0x9e37_79b1) >> 26);
        let none = Self {
            row,
            count: 0,
            marks: 0,
        };
        let of = index.terms_of(row).fold(none, |terms, (number, _)| Self {
            count: terms.count + 1,
            marks: terms.marks | mark(number),
            ..terms
        });
        looks.at_terms(of.count);
        of
    }

    /// Whether one has all that the other has, and that is nearly all that it has.
    pub(super) fn repeats(&self, other: &Self, index: &Index, looks: &Looks) -> bool {
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
            && !looks.are_spent()
            && {
                looks.at_terms(short.count + long.count);
                holds_all(index, short.row, long.row)
            }
    }
}

/// Both have their terms in one order, that of the hashes.
fn holds_all(index: &Index, short: u32, long: u32) -> bool {
    let mut all = index.terms_of(long);
    let mut terms = index.terms_of(short);
    terms.all(|(number, _)| all.any(|(other, _)| other == number))
}

/// Whether the words that two texts have in common stand in one order, and the words with symbols are the same.
pub(super) fn same_words(a: &str, b: &str, looks: &Looks) -> bool {
    let [a, b] = [a, b].map(|text| text[..text.floor_char_boundary(COMPARED_BYTES)].to_lowercase());
    looks.at_bytes(a.len() + b.len());
    let [a, b] = [words(&a), words(&b)];
    let [in_a, in_b]: [HashSet<&str>; 2] = [&a, &b].map(|words| words.iter().copied().collect());
    if in_a
        .symmetric_difference(&in_b)
        .any(|word| has_symbol(word))
    {
        return false;
    }
    let [a, b] = [(a, in_b), (b, in_a)].map(|(words, others)| {
        let common = words.into_iter().filter(|word| others.contains(word));
        common.collect::<Vec<&str>>()
    });
    // One may say a word once more than the other.
    is_within(&a, &b) || is_within(&b, &a)
}

/// Whether all of one list stands in the other, in its order.
fn is_within(short: &[&str], long: &[&str]) -> bool {
    let mut long = long.iter();
    short.iter().all(|word| long.any(|other| other == word))
}

/// A text's words with the symbols at them that mean something: `c++`, `c#`, `-5`.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for mut piece in text.split(|c: char| !c.is_alphanumeric() && !is_symbol(c)) {
        while let Some(at) = hyphen_in(piece) {
            words.push(&piece[..at]);
            piece = &piece[at + 1..];
        }
        words.push(piece);
    }
    words.retain(|word| word.contains(char::is_alphanumeric));
    words
}

/// Where a hyphen joins two words: others write a space there.
fn hyphen_in(piece: &str) -> Option<usize> {
    let mut hyphens = piece.match_indices('-').map(|(at, _)| at);
    hyphens.find(|at| {
        let (before, behind) = (&piece[..*at], &piece[at + 1..]);
        before.ends_with(char::is_alphanumeric) && behind.starts_with(char::is_alphanumeric)
    })
}

fn has_symbol(word: &str) -> bool {
    word.contains(is_symbol)
}

fn is_symbol(c: char) -> bool {
    matches!(c, '+' | '#' | '-')
}
