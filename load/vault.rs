//! A vault of made-up chat, for measuring: words as rare as they are in talk, sessions of twenty turns, one a day.

use memoryrouter::memory::analyse::{analyse, tokens};
use memoryrouter::memory::index::{Entry, Index};

const WORDS: u64 = 20_000;
/// The most frequent words of talk say nothing and stand for themselves.
const FILLERS: &[&str] = &[
    "I", "the", "and", "you", "to", "it", "that", "was", "my", "a", "in", "of", "so", "we",
];
const TURNS_PER_SESSION: i64 = 20;
const DAY_MS: i64 = 86_400_000;

/// Numbers that look random and are always the same (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// A word of meaning, the nth most frequent with a chance of one to n + 50.
    fn word(&mut self) -> String {
        let uniform = self.roll(1 << 32) as f64 / (1_u64 << 32) as f64;
        let rank = 50.0 * ((WORDS as f64 / 50.0 + 1.0).powf(uniform) - 1.0);
        let mut word = String::new();
        let mut left = rank as u64 + 7;
        while left > 0 {
            word.push("bcdfgklmnprstvz".as_bytes()[(left % 15) as usize] as char);
            word.push("aeiou".as_bytes()[(left / 15 % 5) as usize] as char);
            left /= 75;
        }
        word + "k"
    }

    /// Some 25 words, half of them of meaning.
    pub(crate) fn turn(&mut self) -> String {
        let words = 12 + self.roll(27);
        let mut text = String::new();
        for _ in 0..words {
            if self.roll(2) == 0 {
                text.push_str(&self.word());
            } else {
                text.push_str(FILLERS[self.roll(FILLERS.len() as u64) as usize]);
            }
            text.push(' ');
        }
        text
    }
}

/// An index over so many turns, and their texts.
pub(crate) fn vault(size: usize) -> (Index, Vec<String>) {
    let mut dice = Dice(7);
    let mut index = Index::default();
    let mut texts = Vec::with_capacity(size);
    for turn in 0..size {
        let text = dice.turn();
        let (day, minute) = (
            turn as i64 / TURNS_PER_SESSION,
            turn as i64 % TURNS_PER_SESSION,
        );
        index.add(&Entry {
            seq: turn as u64,
            at_ms: day * DAY_MS + minute * 60_000,
            session: None,
            tokens: tokens(&text),
            analysed: &analyse(&text),
        });
        texts.push(text);
    }
    (index, texts)
}

/// A question about one of the turns, with about five of its words.
pub(crate) fn question(texts: &[String], dice: &mut Dice) -> String {
    let turn = &texts[dice.roll(texts.len() as u64) as usize];
    let words: Vec<&str> = turn.split(' ').filter(|word| word.ends_with('k')).collect();
    let mut text = String::from("What did I say about the");
    for _ in 0..5 {
        if let Some(word) = words.get(dice.roll(words.len().max(1) as u64) as usize) {
            text.push(' ');
            text.push_str(word);
        }
    }
    text + "?"
}
