//! Reading a vault's rows where some of their keys are damaged.
//!
//! redb looks at no checksum as it reads, and takes a damaged key for any other: for the end of a range too, and on the
//! page where it stands a search goes astray. So a walk goes by the rows' places, and on past what belongs to no vault
//! for as long as that can be one page's.

use std::ops::{Bound, RangeInclusive};

use redb::ReadTransaction;

use super::{Key, LogError, ROWS, VAULTS, key, tag_of};
use crate::memory::seal::Tag;

/// What came of a walk.
pub(in crate::memory) struct Walk {
    /// Rows whose keys are not in their places: these, or those around them, are damaged.
    pub(in crate::memory) misplaced: u64,
    /// It went to the end.
    pub(in crate::memory) is_all: bool,
}

/// More rows than there are on a page.
const STRANGERS_MAX: u64 = 256;

/// Hands on a vault's rows in their order, for as long as `each` wants more. With `behind`, a row before these that is
/// on a good page, it begins there.
pub(in crate::memory) fn walk(
    reading: &ReadTransaction,
    tag: &Tag,
    span: RangeInclusive<u64>,
    behind: Option<&Key>,
    mut each: impl FnMut(&Key, &[u8]) -> bool,
) -> Result<Walk, LogError> {
    let (first, last) = (key(tag, *span.start()), key(tag, *span.end()));
    let vaults = reading.open_table(VAULTS)?;
    let mut walk = Walk {
        misplaced: 0,
        is_all: true,
    };
    let mut before: Option<Key> = None;
    // Since the last row in its place; and those of them that are no vault's.
    let (mut strangers, mut nobodys) = (0, 0);
    let from = behind.map_or(Bound::Included(&first), Bound::Excluded);
    for row in reading
        .open_table(ROWS)?
        .range::<&Key>((from, Bound::Unbounded))?
    {
        let (key, value) = row?;
        let key = key.value();
        let of = tag_of(key);
        if (first..=last).contains(key) && before.is_none_or(|before| before < *key) {
            walk.misplaced += std::mem::take(&mut strangers);
            nobodys = 0;
            before = Some(*key);
            if !each(key, value.value()) {
                walk.is_all = false;
                break;
            }
        } else if of != *tag && vaults.get(&of)?.is_some() {
            if of > *tag {
                break;
            }
        } else {
            strangers += 1;
            nobodys += u64::from(of != *tag);
            if strangers > STRANGERS_MAX {
                break;
            }
        }
    }
    walk.misplaced += nobodys;
    Ok(walk)
}

/// Whether a walk from `first` misses nothing: what lies before it is a vault's, and sorted before it.
pub(super) fn begins_at(reading: &ReadTransaction, first: &Key) -> Result<bool, LogError> {
    let rows = reading.open_table(ROWS)?;
    let Some(before) = rows.range::<&Key>(..first)?.next_back() else {
        return Ok(true);
    };
    let before = *before?.0.value();
    let is_known = reading.open_table(VAULTS)?.get(&tag_of(&before))?.is_some();
    Ok(is_known && before < *first)
}
