//! Orders a vault's memories by how well they answer a query.
//!
//! L, of a memory, is BM25. N lends it from its neighbours in its session, since an answer stands beside its question.
//! S is BM25 of the whole session as one text. The score is N/max + 0.3 S/max. The ten terms that say most about the
//! five best join the query with a tenth of the weight, and all is counted again. Where there are vectors, N/max makes
//! room for how near they are. The k best come out exactly, but most memories are never looked at: what cannot be
//! among them is passed over by what is known of its L and its session's S.

mod best;
mod scratch;

use super::analyse::Analysed;
use super::index::{Index, NONE, Posting};
use best::Found;
use scratch::Scratch;

const K1: f32 = 0.9;
const B: f32 = 0.4;
/// What a neighbour lends: the one before, the one after, those next to them.
const FROM_BEFORE: f32 = 0.5;
const FROM_AFTER: f32 = 0.35;
const FROM_FAR: f32 = 0.2;
const FEEDBACK_ROWS: usize = 5;
const FEEDBACK_TERMS: usize = 10;
const FEEDBACK_WEIGHT: f32 = 0.1;
/// Of one row: all that a text of some ten kilobytes has. Of a longer one these are a sample, the same each time.
const FEEDBACK_ROW_TERMS: usize = 1024;
/// A longer query is taken by those of its terms that say most.
const QUERY_TERMS_MAX: usize = 32;
/// Rows that a search adds up for all of its terms, so that it holds up a worker for some milliseconds at most, however
/// large the vault is. What stands in most rows says least and is left out.
const ADDED_ROWS_MAX: usize = 1 << 21;

/// A memory that matches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its place in the vault.
    pub seq: u64,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: i64,
    /// What it takes of a request, estimated.
    pub tokens: u32,
    /// Of the session that was asked for, not of the core vault.
    pub in_session: bool,
    /// Within one answer: the best has about 1.
    pub score: f32,
    /// What its own words and its neighbours' make of that: N/max.
    pub(super) matched: f32,
    pub(super) row: u32,
}

/// The best `limit` memories of the scope, best first: those of `session` and of no session alike. The plain order,
/// as it is measured; `select` chooses from it for a request. A query of which nothing is known finds nothing.
pub fn rank(index: &Index, query: &Analysed, session: Option<&str>, limit: usize) -> Vec<Hit> {
    ranked(index, query, None, Scope::Of(session), limit)
}

/// The same with the query's vector, for an index that has vectors.
pub fn rank_with_vector(
    index: &Index,
    query: &Analysed,
    vector: &[f32],
    session: Option<&str>,
    limit: usize,
) -> Vec<Hit> {
    ranked(index, query, Some(vector), Scope::Of(session), limit)
}

/// Which memories are ordered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// Those of a session, if one is named, and those of no session.
    Of(Option<&'a str>),
    /// All of the vault, as for somebody who looks through it.
    Everywhere,
}

pub(super) fn ranked(
    index: &Index,
    query: &Analysed,
    vector: Option<&[f32]>,
    scope: Scope<'_>,
    limit: usize,
) -> Vec<Hit> {
    if limit == 0 || index.is_empty() {
        return Vec::new();
    }
    scratch::with(index, |scratch| {
        let search = Search::new(index, scope);
        let mut terms = search.query_terms(query);
        for (number, weight) in &terms {
            search.add(scratch, *number, *weight);
        }
        // What every search leaves behind is cleared by `scratch::with`.
        let first = search.best(scratch, FEEDBACK_ROWS);
        let feedback = search.feedback(&first, &terms);
        for (number, weight) in &feedback {
            search.add(scratch, *number, *weight);
        }
        terms.extend(feedback);
        let nearness = vector.and_then(|vector| index.vectors.compare(vector));
        let found = match nearness {
            Some(nearness) => search.blended(scratch, nearness, limit),
            None if first.is_empty() => Vec::new(),
            None => search.best(scratch, limit),
        };
        found.into_iter().map(|found| search.hit(found)).collect()
    })
}

