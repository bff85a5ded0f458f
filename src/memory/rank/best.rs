//! The best of what a search has counted.
//!
//! They come out exactly, but most memories are never looked at: what cannot be among them is passed over by what is
//! known of its L and its session's S.

use super::super::index::NONE;
use super::scratch::Scratch;
use super::{FROM_AFTER, FROM_BEFORE, FROM_FAR, Search};

/// N is at most this often the largest L around.
const WINDOW_SUM: f32 = 1.0 + FROM_BEFORE + FROM_AFTER + 2.0 * FROM_FAR;
const SESSION_WEIGHT: f32 = 0.3;
/// Of a vector's nearness against N, both spread over 0 to 1.
const DENSE_WEIGHT: f32 = 0.4;

/// Above all others a better score, then a later row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) score: f32,
    pub(super) matched: f32,
    pub(super) row: u32,
}

impl Found {
    fn order(&self, other: &Found) -> std::cmp::Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(other.row.cmp(&self.row))
    }
}

impl Search<'_> {
    fn session_share(&self, scratch: &Scratch, row: u32, most: f32) -> f32 {
        let session = self
            .index
            .rows
            .sessions
            .get(row as usize)
            .copied()
            .unwrap_or(NONE);
        SESSION_WEIGHT * scratch.session(session) / most
    }

    /// The `limit` best, best first.
    pub(super) fn best(&self, scratch: &mut Scratch, limit: usize) -> Vec<Found> {
        scratch.forget_gathered();
        let most_l = scratch.largest_row();
        let most_s = scratch.largest_session();
        if most_l <= 0.0 || most_s <= 0.0 {
            return Vec::new();
        }
        // The largest N stands within two of an L that is at least this.
        self.gather_where(scratch, |_, l| l >= most_l / WINDOW_SUM);
        let most_n = scratch
            .gathered
            .iter()
            .fold(0.0_f32, |most, (_, n)| most.max(*n));
        let score = |scratch: &Scratch, (row, n): (u32, f32)| Found {
            score: n / most_n + self.session_share(scratch, row, most_s),
            matched: n / most_n,
            row,
        };
        let mut found: Vec<Found> = Vec::with_capacity(scratch.gathered.len().max(limit));
        found.extend(scratch.gathered.iter().map(|row| score(scratch, *row)));
        let floor = keep_best(&mut found, limit);
        // Whatever else is among the best has enough of an L around it to make up for what its session lacks. While
        // there are fewer than asked for, all that match are.
        let reach = WINDOW_SUM / most_n;
        let seen = scratch.gathered.len();
        self.gather_where(scratch, |session, l| {
            let share = SESSION_WEIGHT * session / most_s;
            // A rounding's breadth in favour of looking.
            l * reach + share >= floor - 1e-4
        });
        found.extend(
            scratch.gathered[seen..]
                .iter()
                .map(|row| score(scratch, *row)),
        );
        let floor = keep_best(&mut found, limit);
        // Rows without a match around them have their session's share alone.
        if floor < SESSION_WEIGHT {
            self.add_silent(scratch, &mut found, floor, most_s);
        }
        found.sort_unstable_by(Found::order);
        found.truncate(limit);
        found
    }

    /// Gathers around the touched rows that `wanted` says, by their session's S and their L.
    fn gather_where(&self, scratch: &mut Scratch, wanted: impl Fn(f32, f32) -> bool) {
        let touched = std::mem::take(&mut scratch.touched);
        let sessions = &self.index.rows.sessions;
        for row in &touched {
            let session = sessions.get(*row as usize).copied().unwrap_or(NONE);
            if wanted(scratch.session(session), scratch.row(*row)) {
                self.gather(scratch, *row);
            }
        }
        scratch.touched = touched;
    }

    fn add_silent(&self, scratch: &mut Scratch, found: &mut Vec<Found>, floor: f32, most_s: f32) {
        let sessions = scratch.touched_sessions.iter().copied();
        let shares =
            sessions.map(|session| (session, SESSION_WEIGHT * scratch.session(session) / most_s));
        let worth: Vec<(u32, f32)> = shares.filter(|(_, share)| *share >= floor).collect();
        for (session, share) in worth {
            let mut row = self
                .index
                .sessions
                .get(session as usize)
                .map_or(NONE, |session| session.last);
            while row != NONE {
                if scratch.is_new(row) {
                    scratch.gathered.push((row, 0.0));
                    found.push(Found {
                        score: share,
                        matched: 0.0,
                        row,
                    });
                }
                row = self
                    .index
                    .rows
                    .before
                    .get(row as usize)
                    .copied()
                    .unwrap_or(NONE);
            }
        }
    }

    /// The `limit` best where every row in scope has a nearness to the query.
    pub(super) fn blended(
        &self,
        scratch: &mut Scratch,
        nearness: impl Fn(u32) -> Option<f32>,
        limit: usize,
    ) -> Vec<Found> {
        let sessions = self.index.rows.sessions.iter().enumerate();
        let in_scope =
            sessions.filter(|(_, session)| **session != NONE && self.in_scope(**session));
        let all: Vec<(u32, f32, Option<f32>)> = in_scope
            .map(|(row, _)| {
                (
                    row as u32,
                    self.neighbourly(scratch, row as u32),
                    nearness(row as u32),
                )
            })
            .collect();
        let spread = |values: &mut dyn Iterator<Item = f32>| {
            let (least, most) = values.fold((f32::MAX, f32::MIN), |(least, most), value| {
                (least.min(value), most.max(value))
            });
            // Where all are alike, what says anything says all.
            move |value: f32| match most > least {
                true => (value - least) / (most - least),
                false => f32::from(u8::from(value > 0.0)),
            }
        };
        let n_share = spread(&mut all.iter().map(|row| row.1));
        let near_share = spread(&mut all.iter().filter_map(|row| row.2));
        let most_s = scratch.largest_session().max(f32::MIN_POSITIVE);
        let mut found: Vec<Found> = Vec::with_capacity(all.len());
        for (row, n, near) in all {
            let near = DENSE_WEIGHT * near.map_or(0.0, &near_share);
            let matched = (1.0 - DENSE_WEIGHT) * n_share(n) + near;
            let score = matched + self.session_share(scratch, row, most_s);
            found.push(Found {
                score,
                matched,
                row,
            });
        }
        keep_best(&mut found, limit);
        found.sort_unstable_by(Found::order);
        found
    }
}

/// Drops all but the `limit` best; returns the least of their scores, below every score while there are fewer.
fn keep_best(found: &mut Vec<Found>, limit: usize) -> f32 {
    if found.len() < limit {
        return f32::MIN;
    }
    if found.len() > limit {
        found.select_nth_unstable_by(limit - 1, Found::order);
        found.truncate(limit);
    }
    found
        .iter()
        .fold(f32::MAX, |least, found| least.min(found.score))
}
