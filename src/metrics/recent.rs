//! The last exchanges of a core, for whoever looks for one of them. No bodies, no credentials: what a `Record` holds.

use std::sync::Arc;
use std::time::Duration;

use crate::record::Record;

/// Enough to find a request that was made a moment ago; about 100 KiB a core.
const KEPT_MAX: usize = 256;
/// Where so many come in less than this, they would be those of a few milliseconds. Then of those that go well one in so
/// many stays, the newest besides, and those that failed stay for longer.
const CROWDED_MS: i64 = 1_000;
const REPLACED_MAX: usize = 15;

/// An exchange that is over.
#[derive(Clone, Debug)]
pub struct Recent {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long it took.
    pub total: Duration,
    /// Which core served it.
    pub worker: usize,
    /// What is known of it.
    pub record: Record,
}

/// What an exchange is called by, shared with whoever named it so.
#[derive(Clone)]
struct Names {
    key_id: Option<Arc<str>>,
    provider: Option<Arc<str>>,
    model: Option<Arc<str>>,
}

impl Names {
    fn take(record: &mut Record) -> Self {
        Self {
            key_id: record.key_id.take(),
            provider: record.provider.take(),
            model: record.model.take(),
        }
    }
}

/// The names stand apart: to let go of the oldest ones they must be read, and what is large has by then left the
/// processor's caches. All else is only written over.
#[derive(Default)]
pub(super) struct Ring {
    kept: Vec<Recent>,
    names: Vec<Names>,
    /// The oldest, once there is no room for more, and when it ended.
    oldest: usize,
    oldest_ms: i64,
    /// Whether the newest went well, and how many it has taken the place of.
    newest_well: bool,
    replaced: usize,
}

impl Ring {
    pub(super) fn push(&mut self, mut record: Record, at_ms: i64) {
        let total = record.total();
        let well = record.side().is_none();
        let names = Names::take(&mut record);
        // Spans have been made of it.
        record.trace = None;
        let newest_well = std::mem::replace(&mut self.newest_well, well);
        if self.kept.len() < KEPT_MAX {
            self.kept.push(Recent {
                at_ms,
                total,
                worker: 0,
                record,
            });
            self.names.push(names);
            self.oldest_ms = self.kept[0].at_ms;
            return;
        }
        let crowded = at_ms.saturating_sub(self.oldest_ms) < CROWDED_MS;
        let at = if crowded && well && newest_well && self.replaced < REPLACED_MAX {
            self.replaced += 1;
            self.oldest.checked_sub(1).unwrap_or(KEPT_MAX - 1)
        } else {
            self.replaced = 0;
            let at = self.oldest;
            self.oldest = (at + 1) % KEPT_MAX;
            self.oldest_ms = self.kept[self.oldest].at_ms;
            at
        };
        // Field by field: the record is large, and is copied once so.
        let place = &mut self.kept[at];
        (place.at_ms, place.total) = (at_ms, total);
        // What it would have to free was taken out of it before; to look would be to wait for memory.
        std::mem::forget(std::mem::replace(&mut place.record, record));
        self.names[at] = names;
    }

    /// Copies all of them to `out`, newest first, as those of this core.
    pub(super) fn copy(&self, worker: usize, out: &mut Vec<Recent>) {
        let all: Vec<_> = self.kept.iter().zip(&self.names).collect();
        let (newer, older) = all.split_at(self.oldest);
        for (recent, names) in newer.iter().rev().chain(older.iter().rev()) {
            let mut recent = (*recent).clone();
            recent.worker = worker;
            let Names {
                key_id,
                provider,
                model,
            } = (*names).clone();
            (
                recent.record.key_id,
                recent.record.provider,
                recent.record.model,
            ) = (key_id, provider, model);
            out.push(recent);
        }
    }
}