/// How rare a term that stands in `df` of `count` is.
pub(super) fn idf(count: f32, df: f32) -> f32 {
    (1.0 + (count - df + 0.5) / (df + 0.5)).ln()
}

struct Search<'a> {
    index: &'a Index,
    /// Of the session that was asked for; 0: none.
    scope: u32,
    /// Whether there are rows out of scope.
    scoped: bool,
    row_length: f32,
    session_length: f32,
}

impl<'a> Search<'a> {
    fn new(index: &'a Index, scope: Scope<'_>) -> Search<'a> {
        let (row_length, session_length) = index.average_lengths();
        let (scope, scoped) = match scope {
            Scope::Of(session) => (index.scope_of(session), index.has_named_sessions()),
            Scope::Everywhere => (0, false),
        };
        Search {
            index,
            scope,
            scoped,
            row_length,
            session_length,
        }
    }

    fn in_scope(&self, session: u32) -> bool {
        let scope = || {
            self.index
                .sessions
                .get(session as usize)
                .map_or(NONE - 1, |s| s.scope)
        };
        !self.scoped || matches!(scope(), scope if scope == 0 || scope == self.scope)
    }

    /// The query's terms that the vault knows, with their weights: a repeated one a little more.
    fn query_terms(&self, query: &Analysed) -> Vec<(u32, f32)> {
        let known = query.terms.iter().filter_map(|(term, count)| {
            let number = self.index.number_of(*term)?;
            Some((number, 1.0 + f32::from(*count).ln()))
        });
        let mut terms: Vec<(u32, f32)> = known.collect();
        let rows: usize = terms.iter().map(|term| self.index.rows_with(term.0)).sum();
        if terms.len() > QUERY_TERMS_MAX || rows > ADDED_ROWS_MAX {
            let says = terms.iter().map(|term| term.1 * self.rarity(term.0));
            let mut says: Vec<(f32, usize)> = says.zip(0..).collect();
            let order =
                |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            if says.len() > QUERY_TERMS_MAX {
                says.select_nth_unstable_by(QUERY_TERMS_MAX, order);
                says.truncate(QUERY_TERMS_MAX);
            }
            says.sort_unstable_by(order);
            let most = says
                .into_iter()
                .filter_map(|(_, at)| terms.get(at).copied());
            let most: Vec<(u32, f32)> = most.collect();
            // Of the one that says most all rows, or nothing would be found.
            let first = most.first().map_or(0, |term| self.index.rows_with(term.0));
            terms = self.affordable(&most, ADDED_ROWS_MAX.max(first), QUERY_TERMS_MAX);
        }
        terms
    }

    /// Of terms in their order at most so many: those that stand in no more rows than that, together.
    fn affordable(&self, terms: &[(u32, f32)], rows_max: usize, at_most: usize) -> Vec<(u32, f32)> {
        let mut left = rows_max;
        let fits = |term: &&(u32, f32)| {
            let behind = left.checked_sub(self.index.rows_with(term.0));
            left = behind.unwrap_or(left);
            behind.is_some()
        };
        terms.iter().filter(fits).take(at_most).copied().collect()
    }

    fn postings(&self, number: u32) -> &'a [Posting] {
        let postings = self.index.postings.get(number as usize);
        postings
            .map(|postings| postings.as_slice())
            .unwrap_or_default()
    }

    fn rarity(&self, number: u32) -> f32 {
        idf(self.index.len() as f32, self.postings(number).len() as f32)
    }

    /// Adds what a term gives to the L of its rows and the S of their sessions.
    fn add(&self, scratch: &mut Scratch, number: u32, weight: f32) {
        let postings = self.postings(number);
        let gain = weight * self.rarity(number) * (K1 + 1.0);
        let (flat, slope) = (K1 * (1.0 - B), K1 * B / self.row_length);
        let rows = &self.index.rows;
        for posting in postings {
            let (row, count) = (posting.row(), posting.count() as f32);
            let at = row as usize;
            let (Some(session), Some(length)) = (rows.sessions.get(at), rows.lengths.get(at))
            else {
                continue;
            };
            if self.scoped && !self.in_scope(*session) {
                continue;
            }
            scratch.add_count(*session, count);
            let norm = flat + slope * f32::from(*length);
            scratch.add_row(row, gain * count / (count + norm));
        }
        let gain = weight
            * idf(
                self.index.session_count() as f32,
                scratch.counted.len() as f32,
            )
            * (K1 + 1.0);
        let slope = K1 * B / self.session_length;
        while let Some((session, count)) = scratch.take_count() {
            let words = self
                .index
                .sessions
                .get(session as usize)
                .map_or(0, |session| session.words);
            let norm = flat + slope * words as f32;
            scratch.add_session(session, gain * count / (count + norm));
        }
    }

    /// N of one row.
    fn neighbourly(&self, scratch: &Scratch, row: u32) -> f32 {
        let rows = &self.index.rows;
        let next = |links: &[u32], row: u32| links.get(row as usize).copied().unwrap_or(NONE);
        let (before, after) = (next(&rows.before, row), next(&rows.after, row));
        let far = scratch.row(next(&rows.before, before)) + scratch.row(next(&rows.after, after));
        scratch.row(row)
            + FROM_BEFORE * scratch.row(before)
            + FROM_AFTER * scratch.row(after)
            + FROM_FAR * far
    }

    /// The row and its neighbours on both sides, two far.
    fn window(&self, row: u32) -> [u32; 5] {
        let rows = &self.index.rows;
        let next = |links: &[u32], row: u32| links.get(row as usize).copied().unwrap_or(NONE);
        let (before, after) = (next(&rows.before, row), next(&rows.after, row));
        [
            row,
            before,
            after,
            next(&rows.before, before),
            next(&rows.after, after),
        ]
    }

    /// Counts N of those rows around `row` that have none yet.
    fn gather(&self, scratch: &mut Scratch, row: u32) {
        for row in self.window(row) {
            if row != NONE && scratch.is_new(row) {
                let n = self.neighbourly(scratch, row);
                scratch.gathered.push((row, n));
            }
        }
    }

    /// Terms that say most about what was found first, with their weights.
    fn feedback(&self, first: &[Found], query: &[(u32, f32)]) -> Vec<(u32, f32)> {
        let mut weights: Vec<(u32, f32)> = Vec::new();
        for found in first {
            let terms = self.index.terms_of(found.row).take(FEEDBACK_ROW_TERMS);
            let others = terms.filter(|(number, _)| query.iter().all(|term| term.0 != *number));
            let says = |(number, count)| (number, f32::from(count) * self.rarity(number));
            weights.extend(others.map(says));
        }
        weights.sort_by_key(|term| term.0);
        weights.dedup_by(|next, sum| {
            let same = next.0 == sum.0;
            sum.1 += if same { next.1 } else { 0.0 };
            same
        });
        weights.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let added = query.iter().map(|term| self.index.rows_with(term.0)).sum();
        let left = ADDED_ROWS_MAX.saturating_sub(added);
        let mut most = self.affordable(&weights, left, FEEDBACK_TERMS);
        most.iter_mut().for_each(|term| term.1 = FEEDBACK_WEIGHT);
        most
    }

    fn hit(&self, found: Found) -> Hit {
        let rows = &self.index.rows;
        let at = found.row as usize;
        let session = rows.sessions.get(at).copied().unwrap_or(NONE);
        Hit {
            seq: self.index.seq(found.row),
            at_ms: rows.at_ms.get(at).copied().unwrap_or_default(),
            tokens: rows.tokens.get(at).copied().unwrap_or_default(),
            in_session: self
                .index
                .sessions
                .get(session as usize)
                .is_some_and(|s| s.scope != 0),
            score: found.score,
            matched: found.matched,
            row: found.row,
        }
    }
}

#[cfg(test)]
mod tests;
