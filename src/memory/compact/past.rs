//! Copies past pages that cannot be read, vault by vault, so that one of them takes no more with it than what it held.
//!
//! A search of the file reads the pages on its way alone. Where a span of a vault's numbers cannot be read it is tried
//! in halves, and these in halves, until what is left out are single numbers. Where such a page stands in the way of
//! more than can be tried, what is left is tried once, as a whole. What is not in its place is left out too.

use std::ops::RangeInclusive;

use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _};

use super::{PIECE_BYTES, PIECE_ROWS};
use crate::memory::log::{self, Key, LogError, VAULTS, Walk, key, seq_of, vault_of};
use crate::memory::seal::Tag;

/// In one vault; each takes some microseconds, and the writer waits meanwhile.
const FAILURES_MAX: usize = 100_000;

/// A row as it lies in the file.
pub(super) type Raw = (Key, Vec<u8>);

/// Some that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::memory) struct Lost {
    /// The id of their vault, as far as it is known.
    pub(in crate::memory) vault: Option<String>,
    pub(in crate::memory) rows: u64,
}

/// A vault, and the spans of its numbers that are still to be copied, the first one last.
struct Todo {
    tag: Tag,
    id: String,
    spans: Vec<RangeInclusive<u64>>,
    failures: usize,
}

/// What is still to be copied: of the vaults that there are when it begins, since all that changes from then on is
/// repeated in the copy.
pub(super) struct Past {
    /// The next one last.
    vaults: Vec<Todo>,
    /// The last row that was copied; what sorts before all, if none was.
    copied: Key,
    /// By their numbers: where rows had been removed, less was lost.
    lost: Vec<Lost>,
}

impl Past {
    /// Goes on behind the row that was copied last.
    pub(super) fn new(database: &Database, copied: Option<Key>) -> Result<Self, LogError> {
        let reading = database.begin_read()?;
        let mut vaults = Vec::new();
        for vault in reading.open_table(VAULTS)?.iter()? {
            let (tag, value) = vault?;
            let (tag, (next_seq, id)) = (*tag.value(), vault_of(value.value()));
            let first = match copied {
                Some(copied) if copied >= key(&tag, u64::MAX) => continue,
                Some(copied) if copied >= key(&tag, 0) => seq_of(&copied) + 1,
                _ => 0,
            };
            let mut spans = vec![first.max(next_seq)..=u64::MAX];
            spans.extend((first < next_seq).then(|| first..=next_seq - 1));
            vaults.push(Todo {
                tag,
                id,
                spans,
                failures: 0,
            });
        }
        vaults.reverse();
        Ok(Self {
            vaults,
            copied: copied.unwrap_or_default(),
            lost: Vec::new(),
        })
    }

    /// Reads some rows, or finds that they cannot be read; none once there are no more.
    pub(super) fn step(&mut self, reading: &ReadTransaction) -> Result<Option<Vec<Raw>>, LogError> {
        let mut rows = Vec::new();
        let Some(todo) = self.vaults.last_mut() else {
            return Ok(None);
        };
        let Some(span) = todo.spans.pop() else {
            self.vaults.pop();
            return Ok(Some(rows));
        };
        // Where a page cannot be read, what lies behind it is not reached from there.
        let behind = Some(&self.copied).filter(|_| todo.failures == 0);
        let read = log::guarded(|| read(reading, &todo.tag, &span, behind, &mut rows));
        let next = rows
            .last()
            .map_or(*span.start(), |(key, _)| seq_of(key).saturating_add(1));
        let end = *span.end();
        match read {
            Ok(walk) => {
                lose(&mut self.lost, &todo.id, walk.misplaced);
                if !walk.is_all && next <= end {
                    todo.spans.push(next..=end);
                }
            }
            Err(error) if !error.damaged => return Err(error),
            Err(_) => {
                todo.failures += 1;
                // No vault has as many: nothing was ever there.
                let is_open = end == u64::MAX;
                if next >= end || is_open || todo.failures > FAILURES_MAX {
                    if !is_open && next <= end {
                        lose(&mut self.lost, &todo.id, end - next + 1);
                    }
                } else {
                    let middle = next + (end - next) / 2;
                    todo.spans.extend([middle + 1..=end, next..=middle]);
                }
            }
        }
        self.copied = rows.last().map_or(self.copied, |(key, _)| *key);
        Ok(Some(rows))
    }
}

/// What was lost, where so many rows are missing.
pub(super) fn lost(past: Option<Past>, mut missing: u64) -> Vec<Lost> {
    let mut lost = past.map_or_else(Vec::new, |past| past.lost);
    for lost in &mut lost {
        lost.rows = lost.rows.min(missing);
        missing -= lost.rows;
    }
    lost.push(Lost {
        vault: None,
        rows: missing,
    });
    lost.retain(|lost| lost.rows > 0);
    lost
}

fn lose(lost: &mut Vec<Lost>, id: &str, rows: u64) {
    match lost.last_mut() {
        Some(lost) if lost.vault.as_deref() == Some(id) => lost.rows += rows,
        _ => lost.push(Lost {
            vault: Some(id.into()),
            rows,
        }),
    }
}

fn read(
    reading: &ReadTransaction,
    tag: &Tag,
    span: &RangeInclusive<u64>,
    behind: Option<&Key>,
    rows: &mut Vec<Raw>,
) -> Result<Walk, LogError> {
    let mut bytes = 0;
    log::walk(reading, tag, span.clone(), behind, |key, value| {
        bytes += value.len();
        rows.push((*key, value.to_vec()));
        rows.len() < PIECE_ROWS && bytes < PIECE_BYTES
    })
}
