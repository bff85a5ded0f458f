//! Text as numbers: the words that carry meaning, as stable 64-bit hashes of their stems, with how often each stands.
//!
//! Every word has a term that all texts share, whatever language they are taken for: its English stem, accents off. In
//! a text of another language it has that language's stem as well, where it differs. So the same word meets itself
//! between a question of two words and a long answer, and its inflections meet inside a language. Scripts without
//! spaces give pairs of characters. Names of code, hosts and addresses give their parts and the whole; `C++` and `C#` are
//! words.

mod language;
mod script;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use language::{Ballot, Functions, Language, known};
pub(super) use script::token_quarters;
use script::{Kind, Script, kind, plain, sign};

/// Changes whenever the same text gives other terms: what was analysed under another version is analysed anew.
pub const VERSION: u16 = 3;

/// What stands behind this in a text is not analysed.
const BYTES_MAX: usize = 64 * 1024;
/// Longer words are told apart by this many bytes of theirs.
const WORD_BYTES_MAX: usize = 64;

/// A text's terms, each once, and its length in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysed {
    /// In ascending order of the hashes.
    pub terms: Vec<(u64, u16)>,
    /// Words that count.
    pub len: u32,
}

/// The terms of a text. The same text always gives the same, on every machine.
pub fn analyse(text: &str) -> Analysed {
    let text = &text[..text.floor_char_boundary(BYTES_MAX)];
    let mut scan = Scan::default();
    let plain_ascii = text.is_ascii();
    if plain_ascii || is_nfkc_quick(text.chars()) == IsNormalized::Yes {
        scan.text(text);
    } else {
        scan.text(&text.nfkc().collect::<String>());
    }
    scan.finish()
}

/// About how many tokens a model makes of a text: one for four bytes of English or code, more of scripts that models
/// know by smaller pieces, one for each character of scripts without spaces.
pub fn tokens(text: &str) -> u32 {
    let quarters = match text.is_ascii() {
        true => text.len() as u64,
        false => text.chars().map(script::token_quarters).sum(),
    };
    u32::try_from(quarters.div_ceil(4)).unwrap_or(u32::MAX)
}

