//! Which language a text is in, which of its words say nothing, and the stems of the others.
//!
//! A text's language is told by its function words, since those are what short texts have; letters of a script of its
//! own tell without. The lists are those of the Snowball project as PostgreSQL and NLTK carry them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use waken_snowball::{Algorithm, stem};

use super::script::{Script, plain};

/// A language by its place in `LANGUAGES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Language(u8);

/// All that have a stemmer or a list, with their names in `stop_words.txt`. English stands first: it wins a draw.
#[rustfmt::skip] // A table reads by rows.
const LANGUAGES: &[(&str, Option<Algorithm>, Script)] = &[
    ("en", Some(Algorithm::English), Script::Latin),
    ("de", Some(Algorithm::German), Script::Latin),
    ("fr", Some(Algorithm::French), Script::Latin),
    ("es", Some(Algorithm::Spanish), Script::Latin),
    ("pt", Some(Algorithm::Portuguese), Script::Latin),
    ("it", Some(Algorithm::Italian), Script::Latin),
    ("nl", Some(Algorithm::Dutch), Script::Latin),
    ("sv", Some(Algorithm::Swedish), Script::Latin),
    ("no", Some(Algorithm::Norwegian), Script::Latin),
    ("da", Some(Algorithm::Danish), Script::Latin),
    ("fi", Some(Algorithm::Finnish), Script::Latin),
    ("hu", Some(Algorithm::Hungarian), Script::Latin),
    ("ro", Some(Algorithm::Romanian), Script::Latin),
    ("tr", Some(Algorithm::Turkish), Script::Latin),
    ("ca", Some(Algorithm::Catalan), Script::Latin),
    ("id", Some(Algorithm::Indonesian), Script::Latin),
    ("ru", Some(Algorithm::Russian), Script::Cyrillic),
    ("el", Some(Algorithm::Greek), Script::Greek),
    ("ar", Some(Algorithm::Arabic), Script::Arabic),
    ("he", None, Script::Hebrew),
    ("hy", Some(Algorithm::Armenian), Script::Armenian),
    ("hi", Some(Algorithm::Hindi), Script::Devanagari),
    ("ta", Some(Algorithm::Tamil), Script::Tamil),
    // Its characters that say nothing alone; there are no words to find.
    ("zh", None, Script::Other),
];

const STOP_WORDS: &str = include_str!("stop_words.txt");

/// Each function word with the set of languages that have it, a bit each.
static FUNCTION_WORDS: LazyLock<HashMap<String, u32>> = LazyLock::new(|| {
    let mut words = HashMap::new();
    for line in STOP_WORDS.lines() {
        let mut of_line = line.split(' ');
        let code = of_line.next();
        let language = LANGUAGES.iter().position(|l| Some(l.0) == code);
        let greek = code == Some("el");
        for word in of_line {
            // As the scanner writes it.
            let word = match greek {
                true => word.chars().map(plain).collect(),
                false => word.replace('ё', "е"),
            };
            *words.entry(word).or_insert(0) |= 1 << language.unwrap_or(31);
        }
    }
    words
});

/// The languages that a word is a function word of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Functions(u32);

impl Functions {
    pub(super) fn of(word: &str) -> Functions {
        Functions(FUNCTION_WORDS.get(word).copied().unwrap_or(0))
    }

    pub(super) fn in_language(self, language: Language) -> bool {
        self.0 & (1 << language.0) != 0
    }
}

impl Language {
    pub(super) const ENGLISH: Language = Language(0);
    pub(super) const CHINESE: Language = Language(LANGUAGES.len() as u8 - 1);

    /// The one that a script is read as; None for Latin, where the words decide, and for scripts without a stemmer.
    pub(super) fn of_script(script: Script) -> Option<Language> {
        let found = LANGUAGES.iter().position(|language| language.2 == script);
        let own = !matches!(script, Script::Latin | Script::Other);
        found.filter(|_| own).map(|at| Language(at as u8))
    }

    /// The word's stem.
    pub(super) fn stem(self, word: &str) -> std::borrow::Cow<'_, str> {
        match LANGUAGES.get(usize::from(self.0)).and_then(|l| l.1) {
            Some(algorithm) => stem(algorithm, word),
            None => word.into(),
        }
    }
}

/// Counts function words to tell a text's language: one that fewer languages share counts more.
#[derive(Default)]
pub(super) struct Ballot {
    votes: [u32; LANGUAGES.len()],
}

impl Ballot {
    const WHOLE: u32 = 60;

    pub(super) fn count(&mut self, functions: Functions) {
        if functions.0 == 0 {
            return;
        }
        let each = Ballot::WHOLE / functions.0.count_ones();
        let mut left = functions.0;
        while left != 0 {
            if let Some(votes) = self.votes.get_mut(left.trailing_zeros() as usize) {
                *votes += each;
            }
            left &= left - 1;
        }
    }

