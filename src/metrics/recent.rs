//! The last exchanges of a core, for whoever looks for one of them. No bodies, no credentials: what a `Record` holds.

use std::time::Duration;

use crate::record::Record;

/// Enough to find a request that was made a moment ago; about 100 KiB a core.
const KEPT_MAX: usize = 256;

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

#[derive(Default)]
pub(super) struct Ring {
    kept: Vec<Recent>,
    /// The oldest, once there is no room for more.
    oldest: usize,
}

impl Ring {
    pub(super) fn push(&mut self, record: Record, at_ms: i64) {
        let total = record.total();
        if self.kept.len() < KEPT_MAX {
            self.kept.push(Recent {
                at_ms,
                total,
                worker: 0,
                record,
            });
            return;
        }
        // Field by field: the record is large, and is copied once so.
        let place = &mut self.kept[self.oldest];
        (place.at_ms, place.total) = (at_ms, total);
        place.record = record;
        self.oldest = (self.oldest + 1) % KEPT_MAX;
    }

    /// Copies all of them to `out`, newest first, as those of this core.
    pub(super) fn copy(&self, worker: usize, out: &mut Vec<Recent>) {
        let (newer, older) = self.kept.split_at(self.oldest);
        let recent = newer.iter().rev().chain(older.iter().rev()).cloned();
        out.extend(recent.map(|recent| Recent { worker, ..recent }));
    }
}
