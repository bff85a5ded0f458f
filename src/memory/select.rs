//! Chooses from a vault what goes into one request: of the best, those that tell it something.
//!
//! Left out: what hardly matches, what repeats another, what already stands in the request, what does not fit. A
//! greeting, and a query that no memory has a word of that matters, bring nothing. With a session, half of the places
//! are first that session's. A fifth of the places is kept for the best of the last days where they are not among the
//! best anyway. The order is by relevance.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::analyse::{Analysed, analyse};
use super::index::Index;
use super::rank::{Hit, idf, ranked};
use super::words::{Query, Window};

/// Hits looked at for each place, and at least.
const HITS_PER_PLACE: usize = 3;
const HITS_MIN: usize = 64;
/// Of the best one's score; what has less, and too little of the query's own words, is only next to what matches.
const SCORE_SHARE_MIN: f32 = 0.2;
/// Of what the query's rarest terms say together, how much one of the best is to have.
const SAID_SHARE_MIN: f32 = 0.15;
const SAID_TERMS: usize = 5;
/// In a smaller vault terms are rare by chance.
const SAID_COUNT_MIN: f32 = 1000.0;
const LOOKED_AT: usize = 5;
/// One place in so many is kept for the last days.
const RECENT_ONE_IN: usize = 5;
/// Of the terms of the longer of two, how many the shorter has where one adds little to the other; of long ones more.
const REPEATS_SHARE: f32 = 0.8;
const REPEATS_SHARE_LONG: f32 = 0.95;
const LONG_TERMS: usize = 40;
const REPEATS_TERMS_MIN: usize = 3;
/// A long message is read at both of its ends: the question stands at one of them.
const QUERY_END_BYTES: usize = 2048;
/// A shorter text may stand in the query by chance.
const INSIDE_BYTES_MIN: usize = 16;

/// A memory chosen for a request, with its text as `text_of` gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen<T> {
    /// Its place in the vault.
    pub seq: u64,
    /// As it was read.
    pub text: T,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: i64,
    /// Of its text, estimated.
    pub tokens: u32,
    /// Of the session that was asked for, not of the core vault.
    pub in_session: bool,
    /// Within one answer: the best has about 1.
    pub score: f32,
    /// How long ago.
    pub window: Window,
}

/// What helps with the query, best first. `text_of` reads the text of a place, for those only that are about to be
/// chosen; what it has none for is passed over.
pub fn select<T: AsRef<str>>(
    index: &Index,
    query: &Query<'_>,
    text_of: impl FnMut(u64) -> Option<T>,
) -> Vec<Chosen<T>> {
    select_with_vector(index, query, None, text_of)
}

/// The same with the query's vector, where there is one.
pub fn select_with_vector<T: AsRef<str>>(
    index: &Index,
    query: &Query<'_>,
    vector: Option<&[f32]>,
    mut text_of: impl FnMut(u64) -> Option<T>,
) -> Vec<Chosen<T>> {
    let text = both_ends(query.text);
    if query.limit == 0 || query.tokens_max == 0 || index.is_empty() || is_small_talk(&text) {
        return Vec::new();
    }
    let asked = analyse(&text);
    let looked_at = (query.limit.saturating_mul(HITS_PER_PLACE)).max(HITS_MIN);
    let mut hits = ranked(index, &asked, vector, query.session, looked_at);
    let said = Said::of(index, &asked);
    let best = hits.iter().take(LOOKED_AT);
    if vector.is_none() && !best.clone().any(|hit| said.enough_in(index, hit)) {
        return Vec::new();
    }
    let least = SCORE_SHARE_MIN * hits.first().map_or(0.0, |hit| hit.score);
    hits.retain(|hit| hit.matched > 0.0 && (hit.score >= least || said.enough_in(index, hit)));
    let mut choice = Choice {
        index,
        query,
        taken: Vec::with_capacity(query.limit.min(hits.len())),
        tokens: 0,
    };
    choice.fill(&hits, &mut text_of);
    choice.make_place_for_recent(&hits, &mut text_of);
    choice.finish()
}

/// The ends of a long text.
fn both_ends(text: &str) -> Cow<'_, str> {
    if text.len() <= 2 * QUERY_END_BYTES {
        return text.into();
    }
    let head = &text[..text.floor_char_boundary(QUERY_END_BYTES)];
    let tail = &text[text.ceil_char_boundary(text.len() - QUERY_END_BYTES)..];
    Cow::Owned([head, " ", tail].concat())
}