/// FNV-1a with a finish that spreads it over all bits: tables take a term for its own hash.
fn hash(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (folded ^ (folded >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

/// A word that was found, in `Scan::letters`.
#[derive(Clone, Copy)]
struct Word {
    start: u32,
    end: u32,
    script: Script,
    functions: Functions,
    shared: u64,
    /// A whole whose parts are words as well: it makes the text no longer.
    whole: bool,
}

/// Walks over a text once.
#[derive(Default)]
struct Scan {
    /// All words of the text in lower case, one after the other.
    letters: String,
    words: Vec<Word>,
    terms: Vec<u64>,
    len: u32,
    ballot: Ballot,
}

impl Scan {
    fn text(&mut self, text: &str) {
        self.letters.reserve(text.len());
        self.words.reserve(text.len() / 5);
        let mut rest = text;
        while let Some(byte) = rest.bytes().next() {
            let end = match byte {
                b' ' => 1,
                _ => match plain_word(rest) {
                    Some(word) => self.plain(word),
                    None => self.other(rest),
                },
            };
            rest = rest.get(end..).unwrap_or_default();
        }
    }

    /// Reads what stands at the start of `text`, whatever it is; returns where it ends.
    fn other(&mut self, text: &str) -> usize {
        let c = text.chars().next().unwrap_or_default();
        match kind(c) {
            Kind::Gap | Kind::Mark => c.len_utf8(),
            Kind::Digit | Kind::Letter(_) => self.word(text),
            Kind::Paired | Kind::Han => self.run(text),
        }
    }

    /// What `word` does with such a word, which most are.
    fn plain(&mut self, word: &str) -> usize {
        let start = self.letters.len();
        // Only the first may be a capital.
        let (first, others) = word.split_at_checked(1).unwrap_or_default();
        self.letters
            .extend(first.chars().map(|c| c.to_ascii_lowercase()));
        self.letters.push_str(others);
        self.push_word(start, Some(Script::Latin));
        if let Some(word) = self.words.last() {
            self.ballot.count(word.functions);
        }
        word.len()
    }

    /// Reads the word at the start of `text`; returns where it ends. A name that is joined of words (`.`, `_`, a capital
    /// inside) gives them and itself.
    fn word(&mut self, text: &str) -> usize {
        let start = self.letters.len();
        let mut part = start;
        let mut parts = 0;
        let (mut script, mut part_script) = (None, None);
        let mut digits = true;
        let mut capital_before = true;
        let mut end = 0;
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let kind_here = kind(c);
            match kind_here {
                Kind::Letter(of) => {
                    let capital = c.is_uppercase();
                    if capital && !capital_before && !digits && self.letters.len() - part >= 2 {
                        self.push_word(part, part_script);
                        (part, parts, part_script) = (self.letters.len(), parts + 1, None);
                    }
                    capital_before = capital;
                    digits = false;
                    part_script = part_script.or(Some(of));
                    script = script.or(Some(of));
                    // Only the Turkish İ has two, and the second is a mark.
                    let lower = c.to_lowercase().next().unwrap_or(c);
                    self.letters.push(lowered(lower, of));
                }
                Kind::Digit => {
                    self.letters.push(c);
                    capital_before = true;
                }
                // What shapes a letter stays with it, but for points that only say how a word is spoken.
                Kind::Mark => {
                    let pointed = matches!(
                        part_script,
                        Some(Script::Arabic | Script::Hebrew | Script::Latin)
                    );
                    if !pointed && !matches!(c, '\u{200c}' | '\u{200d}') {
                        self.letters.push(c);
                    }
                }
                Kind::Gap => {
                    let letters = self.letters.len() - start;
                    if let Some(sign) = sign(&text[at..]).filter(|_| letters == 1 && !digits) {
                        self.letters.push_str(sign);
                        end = at + sign.len();
                        break;
                    }
                    let next = chars.peek().map(|(_, next)| kind(*next));
                    let joined = match (c, next) {
                        ('\'' | '\u{2019}', Some(Kind::Letter(_))) if !digits => {
                            // Short endings belong to their word ("dog's", "we'll"); what is longer is a word
                            // ("l'amour", "O'Brien").
                            let ending = text[at + c.len_utf8()..].chars();
                            let long = ending
                                .take_while(|c| matches!(kind(*c), Kind::Letter(_)))
                                .count()
                                > 2;
                            if long {
                                Joint::Gap
                            } else {
                                Joint::Letter('\'')
                            }
                        }
                        ('.', Some(Kind::Digit)) if digits => Joint::Letter('.'),
                        (',', Some(Kind::Digit)) if digits && is_thousand(&text[at + 1..]) => {
                            Joint::Nothing
                        }
                        ('.', Some(Kind::Letter(_))) => Joint::Part,
                        ('_', Some(Kind::Letter(_) | Kind::Digit)) => Joint::Part,
                        _ => Joint::Gap,
                    };
                    match joined {
                        Joint::Gap => break,
                        Joint::Nothing => {}
                        Joint::Letter(joint) => self.letters.push(joint),
                        Joint::Part => {
                            self.push_word(part, part_script);
                            // The whole begins anew behind its parts, so the joint is only between them.
                            (part, parts, part_script) = (self.letters.len(), parts + 1, None);
                            capital_before = true;
                            digits = true;
                        }
                    }
                }
                Kind::Paired | Kind::Han => break,
            }
            end = at + c.len_utf8();
            if self.letters.len() - start > WORD_BYTES_MAX {
                // Far too long for a word: what is left of it says no more.
                let left = text[end..].find(|c| !matches!(kind(c), Kind::Letter(_) | Kind::Digit));
                end = left.map_or(text.len(), |left| end + left);
                break;
            }
        }
        self.push_word(part, part_script);
        if parts > 0 {
            let whole = self.letters.len();
            self.letters.extend_from_within(start..whole);
            self.push_word(whole, script);
            if let Some(word) = self.words.last_mut() {
                word.whole = true;
            }
        } else if let Some(word) = self
            .words
            .last()
            .filter(|word| word.script == Script::Latin)
        {
            // Parts of names ("com") tell nothing about the language around them.
            self.ballot.count(word.functions);
        }
        end
    }

    fn push_word(&mut self, start: usize, script: Option<Script>) {
        let Some(letters) = self
            .letters
            .get(start..)
            .filter(|letters| !letters.is_empty())
        else {
            return;
        };
        // "05" of a date is the 5 of a sentence.
        let zeros = match (script, letters.as_bytes()) {
            (None, [b'0', digit]) if digit.is_ascii_digit() => 1,
            _ => 0,
        };
        let letters = &letters[zeros..];
        let known = known(letters, Language::ENGLISH);
        let script = script.unwrap_or(Script::Other);
        self.words.push(Word {
            start: (start + zeros) as u32,
            end: self.letters.len() as u32,
            script,
            functions: known.functions,
            shared: known.term,
            whole: false,
        });
    }
}

/// A word of ASCII letters at the start of `text`, only its first a capital, before a character that ends every word.
fn plain_word(text: &str) -> Option<&str> {
    let (first, others) = text.as_bytes().split_first()?;
    if !first.is_ascii_alphabetic() {
        return None;
    }
    let others = others
        .iter()
        .take_while(|byte| byte.is_ascii_lowercase())
        .count();
    let word = text.get(..1 + others)?;
    let ends = match text.as_bytes().get(word.len()) {
        None => true,
        Some(b'\'' | b'.' | b'_' | b'+' | b'#') => false,
        Some(behind) => behind.is_ascii() && !behind.is_ascii_alphanumeric(),
    };
    (ends && word.len() <= WORD_BYTES_MAX).then_some(word)
}

/// What a character between two others does to the word.
enum Joint {
    Gap,
    Nothing,
    Letter(char),
    Part,
}

/// True at three digits that end there.
fn is_thousand(text: &str) -> bool {
    text.bytes().take_while(u8::is_ascii_digit).count() == 3
}

/// Greek and Cyrillic are written with and without accents; Latin accents are kept for the language's own stemmer.
fn lowered(c: char, script: Script) -> char {
    match script {
        Script::Greek | Script::Cyrillic => plain(c),
        _ => c,
    }
}

impl Scan {
    /// Reads the run of a script without spaces at the start of `text` by pairs; returns where it ends.
    fn run(&mut self, text: &str) -> usize {
        let mut before: Option<&str> = None;
        let mut pairs = 0;
        let mut at = 0;
        while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
            let kind_here = kind(c);
            if !matches!(kind_here, Kind::Paired | Kind::Han) {
                break;
            }
            // The prolonged sound mark and the like are letters; marks stay with their character.
            let marks = text[at + c.len_utf8()..].find(|c| kind(c) != Kind::Mark);
            let end = marks.map_or(text.len(), |marks| at + c.len_utf8() + marks);
            let cluster = text.get(at..end).unwrap_or_default();
            if kind_here == Kind::Han && !Functions::of(cluster).in_language(Language::CHINESE) {
                self.terms.push(hash(cluster.as_bytes()));
            }
            if let Some(before) = before {
                let from = at - before.len();
                self.terms
                    .push(hash(text.get(from..end).unwrap_or_default().as_bytes()));
                pairs += 1;
            }
            before = Some(cluster);
            at = end;
        }
        if let (0, Some(alone)) = (pairs, before) {
            self.terms.push(hash(alone.as_bytes()));
        }
        self.len += pairs.max(1);
        at
    }

    fn finish(mut self) -> Analysed {
        let latin = self.ballot.winner();
        // One function word alone hardly tells a language ("dog" is one in Danish), and may be what the text is about.
        let telling = |word: &&Word| word.functions.in_language(latin);
        let mut telling = self.words.iter().filter(telling).map(|word| word.shared);
        let first = telling.next();
        let sure = latin == Language::ENGLISH || telling.any(|other| Some(other) != first);
        self.terms.reserve(self.words.len());
        for word in &self.words {
            let letters = self
                .letters
                .get(word.start as usize..word.end as usize)
                .unwrap_or_default();
            let of_script = Language::of_script(word.script);
            let language = match word.script {
                Script::Latin => latin,
                _ => of_script.unwrap_or(Language::ENGLISH),
            };
            if word.functions.in_language(language) && (sure || language != latin) {
                continue;
            }
            self.len += u32::from(!word.whole);
            let own = match language {
                Language::ENGLISH if letters.is_ascii() => word.shared,
                // Nothing tells the language of a word with accents: with them it is itself.
                Language::ENGLISH => hash(letters.as_bytes()),
                _ => known(letters, language).term,
            };
            self.terms.push(own);
            if own != word.shared && of_script.is_none() {
                self.terms.push(word.shared);
            }
        }
        self.terms.sort_unstable();
        let mut terms: Vec<(u64, u16)> = Vec::with_capacity(self.terms.len());
        for term in self.terms {
            match terms.last_mut() {
                Some((last, count)) if *last == term => *count = count.saturating_add(1),
                _ => terms.push((term, 1)),
            }
        }
        Analysed {
            terms,
            len: self.len,
        }
    }
}

#[cfg(test)]
mod tests;
