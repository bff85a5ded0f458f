//! One vault's memories as numbers: which terms stand where, in which session, next to what, how long ago. No text.
//!
//! A memory is a row, in the order in which it came; rows of one session are linked. A term has its rows in order, four
//! bytes each, and a row has its terms back, a byte or two each. Adding and removing touch only what the memory itself
//! holds; the statistics are always exact, and of this vault alone.

mod postings;
mod vectors;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::analyse::Analysed;
use super::dense::Vectors;
pub(super) use postings::{Posting, Postings};

/// No row, no session.
pub(super) const NONE: u32 = u32::MAX;
/// Without a session's name, a silence as long as this begins a new one.
const SESSION_GAP_MS: i64 = 30 * 60 * 1000;
/// A longer one goes on as another: what is said of a session is to say something of its rows.
const SESSION_ROWS_MAX: u32 = 256;
/// So that the terms of one more row end below 4 GiB.
const FORWARD_MAX: usize = u32::MAX as usize - (1 << 24);

/// What the index keeps of one memory.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its place in the vault: above that of all that were added before.
    pub seq: u64,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: i64,
    /// None: of the core vault.
    pub session: Option<&'a str>,
    /// What it takes of a request: see `block::line_tokens`.
    pub tokens: u32,
    /// Its text, analysed.
    pub analysed: &'a Analysed,
}

/// An index over one vault.
#[derive(Debug, Default)]
pub struct Index {
    pub(super) rows: Rows,
    pub(super) sessions: Vec<Session>,
    /// Numbers of the sessions that have a name. The core vault is number 0.
    names: HashMap<Box<str>, Name>,
    core_session: Option<u32>,
    /// Terms are good hashes of words: they are taken for their own.
    terms: HashMap<u64, u32, BuildHasherDefault<TermHasher>>,
    pub(super) postings: Vec<Postings>,
    /// Each row's terms, by number.
    forward: Vec<u8>,
    live: u32,
    live_sessions: u32,
    words: u64,
    pub(super) vectors: Vectors,
}

/// What is known of each row, a column each.
#[derive(Debug, Default)]
pub(super) struct Rows {
    seqs: Vec<u64>,
    pub(super) at_ms: Vec<i64>,
    pub(super) tokens: Vec<u32>,
    /// In words.
    pub(super) lengths: Vec<u16>,
    /// `NONE` once it is removed.
    pub(super) sessions: Vec<u32>,
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
    /// Where the row's part of `forward` ends.
    forward_ends: Vec<u32>,
}

/// Rows that were said together.
#[derive(Debug)]
pub(super) struct Session {
    /// 0, or that of its name.
    pub(super) scope: u32,
    pub(super) words: u32,
    pub(super) rows: u32,
    pub(super) last: u32,
    last_at_ms: i64,
}

#[derive(Debug)]
struct Name {
    scope: u32,
    session: u32,
}

impl Index {
    /// Adds at the end. A `seq` that is not above all others is not taken: false.
    pub fn add(&mut self, entry: &Entry<'_>) -> bool {
        let row = self.rows.seqs.len() as u32;
        let full = row >= Posting::ROWS_MAX || self.forward.len() > FORWARD_MAX;
        if full || self.rows.seqs.last().is_some_and(|last| *last >= entry.seq) {
            return false;
        }
        let length = u16::try_from(entry.analysed.len).unwrap_or(u16::MAX);
        for (term, count) in &entry.analysed.terms {
            let number = self.postings.len() as u32;
            let number = *self.terms.entry(*term).or_insert(number);
            if number as usize == self.postings.len() {
                self.postings.push(Postings::default());
            }
            if let Some(postings) = self.postings.get_mut(number as usize) {
                postings.push(Posting::new(row, *count));
            }
            postings::write(&mut self.forward, number, *count);
        }
        let session = self.session_for(entry.session, entry.at_ms);
        let before = match self.sessions.get_mut(session as usize) {
            Some(session) => {
                session.words += u32::from(length);
                session.rows += 1;
                session.last_at_ms = entry.at_ms;
                std::mem::replace(&mut session.last, row)
            }
            None => NONE,
        };
        if let Some(after) = self.rows.after.get_mut(before as usize) {
            *after = row;
        }
        let rows = &mut self.rows;
        rows.seqs.push(entry.seq);
        rows.at_ms.push(entry.at_ms);
        rows.tokens.push(entry.tokens);
        rows.lengths.push(length);
        rows.sessions.push(session);
        rows.before.push(before);
        rows.after.push(NONE);
        rows.forward_ends.push(self.forward.len() as u32);
        self.live += 1;
        self.words += u64::from(length);
        true
    }

    /// Gives a memory the time when it was said again. It stays among its neighbours.
    pub fn set_time(&mut self, seq: u64, at_ms: i64) {
        if let Some(row) = self.row_of(seq)
            && let Some(at) = self.rows.at_ms.get_mut(row as usize)
        {
            *at = at_ms;
        }
    }

    /// False if there is none of this place.
    pub fn remove(&mut self, seq: u64) -> bool {
        let Some(row) = self.row_of(seq) else {
            return false;
        };
        let terms: Vec<u32> = self.terms_of(row).map(|(number, _)| number).collect();
        for number in terms {
            if let Some(postings) = self.postings.get_mut(number as usize) {
                postings.remove(row);
            }
        }
        let at = row as usize;
        let (before, after) = (self.rows.before[at], self.rows.after[at]);
        if let Some(row) = self.rows.after.get_mut(before as usize) {
            *row = after;
        }
        if let Some(row) = self.rows.before.get_mut(after as usize) {
            *row = before;
        }
        let length = self.rows.lengths[at];
        let session = std::mem::replace(&mut self.rows.sessions[at], NONE);
        if let Some(session) = self.sessions.get_mut(session as usize) {
            session.words = session.words.saturating_sub(u32::from(length));
            session.rows = session.rows.saturating_sub(1);
            if session.last == row {
                session.last = before;
            }
            self.live_sessions -= u32::from(session.rows == 0);
        }
        self.vectors.remove(row);
        self.live -= 1;
        self.words -= u64::from(length);
        true
    }

