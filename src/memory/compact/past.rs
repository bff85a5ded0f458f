//! Copies past pages that cannot be read, vault by vault, so that one of them takes no more with it than what it held.
//!
//! A search of the file reads the pages on its way alone. Where a span of a vault's numbers cannot be read it is tried
//! in halves, and these in halves, until what is left out are single numbers. Where such a page stands in the way of
//! more than can be tried, what is left is tried once, as a whole. What is not in its place is left out too.

use std::ops::RangeInclusive;

use redb::ReadTransaction;

use super::{PIECE_BYTES, PIECE_ROWS};
use crate::memory::log::{self, Key, LogError, VAULTS, Walk, key, seq_of, tag_of, vault_of};
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

/// What is still to be copied.
pub(super) struct Past {
    /// All up to here is copied or lost.
    done: Option<Key>,
    /// The last row that was copied; what sorts before all, if none was.
    copied: Key,
    todo: Option<Todo>,
    /// By their numbers: where rows had been removed, less was lost.
    lost: Vec<Lost>,
}

/// What came of one step.
#[derive(Default)]
pub(super) struct Step {
    pub(super) rows: Vec<Raw>,
    /// All up to here is copied or lost; none if there is no more.
    pub(super) cursor: Option<Key>,
}

impl Past {
    /// Goes on behind the row that was copied last.
    pub(super) fn new(copied: Option<Key>) -> Self {
        Self {
            done: copied,
            copied: copied.unwrap_or_default(),
            todo: None,
            lost: Vec::new(),
        }
    }

    /// Reads some rows, or finds that they cannot be read.
    pub(super) fn step(&mut self, reading: &ReadTransaction) -> Result<Step, LogError> {
        let todo = match &mut self.todo {
            Some(todo) => todo,
            None => match Todo::next(reading, self.done.as_ref())? {
                Some(next) => self.todo.insert(next),
                None => return Ok(Step::default()),
            },
        };
        let tag = todo.tag;
        let Some(span) = todo.spans.pop() else {
            self.todo = None;
            self.done = Some(key(&tag, u64::MAX));
            return Ok(Step {
                cursor: self.done,
                ..Step::default()
            });
        };
        let mut rows = Vec::new();
        // Where a page cannot be read, what lies behind it is not reached from there.
        let behind = Some(&self.copied).filter(|_| todo.failures == 0);
        let read = log::guarded(|| read(reading, &tag, &span, behind, &mut rows));
        let next = rows
            .last()
            .map_or(*span.start(), |(key, _)| seq_of(key).saturating_add(1));
        let end = *span.end();
        if let Ok(walk) = &read {
            lose(&mut self.lost, &todo.id, walk.misplaced);
        }
        let done = match read {
            Ok(walk) if walk.is_all || next > end => end,
            Ok(_) => {
                todo.spans.push(next..=end);
                next - 1
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
                    end
                } else {
                    let middle = next + (end - next) / 2;
                    todo.spans.extend([middle + 1..=end, next..=middle]);
                    next.saturating_sub(1)
                }
            }
        };
        self.done = Some(key(&tag, done));
        self.copied = rows.last().map_or(self.copied, |(key, _)| *key);
        Ok(Step {
            rows,
            cursor: self.done,
        })
    }

    /// What was lost, where so many rows are missing.
    pub(super) fn into_lost(mut self, mut missing: u64) -> Vec<Lost> {
        for lost in &mut self.lost {
            lost.rows = lost.rows.min(missing);
            missing -= lost.rows;
        }
        let vault = None;
        self.lost.push(Lost {
            vault,
            rows: missing,
        });
        self.lost.retain(|lost| lost.rows > 0);
        self.lost
    }
}

impl Todo {
    /// The first vault that is not done. Asked anew for each: there may be another by then.
    fn next(reading: &ReadTransaction, done: Option<&Key>) -> Result<Option<Self>, LogError> {
        let vaults = reading.open_table(VAULTS)?;
        let from = done.map(tag_of).unwrap_or_default();
        for vault in vaults.range::<&Tag>(&from..)? {
            let (tag, value) = vault?;
            let (tag, (next_seq, id)) = (*tag.value(), vault_of(value.value()));
            let first = match done.filter(|done| tag_of(done) == tag).map(seq_of) {
                Some(u64::MAX) => continue,
                Some(seq) => seq + 1,
                None => 0,
            };
            // What is added meanwhile stands in the last one.
            let mut spans = vec![first.max(next_seq)..=u64::MAX];
            spans.extend((first < next_seq).then(|| first..=next_seq - 1));
            return Ok(Some(Self {
                tag,
                id,
                spans,
                failures: 0,
            }));
        }
        Ok(None)
    }
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
