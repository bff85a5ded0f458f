//! One vault's memories as numbers: which terms stand where, in which session, how long ago. No text.

use std::collections::HashMap;

use super::analyse::Analysed;

/// What the index keeps of one memory.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its place in the vault: above that of all that were added before.
    pub seq: u64,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: i64,
    /// None: of the core vault.
    pub session: Option<&'a str>,
    /// Of its text: see `analyse::tokens`.
    pub tokens: u32,
    /// Its text, analysed.
    pub analysed: &'a Analysed,
}

/// An index over one vault.
#[derive(Debug, Default)]
pub struct Index {
    entries: Vec<(u64, i64, u32, Option<Box<str>>)>,
    terms: HashMap<u64, Vec<(u64, u16)>>,
}

impl Index {
    /// Adds at the end. A `seq` that is not above all others is not taken: false.
    pub fn add(&mut self, entry: &Entry<'_>) -> bool {
        if self.entries.last().is_some_and(|last| last.0 >= entry.seq) {
            return false;
        }
        let session = entry.session.map(Into::into);
        self.entries
            .push((entry.seq, entry.at_ms, entry.tokens, session));
        for (term, count) in &entry.analysed.terms {
            self.terms
                .entry(*term)
                .or_default()
                .push((entry.seq, *count));
        }
        true
    }

    /// False if there is none of this place.
    pub fn remove(&mut self, seq: u64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.0 != seq);
        for postings in self.terms.values_mut() {
            postings.retain(|posting| posting.0 != seq);
        }
        self.entries.len() < before
    }

    /// How many memories it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// RAM that it takes, about.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * 48
            + self
                .terms
                .values()
                .map(|p| 48 + p.capacity() * 16)
                .sum::<usize>()
    }

    /// Places, times and tokens of the memories in scope, with how well each matches.
    pub(crate) fn matches(
        &self,
        query: &Analysed,
        session: Option<&str>,
    ) -> Vec<(u64, i64, u32, bool, f32)> {
        let found = self.entries.iter().filter_map(|(seq, at_ms, tokens, own)| {
            if own.is_some() && own.as_deref() != session {
                return None;
            }
            let matched = query.terms.iter().filter(|(term, _)| {
                let postings = self.terms.get(term).map(Vec::as_slice).unwrap_or_default();
                postings.iter().any(|posting| posting.0 == *seq)
            });
            Some((*seq, *at_ms, *tokens, own.is_some(), matched.count() as f32))
        });
        found.filter(|found| found.4 > 0.0).collect()
    }
}