/// What people say without asking for anything.
const SMALL_TALK: &[&str] = &[
    "hi",
    "hello",
    "hey",
    "hiya",
    "yo",
    "morning",
    "afternoon",
    "evening",
    "night",
    "good",
    "great",
    "nice",
    "cool",
    "ok",
    "okay",
    "k",
    "yes",
    "yeah",
    "yep",
    "no",
    "nope",
    "sure",
    "thanks",
    "thank",
    "thx",
    "ty",
    "you",
    "please",
    "bye",
    "goodbye",
    "there",
    "how",
    "are",
    "is",
    "it",
    "going",
    "what",
    "up",
    "sup",
    "so",
    "much",
    "very",
    "a",
    "lot",
    "and",
    "well",
    "fine",
    "welcome",
    "test",
    "testing",
    "ping",
    "hallo",
    "guten",
    "tag",
    "morgen",
    "abend",
    "danke",
    "bitte",
    "ja",
    "nein",
    "tschüss",
    "servus",
    "bonjour",
    "bonsoir",
    "salut",
    "merci",
    "oui",
    "non",
    "hola",
    "buenos",
    "buenas",
    "días",
    "dias",
    "tardes",
    "noches",
    "gracias",
    "sí",
    "si",
    "adiós",
    "ciao",
    "buongiorno",
    "grazie",
    "olá",
    "ola",
    "oi",
    "obrigado",
    "obrigada",
    "bom",
    "dia",
    "hoi",
    "dank",
    "je",
    "wel",
    "hej",
    "tack",
    "tak",
    "takk",
    "привет",
    "здравствуйте",
    "спасибо",
    "да",
    "нет",
    "merhaba",
    "teşekkürler",
    "你好",
    "您好",
    "谢谢",
    "こんにちは",
    "ありがとう",
    "안녕하세요",
    "감사합니다",
    "مرحبا",
    "شكرا",
    "שלום",
    "תודה",
    "नमस्ते",
    "धन्यवाद",
    "สวัสดี",
    "ขอบคุณ",
];

fn is_small_talk(text: &str) -> bool {
    // Longer than all that is small.
    if text.len() > 64 {
        return false;
    }
    let mut words = text.split(|c: char| {
        c.is_whitespace() || c.is_ascii_punctuation() || "¡¿！。、，؟".contains(c)
    });
    words.all(|word| word.is_empty() || SMALL_TALK.contains(&&*word.to_lowercase()))
}

/// What a query is about: its terms' numbers, each with how rare it is.
struct Said {
    terms: Vec<(u32, f32)>,
    enough: f32,
}

impl Said {
    fn of(index: &Index, asked: &Analysed) -> Said {
        let count = (index.len() as f32).max(SAID_COUNT_MIN);
        let rarity = |rows: usize| idf(count, rows.max(1) as f32);
        let mut terms = Vec::with_capacity(asked.terms.len());
        let mut rarities = Vec::with_capacity(asked.terms.len());
        for (term, _) in &asked.terms {
            let number = index.number_of(*term);
            let rarity = rarity(number.map_or(0, |number| index.rows_with(number)));
            terms.extend(number.map(|number| (number, rarity)));
            rarities.push(rarity);
        }
        rarities.sort_unstable_by(|a, b| b.total_cmp(a));
        let most = rarities.iter().take(SAID_TERMS).sum::<f32>();
        Said {
            terms,
            enough: SAID_SHARE_MIN * most,
        }
    }

    /// Whether a memory's own words say enough of it.
    fn enough_in(&self, index: &Index, hit: &Hit) -> bool {
        let own = index.terms_of(hit.row);
        let said = own.filter_map(|(number, _)| self.terms.iter().find(|term| term.0 == number));
        said.map(|term| term.1).sum::<f32>() >= self.enough
    }
}

struct Choice<'a, 'q, T> {
    index: &'a Index,
    query: &'a Query<'q>,
    taken: Vec<Taken<T>>,
    tokens: usize,
}

struct Taken<T> {
    hit: Hit,
    text: T,
    terms: Terms,
}

/// A row's terms, with a mark for each in one word: rows that share few marks share few terms.
struct Terms {
    numbers: Vec<u32>,
    marks: u64,
}

impl Terms {
    fn of(index: &Index, row: u32) -> Terms {
        let mut numbers: Vec<u32> = index.terms_of(row).map(|(number, _)| number).collect();
        numbers.sort_unstable();
        let mark = |number: &u32| 1_u64 << (number.wrapping_mul(0x9e37_79b1) >> 26);
        let marks = numbers.iter().map(mark).fold(0, |marks, mark| marks | mark);
        Terms { numbers, marks }
    }

