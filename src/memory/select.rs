//! Chooses from a vault what goes into one request: of the best, those that tell it something.
//!
//! Left out: what hardly matches, what repeats another, what already stands in the request, what does not fit. A
//! greeting, and a query that no memory has a word of that matters, bring nothing. With a session, half of the places
//! are first that session's. A fifth of the places is kept for the best of the last days where they are not among the
//! best anyway. The order is by relevance. How much of the vault one choice reads is bounded: see `looks`.

mod looks;
mod repeats;
mod said;

use std::borrow::Cow;

use memchr::memmem;

use super::analyse::analyse;
use super::block::FRAME_TOKENS;
use super::index::Index;
use super::rank::{Hit, Scope, ranked};
use super::words::{Query, Window};
use looks::Looks;
use repeats::{Terms, same_words};
use said::{Said, is_small_talk};

/// Hits looked at for each place, and at least.
const HITS_PER_PLACE: usize = 2;
const HITS_MIN: usize = 64;
/// Where most of them stand in the request already, as in a long chat, more are looked at: so many times as many, so
/// that few rankings are made, and at most as many as hardly a chat has messages.
const HITS_GROWTH: usize = 4;
const HITS_MAX: usize = 4096;
/// Of the best one's score; what has less, and too little of the query's own words, is only next to what matches.
const SCORE_SHARE_MIN: f32 = 0.2;
/// Of the best one's match, where vectors tell as well.
const NEAR_SHARE_MIN: f32 = 0.5;
const LOOKED_AT: usize = 5;
/// One place in so many is kept for the last days.
const RECENT_ONE_IN: usize = 5;
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
    /// What it takes of a request, estimated.
    pub tokens: u32,
    /// Of the session that was asked for, not of the core vault.
    pub in_session: bool,
    /// Within one answer: the best has about 1.
    pub score: f32,
    /// How long ago.
    pub window: Window,
}

/// What helps with the query, best first. `text_of` reads the text of a place, for those only that may be chosen; what
/// it has none for is passed over.
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
    let mut looked_at = (query.limit.saturating_mul(HITS_PER_PLACE)).max(HITS_MIN);
    let scope = Scope::Of(query.session);
    let mut hits = ranked(index, &asked, vector, scope, looked_at);
    let mut is_all = hits.len() < looked_at;
    let said = Said::of(index, &asked);
    let looks = Looks::default();
    let enough = |hit: &Hit| said.enough_in(index, hit, &looks);
    if vector.is_none() && !hits.iter().take(LOOKED_AT).any(enough) {
        return Vec::new();
    }
    let least = SCORE_SHARE_MIN * hits.first().map_or(0.0, |hit| hit.score);
    // A vector is near every other one, more or less.
    let near = hits
        .first()
        .filter(|_| vector.is_some())
        .map_or(0.0, |hit| NEAR_SHARE_MIN * hit.matched);
    let helps = |hit: &Hit| hit.score >= least && hit.matched >= near || enough(hit);
    let counts = |hit: &Hit| hit.matched > 0.0 && helps(hit);
    hits.retain(counts);
    let mut choice = Choice {
        index,
        query,
        looks: &looks,
        taken: Vec::with_capacity(query.limit.min(hits.len())),
        tokens: FRAME_TOKENS,
    };
    let mut wants_more = choice.fill(&mut hits, &mut text_of);
    while wants_more && !is_all && looked_at < HITS_MAX {
        let from = looked_at;
        looked_at = (looked_at * HITS_GROWTH).min(HITS_MAX);
        let more = ranked(index, &asked, vector, scope, looked_at);
        is_all = more.len() < looked_at;
        // Those before are the same ones.
        let more = more.into_iter().skip(from).filter(counts);
        let mut more: Vec<Hit> = more.collect();
        wants_more = choice.fill(&mut more, &mut text_of);
        hits.extend(more);
    }
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

struct Choice<'a, 'q, T> {
    index: &'a Index,
    query: &'a Query<'q>,
    looks: &'a Looks,
    taken: Vec<Taken<T>>,
    tokens: usize,
}

struct Taken<T> {
    hit: Hit,
    text: T,
    terms: Terms,
}

impl<T: AsRef<str>> Choice<'_, '_, T> {
    /// Drops the hits that stand in the request. Whether places are left because most of them did.
    fn fill(&mut self, hits: &mut Vec<Hit>, text_of: &mut impl FnMut(u64) -> Option<T>) -> bool {
        let (places, tokens) = (self.query.limit, self.query.tokens_max);
        if self.query.session.is_some() {
            for hit in hits.iter().filter(|hit| hit.in_session) {
                self.take(hit, places.div_ceil(2), tokens.div_ceil(2), text_of);
            }
            for hit in hits.iter().filter(|hit| !hit.in_session) {
                self.take(hit, places, tokens, text_of);
            }
        }
        let count = hits.len();
        hits.retain(|hit| self.taken.len() >= places || !self.take(hit, places, tokens, text_of));
        self.taken.len() < places && count - hits.len() > count / 2
    }

    /// Takes what is new and fits; true for what stands in the request.
    fn take(
        &mut self,
        hit: &Hit,
        places: usize,
        tokens_max: usize,
        text_of: &mut impl FnMut(u64) -> Option<T>,
    ) -> bool {
        let tokens = self.tokens + hit.tokens as usize;
        let is_taken = || self.taken.iter().any(|taken| taken.hit.row == hit.row);
        if self.taken.len() >= places || tokens > tokens_max || is_taken() || self.looks.are_spent()
        {
            return false;
        }
        let Some(text) = text_of(hit.seq) else {
            return false;
        };
        let (index, looks) = (self.index, self.looks);
        let terms = Terms::of(index, hit.row, looks);
        let repeated = self.taken.iter_mut().find(|taken| {
            taken.terms.repeats(&terms, index, looks)
                && same_words(taken.text.as_ref(), text.as_ref(), looks)
        });
        match repeated {
            None => {
                if is_present(self.query, text.as_ref()) {
                    return true;
                }
                self.tokens = tokens;
                self.taken.push(Taken {
                    hit: *hit,
                    text,
                    terms,
                });
            }
            // The later one is what holds now ("I eat meat", "I do not eat meat"): it takes the earlier one's place.
            Some(taken) if (taken.hit.at_ms, taken.hit.seq) < (hit.at_ms, hit.seq) => {
                let tokens = self.tokens - taken.hit.tokens as usize + hit.tokens as usize;
                let score = taken.hit.score;
                if tokens <= self.query.tokens_max && !is_present(self.query, text.as_ref()) {
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
        false
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
    let inside = || {
        let (asked, text) = (both_ends(asked), text.as_bytes());
        // To look for a long text has to be prepared for as long as it is; for how it begins, hardly.
        let start = text.first_chunk::<INSIDE_BYTES_MIN>();
        start.is_some_and(|start| memmem::find(asked.as_bytes(), start).is_some())
            && memmem::find(asked.as_bytes(), text).is_some()
    };
    same || text.len() < asked.len() && inside() || (query.present)(text)
}

#[cfg(test)]
mod tests;