    /// English if nothing tells.
    pub(super) fn winner(&self) -> Language {
        let mut winner = 0;
        for (at, votes) in self.votes.iter().enumerate() {
            if *votes > self.votes[winner] {
                winner = at;
            }
        }
        Language(winner as u8)
    }
}

/// What is known of a word: the same words come again and again, and a stem costs more than all else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) functions: Functions,
    /// Of its stem in the language that was asked for.
    pub(super) term: u64,
}

const SLOTS: usize = 4096;

/// What a word of 1 to 24 bytes is looked up by, whole: nobody's words change what others are taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SlotKey {
    /// Its first, middle and last bytes, which overlap in a short word.
    parts: [u64; 3],
    len: u8,
    language: u8,
}

impl SlotKey {
    /// Reads the word by eight bytes: one after the other takes longer than all else that is done with it.
    fn new(word: &[u8], language: Language) -> Option<SlotKey> {
        let long = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let short = |bytes: Option<&[u8; 4]>| bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let parts = match word {
            [a] => [u64::from(*a), 0, 0],
            [a, b] => [u64::from(*a), u64::from(*b), 0],
            [a, b, c] => [u64::from(*a), u64::from(*b), u64::from(*c)],
            [_, _, _, _, ..] if word.len() < 8 => [
                u64::from(short(word.first_chunk())),
                u64::from(short(word.last_chunk())),
                0,
            ],
            [_, _, _, _, ..] if word.len() <= 16 => {
                [long(word.first_chunk()), long(word.last_chunk()), 0]
            }
            [_, _, _, _, _, _, _, _, behind @ ..] if word.len() <= 24 => [
                long(word.first_chunk()),
                long(behind.first_chunk()),
                long(word.last_chunk()),
            ],
            _ => return None,
        };
        Some(SlotKey {
            parts,
            len: word.len() as u8,
            language: language.0,
        })
    }

    fn slot(&self) -> usize {
        let [a, b, c] = self.parts;
        let small = u64::from(self.len) << 8 | u64::from(self.language);
        let folded = a ^ b.rotate_left(21) ^ c.rotate_left(42) ^ small << 48;
        // The highest bits of a product hang on all of its factor's (Knuth, TAOCP 6.4).
        (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SLOTS
    }
}

thread_local! {
    static SEEN: RefCell<Vec<(SlotKey, Known)>> = const { RefCell::new(Vec::new()) };
}

/// Looks a word up, in lower case.
pub(super) fn known(word: &str, language: Language) -> Known {
    let Some(key) = SlotKey::new(word.as_bytes(), language) else {
        return learn(word, language);
    };
    SEEN.with_borrow_mut(|seen| {
        if seen.is_empty() {
            seen.resize(SLOTS, Default::default());
        }
        match seen.get_mut(key.slot()) {
            Some((taken, known)) => {
                if *taken != key {
                    (*taken, *known) = (key, learn(word, language));
                }
                *known
            }
            None => learn(word, language),
        }
    })
}

fn learn(word: &str, language: Language) -> Known {
    let stem = match language {
        // What all texts share: see `analyse`.
        Language::ENGLISH if !word.is_ascii() => {
            let plain: String = word.chars().map(plain).collect();
            // Two letters to who has no key for it, and so no matter for `plain`.
            let plain = plain
                .replace('ß', "ss")
                .replace('æ', "ae")
                .replace('œ', "oe");
            super::hash(language.stem(&plain).as_bytes())
        }
        _ => super::hash(language.stem(word).as_bytes()),
    };
    Known {
        functions: Functions::of(word),
        term: stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_looked_up_by_each_of_its_bytes() {
        for len in 0..30 {
            let word = "x".repeat(len);
            let other = |at: usize| format!("{}y{}", &word[..at], &word[at + 1..]);
            let longer = format!("{word}x");
            let words = (0..len).map(other).chain([longer, word.clone()]);
            let words: Vec<String> = words.collect();
            for (at, a) in words.iter().enumerate() {
                let key = |word: &str, code| SlotKey::new(word.as_bytes(), Language(code));
                assert_eq!(key(a, 0).is_some(), (1..=24).contains(&a.len()), "{a}");
                assert!(key(a, 0).is_none() || key(a, 0) != key(a, 1), "{a}");
                for b in words.iter().skip(at + 1) {
                    assert!(key(a, 0).is_none() || key(a, 0) != key(b, 0), "{a} {b}");
                }
            }
        }
    }

    #[test]
    fn a_slot_that_another_word_has_tells_nothing() {
        // More words than there are slots, twice, so that each slot has had others.
        let words: Vec<String> = (0..3 * SLOTS).map(|n| format!("running{n}ings")).collect();
        for word in words.iter().chain(&words) {
            let known = known(word, Language::ENGLISH);
            assert_eq!(known.term, learn(word, Language::ENGLISH).term, "{word}");
        }
    }
}