    /// How many memories it holds.
    pub fn len(&self) -> usize {
        self.live as usize
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// RAM that it takes, about.
    pub fn bytes(&self) -> usize {
        let row = 8 + 8 + 4 + 2 + 4 + 4 + 4 + 4;
        let postings = self
            .postings
            .iter()
            .map(Postings::heap_bytes)
            .sum::<usize>();
        let names = self.names.keys().map(|name| name.len() + 48).sum::<usize>();
        size_of::<Index>()
            + self.rows.seqs.capacity() * row
            + self.sessions.capacity() * size_of::<Session>()
            + self.terms.capacity() * 8 / 7 * (size_of::<(u64, u32)>() + 1)
            + self.postings.capacity() * size_of::<Postings>()
            + postings
            + self.forward.capacity()
            + names
            + self.vectors.bytes()
    }

    /// Gives back what growing took too much of, as after a cold load.
    pub fn shrink(&mut self) {
        let rows = &mut self.rows;
        rows.seqs.shrink_to_fit();
        rows.at_ms.shrink_to_fit();
        rows.tokens.shrink_to_fit();
        rows.lengths.shrink_to_fit();
        rows.sessions.shrink_to_fit();
        rows.before.shrink_to_fit();
        rows.after.shrink_to_fit();
        rows.forward_ends.shrink_to_fit();
        self.sessions.shrink_to_fit();
        self.postings.shrink_to_fit();
        self.forward.shrink_to_fit();
        self.postings.iter_mut().for_each(Postings::shrink);
    }

    fn row_of(&self, seq: u64) -> Option<u32> {
        let row = self.rows.seqs.binary_search(&seq).ok()?;
        (self.rows.sessions[row] != NONE).then_some(row as u32)
    }

    /// The session that a new row is of; a new one where it begins.
    fn session_for(&mut self, name: Option<&str>, at_ms: i64) -> u32 {
        let (scope, current) = match name {
            None => (0, self.core_session),
            Some(name) => match self.names.get(name) {
                Some(name) => (name.scope, Some(name.session)),
                None => (self.names.len() as u32 + 1, None),
            },
        };
        let goes_on = |session: &&Session| {
            let near =
                name.is_some() || session.last_at_ms.abs_diff(at_ms) <= SESSION_GAP_MS as u64;
            near && session.rows < SESSION_ROWS_MAX
        };
        if let Some(current) = current
            && let Some(session) = self.sessions.get(current as usize).filter(goes_on)
        {
            self.live_sessions += u32::from(session.rows == 0);
            return current;
        }
        let session = self.sessions.len() as u32;
        self.sessions.push(Session {
            scope,
            words: 0,
            rows: 0,
            last: NONE,
            last_at_ms: at_ms,
        });
        self.live_sessions += 1;
        match name {
            None => self.core_session = Some(session),
            Some(name) => {
                self.names.insert(name.into(), Name { scope, session });
            }
        }
        session
    }

    /// What `rank` asks.
    pub(super) fn seq(&self, row: u32) -> u64 {
        self.rows
            .seqs
            .get(row as usize)
            .copied()
            .unwrap_or_default()
    }

    /// Rows that were ever added: columns are this long.
    pub(super) fn row_count(&self) -> usize {
        self.rows.seqs.len()
    }

    pub(super) fn number_of(&self, term: u64) -> Option<u32> {
        self.terms.get(&term).copied()
    }

    /// How many rows a term stands in.
    pub(super) fn rows_with(&self, number: u32) -> usize {
        self.postings
            .get(number as usize)
            .map_or(0, |postings| postings.as_slice().len())
    }

    /// A row's terms with their counts, in the order of their hashes.
    pub(super) fn terms_of(&self, row: u32) -> impl Iterator<Item = (u32, u16)> + '_ {
        let ends = &self.rows.forward_ends;
        let start = row
            .checked_sub(1)
            .and_then(|before| ends.get(before as usize))
            .copied()
            .unwrap_or(0);
        let end = ends.get(row as usize).copied().unwrap_or(start);
        postings::read(
            self.forward
                .get(start as usize..end as usize)
                .unwrap_or_default(),
        )
    }

    /// The number of a session's name; 0 for none, `NONE` for one that nothing was said in.
    pub(super) fn scope_of(&self, session: Option<&str>) -> u32 {
        session.map_or(0, |name| {
            self.names.get(name).map_or(NONE, |name| name.scope)
        })
    }

    pub(super) fn has_named_sessions(&self) -> bool {
        !self.names.is_empty()
    }

    /// Words of a row, and of a session, on average.
    pub(super) fn average_lengths(&self) -> (f32, f32) {
        let of = |count: u32| self.words.max(1) as f32 / count.max(1) as f32;
        (of(self.live), of(self.live_sessions))
    }

    pub(super) fn session_count(&self) -> u32 {
        self.live_sessions
    }
}

/// Takes a term for its own hash.
#[derive(Default)]
struct TermHasher(u64);

impl Hasher for TermHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, term: u64) {
        self.0 = term;
    }
}

#[cfg(test)]
mod tests;
