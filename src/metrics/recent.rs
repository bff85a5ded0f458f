//! The last exchanges of a core, for whoever looks for one of them. No bodies, no credentials: what a `Record` holds.

use std::sync::Arc;
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
    /// The oldest, once there is no room for more.
    oldest: usize,
}

impl Ring {
    pub(super) fn push(&mut self, mut record: Record, at_ms: i64) {
        let total = record.total();
        let names = Names::take(&mut record);
        // Spans have been made of it.
        record.trace = None;
        if self.kept.len() < KEPT_MAX {
            self.kept.push(Recent {
                at_ms,
                total,
                worker: 0,
                record,
            });
            self.names.push(names);
            return;
        }
        // Field by field: the record is large, and is copied once so.
        let place = &mut self.kept[self.oldest];
        (place.at_ms, place.total) = (at_ms, total);
        // What it would have to free was taken out of it before; to look would be to wait for memory.
        std::mem::forget(std::mem::replace(&mut place.record, record));
        self.names[self.oldest] = names;
        self.oldest = (self.oldest + 1) % KEPT_MAX;
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