    /// Whether one has all that the other has, and that is nearly all that it has.
    fn repeats(&self, other: &Terms) -> bool {
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

impl<T: AsRef<str>> Choice<'_, '_, T> {
    fn fill(&mut self, hits: &[Hit], text_of: &mut impl FnMut(u64) -> Option<T>) {
        let (places, tokens) = (self.query.limit, self.query.tokens_max);
        if self.query.session.is_some() {
            for hit in hits.iter().filter(|hit| hit.in_session) {
                self.take(hit, places.div_ceil(2), tokens.div_ceil(2), text_of);
            }
            for hit in hits.iter().filter(|hit| !hit.in_session) {
                self.take(hit, places, tokens, text_of);
            }
        }
        for hit in hits {
            if self.taken.len() >= places {
                break;
            }
            self.take(hit, places, tokens, text_of);
        }
    }

    /// Takes what is new and fits.
    fn take(
        &mut self,
        hit: &Hit,
        places: usize,
        tokens_max: usize,
        text_of: &mut impl FnMut(u64) -> Option<T>,
    ) {
        let tokens = self.tokens + hit.tokens as usize;
        let is_taken = || self.taken.iter().any(|taken| taken.hit.row == hit.row);
        if self.taken.len() >= places || tokens > tokens_max || is_taken() {
            return;
        }
        let terms = Terms::of(self.index, hit.row);
        let repeated = self
            .taken
            .iter_mut()
            .find(|taken| taken.terms.repeats(&terms));
        match repeated {
            None => {
                if let Some(text) = text_of(hit.seq).filter(|text| !self.is_present(text.as_ref()))
                {
                    self.tokens = tokens;
                    self.taken.push(Taken {
                        hit: *hit,
                        text,
                        terms,
                    });
                }
            }
            // The later one is what holds now ("I eat meat", "I do not eat meat"): it takes the earlier one's place.
            Some(taken) if taken.hit.seq < hit.seq => {
                let tokens = self.tokens - taken.hit.tokens as usize + hit.tokens as usize;
                let score = taken.hit.score;
                if tokens <= self.query.tokens_max
                    && let Some(text) = text_of(hit.seq)
                    && !is_present(self.query, text.as_ref())
                {
                    self.tokens = tokens;
                    *taken = Taken {
                        hit: Hit { score, ..*hit },
                        text,
                        terms,
                    };
                }
            }
            Some(_) => {}
        }
    }

    fn is_present(&self, text: &str) -> bool {
        is_present(self.query, text)
    }

    /// Where nothing recent is among a full choice, the least of the others make place.
    fn make_place_for_recent(&mut self, hits: &[Hit], text_of: &mut impl FnMut(u64) -> Option<T>) {
        let kept = self.query.limit.min(self.taken.len()) / RECENT_ONE_IN;
        let now = self.query.now_ms;
        let is_recent = |hit: &Hit| Window::of(hit.at_ms, now) <= Window::Working;
        let mut recent = self
            .taken
            .iter()
            .filter(|taken| is_recent(&taken.hit))
            .count();
        let others = hits.iter().filter(|hit| is_recent(hit));
        for hit in others {
            if recent >= kept {
                return;
            }
            if self.taken.iter().any(|taken| taken.hit.seq == hit.seq) {
                continue;
            }
            let old = self
                .taken
                .iter()
                .enumerate()
                .filter(|(_, taken)| !is_recent(&taken.hit));
            let Some((least, _)) = old.min_by(|a, b| a.1.hit.score.total_cmp(&b.1.hit.score))
            else {
                return;
            };
            let out = self.taken.remove(least);
            self.tokens -= out.hit.tokens as usize;
            let before = self.taken.len();
            self.take(hit, self.query.limit, self.query.tokens_max, text_of);
            if self.taken.len() > before {
                recent += 1;
            } else if self.tokens + out.hit.tokens as usize <= self.query.tokens_max {
                self.tokens += out.hit.tokens as usize;
                self.taken.push(out);
            }
        }
    }

    fn finish(mut self) -> Vec<Chosen<T>> {
        self.taken.sort_by(|a, b| {
            b.hit
                .score
                .total_cmp(&a.hit.score)
                .then(b.hit.seq.cmp(&a.hit.seq))
        });
        let now = self.query.now_ms;
        let chosen = self
            .taken
            .into_iter()
            .map(|Taken { hit, text, .. }| Chosen {
                seq: hit.seq,
                text,
                at_ms: hit.at_ms,
                tokens: hit.tokens,
                in_session: hit.in_session,
                score: hit.score,
                window: Window::of(hit.at_ms, now),
            });
        chosen.collect()
    }
}

/// Whether a text stands in the request: as the query or in it, or as what the caller says.
fn is_present(query: &Query<'_>, text: &str) -> bool {
    let (text, asked) = (text.trim(), query.text.trim());
    let same = asked.len() == text.len() && asked.eq_ignore_ascii_case(text);
    let inside = (INSIDE_BYTES_MIN..asked.len()).contains(&text.len());
    same || inside && both_ends(asked).contains(text) || (query.present)(text)
}
