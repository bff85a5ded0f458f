//! Copies past pages that cannot be read, vault by vault, so that one of them takes no more with it than what it held.
//!
//! A search of the file reads the pages on its way alone. Where a span of a vault's numbers cannot be read it is tried
//! in halves, and these in halves, until what is left out are single numbers. Where such a page stands in the way of
//! more than can be tried, what is left is tried once, as a whole.

use std::ops::RangeInclusive;

use redb::{Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _};

use super::{PIECE_BYTES, PIECE_ROWS};
use crate::memory::log::{self, Key, LogError, VAULTS, key, seq_of, vault_of};
use crate::memory::seal::Tag;

/// In one vault; each takes some microseconds, and the writer waits meanwhile.
const FAILURES_MAX: usize = 100_000;

/// A row as it lies in the file.
pub(super) type Raw = (Key, Vec<u8>);

/// A vault of which some could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::memory) struct Lost {
    /// Its id.
    pub(in crate::memory) vault: String,
    /// So many numbers; where rows had been removed, less was lost.
    pub(in crate::memory) rows: u64,
}

/// A vault, and the spans of its numbers that are still to be copied, the first one last.
struct Todo {
    tag: Tag,
    id: String,
    spans: Vec<RangeInclusive<u64>>,
}

/// What is still to be copied.
pub(super) struct Past {
    /// The next one last.
    vaults: Vec<Todo>,
    failures: usize,
    pub(super) lost: Vec<Lost>,
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
            // What is added meanwhile stands in the last one.
            let mut spans = vec![first.max(next_seq)..=u64::MAX];
            spans.extend((first < next_seq).then(|| first..=next_seq - 1));
            vaults.push(Todo { tag, id, spans });
        }
        vaults.reverse();
        Ok(Self {
            vaults,
            failures: 0,
            lost: Vec::new(),
        })
    }

    /// Reads some rows, or finds that they cannot be read.
    pub(super) fn step(&mut self, table: &ReadOnlyTable<&Key, &[u8]>) -> Result<Step, LogError> {
        let Some(todo) = self.vaults.last_mut() else {
            return Ok(Step::default());
        };
        let tag = todo.tag;
        let Some(span) = todo.spans.pop() else {
            self.vaults.pop();
            self.failures = 0;
            let cursor = Some(key(&tag, u64::MAX));
            return Ok(Step {
                cursor,
                ..Step::default()
            });
        };
        let mut rows = Vec::new();
        let read = log::guarded(|| read(table, &tag, &span, &mut rows));
        let next = rows
            .last()
            .map_or(*span.start(), |(key, _)| seq_of(key).saturating_add(1));
        let end = *span.end();
        let done = match read {
            Ok(is_all) if is_all || next > end => end,
            Ok(_) => {
                todo.spans.push(next..=end);
                next - 1
            }
            Err(error) if !error.damaged => return Err(error),
            Err(_) => {
                self.failures += 1;
                // No vault has as many: nothing was ever there.
                let is_open = end == u64::MAX;
                if next >= end || is_open || self.failures > FAILURES_MAX {
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
        Ok(Step {
            rows,
            cursor: Some(key(&tag, done)),
        })
    }
}

fn lose(lost: &mut Vec<Lost>, id: &str, rows: u64) {
    match lost.last_mut().filter(|lost| lost.vault == id) {
        Some(lost) => lost.rows += rows,
        None => lost.push(Lost {
            vault: id.into(),
            rows,
        }),
    }
}

/// Whether that is all of the span.
fn read(
    table: &ReadOnlyTable<&Key, &[u8]>,
    tag: &Tag,
    span: &RangeInclusive<u64>,
    rows: &mut Vec<Raw>,
) -> Result<bool, LogError> {
    let mut bytes = 0;
    for row in table.range::<&Key>(&key(tag, *span.start())..=&key(tag, *span.end()))? {
        let (key, value) = row?;
        bytes += value.value().len();
        rows.push((*key.value(), value.value().to_vec()));
        if rows.len() >= PIECE_ROWS || bytes >= PIECE_BYTES {
            return Ok(false);
        }
    }
    Ok(true)
}
