//! What changes in the log, and how it is written: sealed on the way, all of it in one transaction.

use std::sync::Arc;

use redb::{ReadableTable as _, WriteTransaction};

use super::log::{
    ABOUT, Key, LogError, REMOVED, ROWS, SPOOLED, VAULTS, VECTORS, day_of, key, seq_of, vault_of,
};
use super::seal::{NONCE_BYTES, Place, Sealer, Tag, tag};

/// One change.
pub(super) enum Op {
    /// A new row, or one in the place of an old one that says the same.
    Put {
        sealer: Arc<Sealer>,
        seq: u64,
        day: u32,
        record: Vec<u8>,
        new: bool,
    },
    /// A row's vector.
    Vector {
        sealer: Arc<Sealer>,
        seq: u64,
        record: Vec<u8>,
    },
    /// These rows go; with `before`, if they are still of a day before it: what was said again meanwhile stays.
    Remove {
        tag: Tag,
        seqs: Vec<u64>,
        before: Option<u32>,
    },
    /// All of a vault's rows go.
    Clear { tag: Tag },
    /// So does the vault itself.
    Forget { tag: Tag },
    /// What another process left.
    Spool { id: String, sealed: Vec<u8> },
    /// It is in the log by now.
    Unspool { tag: Tag, numbers: Vec<u64> },
}

/// Applies changes in their order; with `until`, only those of rows up to that key.
pub(super) fn apply(
    transaction: &WriteTransaction,
    ops: &[Op],
    until: Option<&Key>,
) -> Result<(), LogError> {
    let mut rows = transaction.open_table(ROWS)?;
    let mut vaults = transaction.open_table(VAULTS)?;
    let mut spooled = transaction.open_table(SPOOLED)?;
    let mut vectors = transaction.open_table(VECTORS)?;
    let mut removed = 0;
    let within = |key: &Key| until.is_none_or(|until| key <= until);
    let mut nonces = Nonces::for_rows(ops)?;
    let mut value = Vec::new();
    for op in ops {
        match op {
            Op::Put {
                sealer,
                seq,
                day,
                record,
                ..
            } => {
                let key = key(&sealer.tag, *seq);
                if !within(&key) {
                    continue;
                }
                let place = Place::Log {
                    seq: *seq,
                    day: *day,
                };
                let Some(sealed) = sealer.seal(place, nonces.next(), record) else {
                    continue;
                };
                value.clear();
                value.extend_from_slice(&day.to_le_bytes());
                value.extend_from_slice(&sealed);
                rows.insert(&key, value.as_slice())?;
                note_vault(&mut vaults, &sealer.tag, seq + 1, &sealer.id)?;
            }
            Op::Vector {
                sealer,
                seq,
                record,
            } => {
                let key = key(&sealer.tag, *seq);
                if within(&key)
                    && let Some(sealed) =
                        sealer.seal(Place::Vector { seq: *seq }, nonces.next(), record)
                {
                    vectors.insert(&key, sealed.as_slice())?;
                }
            }
            Op::Remove { tag, seqs, before } => {
                for seq in seqs {
                    let key = key(tag, *seq);
                    let day = rows.get(&key)?.and_then(|row| day_of(row.value()));
                    let stays = before.is_some_and(|before| day.is_some_and(|day| day >= before));
                    if stays || !within(&key) {
                        continue;
                    }
                    for table in [&mut rows, &mut vectors] {
                        if let Some(row) = table.remove(&key)? {
                            removed += row.value().len() as u64;
                        }
                    }
                }
            }
            Op::Clear { tag } | Op::Forget { tag } => {
                let (first, last) = (key(tag, 0), key(tag, u64::MAX));
                for table in [&mut rows, &mut spooled, &mut vectors] {
                    table.retain_in::<&Key, _>(&first..=&last, |_, value| {
                        removed += value.len() as u64;
                        false
                    })?;
                }
                if matches!(op, Op::Forget { .. }) {
                    vaults.remove(tag)?;
                }
            }
            Op::Spool { id, sealed } => {
                let tag = tag(id);
                let last = spooled
                    .range::<&Key>(&key(&tag, 0)..=&key(&tag, u64::MAX))?
                    .next_back()
                    .transpose()?
                    .map(|(key, _)| seq_of(key.value()));
                let number = last.map_or(0, |last| last.saturating_add(1));
                spooled.insert(&key(&tag, number), sealed.as_slice())?;
                note_vault(&mut vaults, &tag, 0, id)?;
            }
            Op::Unspool { tag, numbers } => {
                for number in numbers {
                    spooled.remove(&key(tag, *number))?;
                }
            }
        }
    }
    if removed > 0 {
        let mut about = transaction.open_table(ABOUT)?;
        let before = about.get(REMOVED)?.map_or(0, |bytes| bytes.value());
        about.insert(REMOVED, before.saturating_add(removed))?;
    }
    Ok(())
}

fn note_vault(
    vaults: &mut redb::Table<'_, &Tag, &[u8]>,
    tag: &Tag,
    next_seq: u64,
    id: &str,
) -> Result<(), LogError> {
    let known = vaults.get(tag)?.map(|vault| vault_of(vault.value()).0);
    if known.is_none_or(|known| known < next_seq) {
        let value = [&next_seq.to_le_bytes(), id.as_bytes()].concat();
        vaults.insert(tag, value.as_slice())?;
    }
    Ok(())
}

/// Random nonces, fetched from the system once for a whole transaction.
struct Nonces(std::vec::IntoIter<[u8; NONCE_BYTES]>);

impl Nonces {
    fn for_rows(ops: &[Op]) -> Result<Self, LogError> {
        let sealed = |op: &&Op| matches!(op, Op::Put { .. } | Op::Vector { .. });
        let rows = ops.iter().filter(sealed).count();
        let mut nonces = vec![[0; NONCE_BYTES]; rows];
        getrandom::fill(nonces.as_flattened_mut())
            .map_err(|error| LogError::new(format!("no randomness: {error}")))?;
        Ok(Self(nonces.into_iter()))
    }

    fn next(&mut self) -> [u8; NONCE_BYTES] {
        // One was fetched for each row.
        self.0.next().unwrap_or_default()
    }
}
