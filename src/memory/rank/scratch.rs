//! What a search counts in: a place for each row and session, kept by the thread from search to search.
//!
//! Only what was touched is cleared again, so that a search costs what its terms stand in and not what the vault
//! holds; in the largest vaults a fresh set of places as well, four bytes a row and more.

use std::cell::RefCell;

use super::super::index::Index;

/// A vault with more rows leaves its places no longer than its search.
const ROWS_KEPT: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Scratch {
    /// L of each row.
    rows: Vec<f32>,
    /// S of each session.
    sessions: Vec<f32>,
    /// How often the term at hand stands in each session.
    counts: Vec<f32>,
    seen: Vec<bool>,
    pub(super) touched: Vec<u32>,
    pub(super) touched_sessions: Vec<u32>,
    pub(super) counted: Vec<u32>,
    /// Rows with their N.
    pub(super) gathered: Vec<(u32, f32)>,
}

thread_local! {
    static KEPT: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Runs a search with places for all of the index, all zero.
pub(super) fn with<T>(index: &Index, search: impl FnOnce(&mut Scratch) -> T) -> T {
    // Taken out, so that a search that ends in the middle leaves nothing.
    let mut scratch = KEPT.take();
    let rows = index.row_count();
    if scratch.rows.len() < rows {
        scratch.rows.resize(rows, 0.0);
        scratch.seen.resize(rows, false);
    }
    if scratch.sessions.len() < index.sessions.len() {
        scratch.sessions.resize(index.sessions.len(), 0.0);
        scratch.counts.resize(index.sessions.len(), 0.0);
    }
    let found = search(&mut scratch);
    if scratch.rows.len() <= ROWS_KEPT {
        scratch.clear();
        KEPT.set(scratch);
    }
    found
}

impl Scratch {
    fn clear(&mut self) {
        self.forget_gathered();
        for row in self.touched.drain(..) {
            self.rows[row as usize] = 0.0;
        }
        for session in self.touched_sessions.drain(..) {
            self.sessions[session as usize] = 0.0;
        }
    }

    #[inline]
    pub(super) fn add_row(&mut self, row: u32, l: f32) {
        if let Some(sum) = self.rows.get_mut(row as usize) {
            if *sum == 0.0 {
                self.touched.push(row);
            }
            *sum += l;
        }
    }

    #[inline]
    pub(super) fn add_count(&mut self, session: u32, count: f32) {
        if let Some(sum) = self.counts.get_mut(session as usize) {
            if *sum == 0.0 {
                self.counted.push(session);
            }
            *sum += count;
        }
    }

    pub(super) fn take_count(&mut self) -> Option<(u32, f32)> {
        let session = self.counted.pop()?;
        let count = self.counts.get_mut(session as usize).map(std::mem::take);
        Some((session, count.unwrap_or_default()))
    }

    pub(super) fn add_session(&mut self, session: u32, s: f32) {
        if let Some(sum) = self.sessions.get_mut(session as usize) {
            if *sum == 0.0 {
                self.touched_sessions.push(session);
            }
            *sum += s;
        }
    }

    /// L of a row; 0 for `NONE`.
    #[inline]
    pub(super) fn row(&self, row: u32) -> f32 {
        self.rows.get(row as usize).copied().unwrap_or(0.0)
    }

    #[inline]
    pub(super) fn session(&self, session: u32) -> f32 {
        self.sessions.get(session as usize).copied().unwrap_or(0.0)
    }

    /// True the first time.
    pub(super) fn is_new(&mut self, row: u32) -> bool {
        let seen = self.seen.get_mut(row as usize);
        seen.is_some_and(|seen| !std::mem::replace(seen, true))
    }

    pub(super) fn forget_gathered(&mut self) {
        for (row, _) in self.gathered.drain(..) {
            self.seen[row as usize] = false;
        }
    }

    pub(super) fn largest_row(&self) -> f32 {
        self.touched
            .iter()
            .fold(0.0, |most, row| most.max(self.row(*row)))
    }

    pub(super) fn largest_session(&self) -> f32 {
        let sessions = self.touched_sessions.iter();
        sessions.fold(0.0, |most, session| most.max(self.session(*session)))
    }
}
