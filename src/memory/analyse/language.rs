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
        for (at, votes) in self.votes.iter_mut().enumerate() {
            if functions.0 & (1 << at) != 0 {
                *votes += each;
            }
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
const SLOT_WORD: usize = 22;

/// A slot is found by the word's hash and compared by the word itself: nobody's words change what others are taken for.
#[derive(Clone, Copy)]
struct Slot {
    word: [u8; SLOT_WORD],
    len: u8,
    language: u8,
    known: Known,
}

thread_local! {
    static SEEN: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// Looks a word up, in lower case; `hash` is that of its bytes.
pub(super) fn known(word: &str, hash: u64, language: Language) -> Known {
    let bytes = word.as_bytes();
    if bytes.len() > SLOT_WORD {
        return learn(word, language);
    }
    SEEN.with_borrow_mut(|seen| {
        if seen.is_empty() {
            let empty = Slot {
                word: [0; SLOT_WORD],
                len: 0,
                language: 0,
                known: Known::default(),
            };
            seen.resize(SLOTS, empty);
        }
        let at = (hash as usize ^ usize::from(language.0) << 5) % SLOTS;
        match seen.get_mut(at) {
            Some(slot) => {
                let same = slot.word.get(..usize::from(slot.len)) == Some(bytes);
                if !same || slot.language != language.0 {
                    slot.known = learn(word, language);
                    slot.language = language.0;
                    slot.len = bytes.len() as u8;
                    slot.word[..bytes.len()].copy_from_slice(bytes);
                }
                slot.known
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
            super::hash(language.stem(&plain).as_bytes())
        }
        _ => super::hash(language.stem(word).as_bytes()),
    };
    Known {
        functions: Functions::of(word),
        term: stem,
    }
}
